//! What host and plugin exchange before the first byte of gRPC.
//!
//! The host uses environment variables ([`Environment`]). The plugin answers with one line on stdout
//! ([`HandshakeLine`]). Called by `serve`; opens no socket and writes nothing.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;

/// The constants that a plugin and its hosts share.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// Shows that a host started the process, not a person.
    pub cookie: Cookie,
    /// The version of the application protocol that the plugin speaks.
    pub app_protocol: u32,
    /// What to do if the host sends no certificate.
    pub plaintext: Plaintext,
}

/// An environment variable and the value that a host gives it.
///
/// go-plugin calls it a user experience measure. It is not a secret: it gives people who run a plugin
/// by hand a clear message.
#[derive(Debug, Clone, Copy)]
pub struct Cookie {
    /// Name of the variable.
    pub key: &'static str,
    /// Its value, compared exactly.
    pub value: &'static str,
}

/// Whether a host that sends no certificate is served without TLS.
///
/// Hosts with AutoMTLS always send a certificate. Only a host that asks for a plugin's metadata may
/// omit it, because no secrets are sent then. Allow plaintext only if the caller can recognise such a
/// start, for example by a variable of the application protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plaintext {
    /// Refuse to start. The right choice in all other cases.
    Refused,
    /// Serve without TLS, on a socket that only its owner can open.
    Allowed,
}

/// The variables that the host set for this process.
///
/// Only the variables that go-plugin defines are read and kept. The plugin inherits the host's own
/// environment, which may contain secrets that it must not touch.
#[derive(Debug, Clone)]
pub struct Environment {
    pub(super) started_by_host: bool,
    pub(super) offered_protocols: Vec<u32>,
    pub(super) client_certificate: Option<String>,
    pub(super) socket_dir: PathBuf,
    pub(super) socket_group: Option<String>,
    pub(super) multiplexing_asked: bool,
}

impl Environment {
    /// Reads the environment of the running process. Nothing else on this floor does.
    pub fn of_process(cookie: &Cookie) -> Self {
        Self::from_lookup(cookie, |name| std::env::var_os(name))
    }

    /// Reads an environment through `lookup`, which returns the value of a variable if it is set.
    ///
    /// As in Go, an empty variable counts as one that is not set.
    pub fn from_lookup(cookie: &Cookie, lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let value = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let text = |name: &str| value(name).map(|value| value.to_string_lossy().into_owned());
        Self {
            started_by_host: text(cookie.key).is_some_and(|found| found == cookie.value),
            offered_protocols: text("PLUGIN_PROTOCOL_VERSIONS")
                .map(|list| protocols(&list))
                .unwrap_or_default(),
            client_certificate: text("PLUGIN_CLIENT_CERT"),
            socket_dir: value("PLUGIN_UNIX_SOCKET_DIR")
                .or_else(|| value("TMPDIR"))
                .map_or_else(|| PathBuf::from(FALLBACK_SOCKET_DIR), PathBuf::from),
            socket_group: text("PLUGIN_UNIX_SOCKET_GROUP"),
            multiplexing_asked: value("PLUGIN_MULTIPLEX_GRPC").is_some(),
        }
    }
}

/// The line with which a plugin tells its host how to connect.
#[derive(Debug, Clone, Copy)]
pub(super) struct HandshakeLine<'a> {
    /// Version of the application protocol.
    pub(super) app_protocol: u32,
    /// Path of the unix socket that the plugin listens on.
    pub(super) socket: &'a str,
    /// The plugin's certificate as DER; `None` without TLS.
    pub(super) certificate: Option<&'a [u8]>,
    /// Whether the host asked for a multiplexed broker.
    pub(super) multiplexing_asked: bool,
}

impl fmt::Display for HandshakeLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            app_protocol,
            socket,
            ..
        } = self;
        // Go decodes the field with RawStdEncoding, which rejects padding.
        let certificate = BASE64_STANDARD_NO_PAD.encode(self.certificate.unwrap_or_default());
        write!(
            f,
            "{CORE_PROTOCOL}|{app_protocol}|unix|{socket}|grpc|{certificate}"
        )?;
        // Hosts before go-plugin 1.6 would read a seventh field as part of the certificate, so it is
        // only sent to hosts that asked. The answer is no: a host that requires multiplexing reports
        // that clearly.
        if self.multiplexing_asked {
            f.write_str("|false")?;
        }
        Ok(())
    }
}

/// Reads a comma-separated list of versions. Ignores anything that is not a number, as Go does.
fn protocols(list: &str) -> Vec<u32> {
    list.split(',')
        .filter_map(|version| version.trim().parse().ok())
        .collect()
}

/// Version of go-plugin's own protocol.
const CORE_PROTOCOL: u32 = 1;

/// The directory for temporary files that Go uses if `TMPDIR` is not set.
const FALLBACK_SOCKET_DIR: &str = "/tmp";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const COOKIE: Cookie = Cookie {
        key: "A_COOKIE",
        value: "crumbs",
    };

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::from_lookup(&COOKIE, |name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into())
        })
    }

    #[test]
    fn only_the_exact_cookie_means_that_a_host_started_us() {
        assert!(environment(&[("A_COOKIE", "crumbs")]).started_by_host);
        assert!(!environment(&[("A_COOKIE", "crumbs ")]).started_by_host);
        assert!(!environment(&[("A_COOKIE", "")]).started_by_host);
        assert!(!environment(&[]).started_by_host);
    }

    #[test]
    fn offered_protocols_are_read_in_any_order_and_around_rubbish() {
        let offered = |list| environment(&[("PLUGIN_PROTOCOL_VERSIONS", list)]).offered_protocols;
        assert_eq!(offered("5"), [5]);
        assert_eq!(offered("4,3"), [4, 3]);
        assert_eq!(offered("4,x, 5,,-1"), [4, 5]);
        assert!(environment(&[]).offered_protocols.is_empty());
    }

    #[test]
    fn sockets_go_where_the_host_says_then_to_tmpdir_then_to_tmp() {
        let both = [("PLUGIN_UNIX_SOCKET_DIR", "/run/a"), ("TMPDIR", "/run/b")];
        assert_eq!(environment(&both).socket_dir, Path::new("/run/a"));
        assert_eq!(
            environment(&[("TMPDIR", "/run/b")]).socket_dir,
            Path::new("/run/b")
        );
        assert_eq!(environment(&[("TMPDIR", "")]).socket_dir, Path::new("/tmp"));
    }

    #[test]
    fn an_empty_certificate_is_no_certificate() {
        assert_eq!(
            environment(&[("PLUGIN_CLIENT_CERT", "")]).client_certificate,
            None
        );
    }

    #[test]
    fn the_line_has_six_fields_and_an_unpadded_certificate() {
        let line = HandshakeLine {
            app_protocol: 5,
            socket: "/tmp/plugin1",
            certificate: Some(&[0xfb, 0xff, 0xfe, 0x01]),
            multiplexing_asked: false,
        };
        assert_eq!(line.to_string(), "1|5|unix|/tmp/plugin1|grpc|+//+AQ");
    }

    #[test]
    fn the_line_ends_in_an_empty_field_without_tls() {
        let line = HandshakeLine {
            app_protocol: 5,
            socket: "/tmp/plugin1",
            certificate: None,
            multiplexing_asked: false,
        };
        assert_eq!(line.to_string(), "1|5|unix|/tmp/plugin1|grpc|");
    }

    #[test]
    fn a_host_that_asks_for_multiplexing_is_told_no_in_a_seventh_field() {
        let asked = environment(&[("PLUGIN_MULTIPLEX_GRPC", "true")]).multiplexing_asked;
        let line = HandshakeLine {
            app_protocol: 5,
            socket: "/tmp/plugin1",
            certificate: Some(&[1, 2, 3]),
            multiplexing_asked: asked,
        };
        assert_eq!(line.to_string(), "1|5|unix|/tmp/plugin1|grpc|AQID|false");
    }
}
