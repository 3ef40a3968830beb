//! How to reach the API: the settings of a [`Client`](super::Client).
//!
//! The engine parses a connection's fields into these types, so every stored connection is usable.
//! Nothing here opens a connection or reads the environment.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use url::{Host, Position, Url};

use super::error::Invalid;

/// All settings of a [`Client`](super::Client). `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the API is.
    pub api_url: ApiUrl,
    /// The management key.
    pub management_key: SecretString,
    /// The time limit of one request, from connecting to the last byte of the answer.
    pub request_timeout: Duration,
    /// Trust roots in addition to the system's, for an egress proxy that intercepts TLS.
    pub ca_certificate: Option<CaBundle>,
    /// The proxy. None is used unless it is set here.
    pub proxy_url: Option<ProxyUrl>,
}

/// The base URL of the API, to which `/keys` is appended. The management key is sent to it, so it must
/// be `https`, or `http` to this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ApiUrl(String);

impl ApiUrl {
    /// Accepts `https` to any host, and `http` to 127.0.0.0/8, `::1` or `localhost`. Removes trailing
    /// slashes.
    ///
    /// # Errors
    /// [`Invalid::ApiUrl`] for anything else, and for a user name, query or fragment.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let url = Url::parse(text.trim()).map_err(|_| Invalid::ApiUrl)?;
        let safe = match url.scheme() {
            "https" => url.has_host(),
            "http" => is_loopback(&url),
            _ => false,
        };
        let bare = !has_credentials(&url) && url.query().is_none() && url.fragment().is_none();
        if safe && bare {
            Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
        } else {
            Err(Invalid::ApiUrl)
        }
    }

    /// The URL without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }
}

impl Default for ApiUrl {
    /// OpenRouter's global host.
    fn default() -> Self {
        Self("https://openrouter.ai/api/v1".to_owned())
    }
}

impl std::fmt::Display for ApiUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ApiUrl {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<ApiUrl> for String {
    fn from(url: ApiUrl) -> Self {
        url.0
    }
}

/// One or more CA certificates in PEM form, each usable as a trust root.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CaBundle {
    pem: String,
    certificates: Vec<reqwest::Certificate>,
}

impl CaBundle {
    /// Parses every certificate of a PEM text. Other content is ignored, except for a private key,
    /// which is rejected: the text is stored and shown.
    ///
    /// # Errors
    /// [`Invalid::CaCertificate`] if there is none, or one that cannot be a trust root, and
    /// [`Invalid::PrivateKey`].
    pub fn parse(pem: &str) -> Result<Self, Invalid> {
        if pem.contains("PRIVATE KEY-----") {
            return Err(Invalid::PrivateKey);
        }
        Self::read(pem)
    }

    fn read(pem: &str) -> Result<Self, Invalid> {
        let invalid = |_| Invalid::CaCertificate;
        let certificates =
            reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(invalid)?;
        if certificates.is_empty() {
            return Err(Invalid::CaCertificate);
        }
        // The PEM reader does not check the certificates; a client built from them does.
        reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only(certificates.clone())
            .build()
            .map_err(invalid)?;
        Ok(Self {
            pem: pem.to_owned(),
            certificates,
        })
    }

    /// The text that was parsed.
    #[must_use]
    pub fn as_pem(&self) -> &str {
        &self.pem
    }

    pub(super) fn certificates(&self) -> &[reqwest::Certificate] {
        &self.certificates
    }
}

impl std::fmt::Debug for CaBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CaBundle({} certificates)", self.certificates.len())
    }
}

impl PartialEq for CaBundle {
    fn eq(&self, other: &Self) -> bool {
        self.pem == other.pem
    }
}

impl Eq for CaBundle {}

impl TryFrom<String> for CaBundle {
    type Error = Invalid;

    /// Parses a stored value, even if [`parse`](Self::parse) has become stricter since.
    fn try_from(pem: String) -> Result<Self, Invalid> {
        Self::read(&pem)
    }
}

impl From<CaBundle> for String {
    fn from(bundle: CaBundle) -> Self {
        bundle.pem
    }
}

/// An HTTP proxy, possibly with credentials. `Debug` and `Display` omit the credentials; `Serialize`
/// does not, because the stored value must be complete.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct ProxyUrl {
    url: SecretString,
    shown: Url,
}

impl ProxyUrl {
    /// Accepts `http://` and `https://` with an optional `user:password@` (percent-encoded as in URLs).
    ///
    /// # Errors
    /// [`Invalid::ProxyUrl`] for other schemes, and for a path, query or fragment.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let url = Url::parse(text.trim()).map_err(|_| Invalid::ProxyUrl)?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !bare || !matches!(url.scheme(), "http" | "https") {
            return Err(Invalid::ProxyUrl);
        }
        // Not a modified copy, which would leave the credentials in memory.
        let scheme = &url[..Position::BeforeUsername];
        let shown = format!("{scheme}{}", &url[Position::BeforeHost..]);
        let shown = Url::parse(&shown).map_err(|_| Invalid::ProxyUrl)?;
        Ok(Self {
            url: SecretString::from(String::from(url)),
            shown,
        })
    }

    /// The whole URL, including the credentials.
    pub(super) fn expose(&self) -> &str {
        self.url.expose_secret()
    }

    /// The secrets in it: the header built from the credentials, and the password (or the user name if
    /// there is no password), both decoded and as written.
    pub(super) fn secrets(&self) -> Vec<SecretString> {
        let url = Url::parse(self.expose()).ok().filter(has_credentials);
        let Some(url) = url else {
            return Vec::new();
        };
        let plain = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let password = plain(url.password().unwrap_or_default());
        let header = STANDARD.encode(format!("{}:{password}", plain(url.username())));
        let written = url.password().unwrap_or(url.username());
        [header, plain(written), written.to_owned()]
            .map(SecretString::from)
            .into()
    }

    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(&self.shown)
    }
}

impl PartialEq for ProxyUrl {
    /// Includes the credentials.
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl TryFrom<String> for ProxyUrl {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl Serialize for ProxyUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl std::fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.shown.as_str().trim_end_matches('/'))
    }
}

impl std::fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProxyUrl({self})")
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn self_signed() -> String {
        let certified = rcgen::generate_simple_self_signed([String::from("localhost")]).unwrap();
        let body = STANDARD.encode(certified.cert.der());
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }

    #[test]
    fn an_api_url_is_https_or_stays_on_this_host() {
        for (text, kept) in [
            (
                "https://openrouter.ai/api/v1",
                "https://openrouter.ai/api/v1",
            ),
            (
                " https://eu.openrouter.ai/api/v1// ",
                "https://eu.openrouter.ai/api/v1",
            ),
            ("https://proxy.example:8443", "https://proxy.example:8443"),
            (
                "http://127.0.0.1:8080/api/v1/",
                "http://127.0.0.1:8080/api/v1",
            ),
            ("http://127.9.9.9", "http://127.9.9.9"),
            ("http://[::1]:80/x", "http://[::1]/x"),
            ("http://LOCALHOST:1", "http://localhost:1"),
        ] {
            assert_eq!(ApiUrl::parse(text).unwrap().as_str(), kept, "{text}");
        }
        for text in [
            "",
            "openrouter.ai",
            "http://openrouter.ai/api/v1",
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
            "http://10.0.0.1",
            "http://[::ffff:10.0.0.1]",
            "ftp://localhost",
            "https://user@openrouter.ai",
            "https://:password@openrouter.ai",
            "https://openrouter.ai/?",
            "https://openrouter.ai/?a=b",
            "https://openrouter.ai/#top",
            "https://",
        ] {
            assert_eq!(ApiUrl::parse(text), Err(Invalid::ApiUrl), "{text}");
        }
    }

    #[test]
    fn the_default_api_url_is_one_that_would_be_accepted() {
        let url = ApiUrl::default();
        assert_eq!(ApiUrl::parse(url.as_str()), Ok(url.clone()));
        let json = serde_json::to_string(&url).unwrap();
        assert_eq!(json, "\"https://openrouter.ai/api/v1\"");
        assert_eq!(serde_json::from_str::<ApiUrl>(&json).unwrap(), url);
        assert!(serde_json::from_str::<ApiUrl>("\"http://example.com\"").is_err());
    }

    #[test]
    fn a_ca_bundle_holds_at_least_one_real_certificate() {
        let pem = self_signed();
        let two = format!("# our proxy\n{pem}\n{pem}");
        assert_eq!(CaBundle::parse(&two).unwrap().certificates().len(), 2);
        assert_eq!(CaBundle::parse(&pem).unwrap().as_pem(), pem);
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in ["", "no PEM at all", garbage, &format!("{pem}{garbage}")] {
            assert_eq!(CaBundle::parse(text), Err(Invalid::CaCertificate), "{text}");
        }
    }

    #[test]
    fn a_ca_bundle_comes_without_a_private_key() {
        let pem = self_signed();
        for kind in ["", "RSA ", "EC ", "ENCRYPTED "] {
            let key = format!(
                "-----BEGIN {kind}PRIVATE KEY-----\nAAAA\n-----END {kind}PRIVATE KEY-----\n"
            );
            let both = format!("{pem}{key}");
            assert_eq!(CaBundle::parse(&both), Err(Invalid::PrivateKey), "{kind}");
            let stored = serde_json::to_string(&both).unwrap();
            assert!(serde_json::from_str::<CaBundle>(&stored).is_ok(), "{kind}");
        }
    }

    #[test]
    fn what_a_proxy_could_echo_is_known() {
        let secrets = |url| {
            let secrets = ProxyUrl::parse(url).unwrap().secrets();
            let exposed = secrets
                .iter()
                .map(|secret| secret.expose_secret().to_owned());
            exposed.collect::<Vec<_>>()
        };
        assert_eq!(
            secrets("http://vault:s3cr%40t@proxy.example:3128"),
            [&STANDARD.encode("vault:s3cr@t"), "s3cr@t", "s3cr%40t"]
        );
        assert_eq!(
            secrets("http://token@proxy.example:3128"),
            [&STANDARD.encode("token:"), "token", "token"]
        );
        assert!(secrets("http://proxy.example:3128").is_empty());
    }

    #[test]
    fn a_proxy_url_shows_no_credentials() {
        let proxy = ProxyUrl::parse("http://vault:s3cr%40t@proxy.example:3128").unwrap();
        assert_eq!(proxy.to_string(), "http://proxy.example:3128");
        assert_eq!(format!("{proxy:?}"), "ProxyUrl(http://proxy.example:3128)");
    }

    #[test]
    fn a_stored_proxy_url_keeps_its_credentials() {
        let proxy = ProxyUrl::parse("http://vault:s3cr%40t@proxy.example:3128").unwrap();
        let stored = serde_json::to_string(&proxy).unwrap();
        assert_eq!(stored, "\"http://vault:s3cr%40t@proxy.example:3128/\"");
        let restored = serde_json::from_str::<ProxyUrl>(&stored).unwrap();
        assert_eq!(restored.expose(), proxy.expose());
        assert!(serde_json::from_str::<ProxyUrl>("\"socks5://proxy\"").is_err());
    }

    #[test]
    fn a_proxy_url_is_http_or_https_and_a_host() {
        for text in [
            "https://proxy.example",
            "http://[::1]:3128/",
            "http://u@127.0.0.1:1",
        ] {
            assert!(ProxyUrl::parse(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "proxy:3128",
            "socks5://proxy:1080",
            "http://proxy/path",
            "http://p/?q",
        ] {
            let error = ProxyUrl::parse(text).map(|_| ()).unwrap_err();
            assert_eq!(error, Invalid::ProxyUrl, "{text}");
        }
    }

    #[test]
    fn settings_show_no_secret() {
        let settings = Settings {
            api_url: ApiUrl::default(),
            management_key: SecretString::from("sk-or-v1-planted"),
            request_timeout: Duration::from_secs(30),
            ca_certificate: None,
            proxy_url: Some(ProxyUrl::parse("http://user:hidden@proxy:3128").unwrap()),
        };
        let shown = format!("{settings:?}");
        assert!(shown.contains("proxy:3128"), "{shown}");
        assert!(
            !shown.contains("planted") && !shown.contains("hidden"),
            "{shown}"
        );
    }
}
