//! Admission: only the host that started the plugin is admitted.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io;
use std::path::Path;

use rustls::{AlertDescription, ClientConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic_health::pb::health_check_response::ServingStatus;

use self::support::host::{Host, tls_stream};
use self::support::identity::{Identity, anonymous_client, anonymous_client_of_tls12};
use self::support::process::{PATIENCE, PluginProcess};

mod support;

/// Connects and waits for the first byte of HTTP/2, which only admitted clients get. In TLS 1.3 a client has
/// finished its handshake before the server has checked its certificate.
async fn first_byte(socket: &Path, tls: ClientConfig) -> io::Result<u8> {
    let attempt = async { tls_stream(socket, tls).await?.read_u8().await };
    timeout(PATIENCE, attempt).await.unwrap()
}

/// The TLS settings of a client: the newest version of TLS, and the oldest that Go's hosts support.
fn both_versions(identity: &Identity, plugin: &PluginProcess) -> [ClientConfig; 2] {
    let certificate = &plugin.line.certificate;
    [
        identity.client(certificate),
        identity.client_of_tls12(certificate),
    ]
}

/// The alert with which an attempt was rejected.
fn alert(attempt: io::Result<u8>) -> AlertDescription {
    let error = attempt.unwrap_err();
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        _ => panic!("refused without an alert: {error:?}"),
    }
}

#[tokio::test]
async fn the_host_is_let_in() {
    let host = Identity::new();
    let plugin = PluginProcess::start(&host).await;
    let stream = tls_stream(&plugin.line.socket, host.client(&plugin.line.certificate))
        .await
        .unwrap();
    let (_, tls) = stream.get_ref();
    assert_eq!(tls.alpn_protocol(), Some(b"h2".as_slice()));
    assert_eq!(
        tls.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
    assert!(
        first_byte(&plugin.line.socket, host.client(&plugin.line.certificate))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn the_host_is_let_in_with_tls_1_2_too() {
    let host = Identity::new();
    let plugin = PluginProcess::start(&host).await;
    let tls = host.client_of_tls12(&plugin.line.certificate);
    assert!(first_byte(&plugin.line.socket, tls).await.is_ok());
}

#[tokio::test]
async fn another_certificate_is_refused() {
    let plugin = PluginProcess::start(&Identity::new()).await;
    let stranger = Identity::new();
    for tls in both_versions(&stranger, &plugin) {
        let attempt = first_byte(&plugin.line.socket, tls).await;
        assert_eq!(alert(attempt), AlertDescription::AccessDenied);
    }
}

#[tokio::test]
async fn the_hosts_certificate_without_its_key_is_refused_for_its_signature() {
    let host = Identity::new();
    let plugin = PluginProcess::start(&host).await;
    for tls in both_versions(&host.forged(), &plugin) {
        let attempt = first_byte(&plugin.line.socket, tls).await;
        assert_eq!(alert(attempt), AlertDescription::DecryptError);
    }
}

#[tokio::test]
async fn no_certificate_is_refused() {
    let plugin = PluginProcess::start(&Identity::new()).await;
    let certificate = &plugin.line.certificate;
    for tls in [
        anonymous_client(certificate),
        anonymous_client_of_tls12(certificate),
    ] {
        let attempt = first_byte(&plugin.line.socket, tls).await;
        assert_eq!(alert(attempt), AlertDescription::CertificateRequired);
    }
}

#[tokio::test]
async fn another_connection_of_the_host_comes_and_goes_without_harm_to_the_first() {
    let (plugin, first) = Host::start().await;
    let second = first.again(&plugin.line).await;
    for host in [&first, &second] {
        assert_eq!(host.ping().await, ServingStatus::Serving);
    }
    drop(second);
    let third = first.again(&plugin.line).await;
    assert_eq!(first.ping().await, ServingStatus::Serving);
    assert!(!first.broker_stream.is_finished() && !first.stdio_stream.is_finished());

    drop(first);
    assert_eq!(third.ping().await, ServingStatus::Serving);
}

#[tokio::test]
async fn plaintext_is_refused() {
    let plugin = PluginProcess::start(&Identity::new()).await;
    let mut stream = UnixStream::connect(&plugin.line.socket).await.unwrap();
    // The preface of HTTP/2 and an empty SETTINGS frame, which a plaintext server would answer.
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    assert!(
        answer.first().is_none_or(|first| *first == TLS_ALERT),
        "{end:?}: {answer:?}"
    );
}

/// The TLS record type of an alert.
const TLS_ALERT: u8 = 21;
