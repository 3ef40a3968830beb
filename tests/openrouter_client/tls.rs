//! Trust: a server is used only if its certificate leads to a known root.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use vault_plugin_secrets_openrouter::openrouter::{CaBundle, Client, Error, SystemNetwork};

use crate::stub::{Part, Stub, reply};
use crate::{assert_unreachable, client, new_key, settings};

const REFUSAL: &str = r#"{"error":{"code":402,"message":"Insufficient credits"}}"#;

/// A TLS server with its own self-signed certificate, and that certificate in PEM form.
pub(crate) async fn tls_stub(part: Part) -> (Stub, CaBundle) {
    tls_stub_as(for_host("127.0.0.1"), part).await
}

/// The same with a certificate of this kind.
async fn tls_stub_as(params: CertificateParams, part: Part) -> (Stub, CaBundle) {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        STANDARD.encode(&certificate)
    );
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let stub = Stub::start_tls(part, TlsAcceptor::from(Arc::new(config))).await;
    (stub, CaBundle::parse(&pem).unwrap())
}

fn for_host(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

#[tokio::test]
async fn a_server_with_an_unknown_certificate_gets_nothing() {
    let (stub, _) = tls_stub(reply("402 Payment Required", "", REFUSAL)).await;
    let client = client(&format!("https://127.0.0.1:{}", stub.port()));
    let error = client.create_key(&new_key("app")).await.unwrap_err();
    assert_unreachable(&error, "certificate");
    assert!(stub.received().is_empty());
}

#[tokio::test]
async fn an_extra_ca_certificate_is_trusted() {
    let (stub, bundle) = tls_stub(reply("402 Payment Required", "", REFUSAL)).await;
    let mut settings = settings(&format!("https://127.0.0.1:{}", stub.port()));
    settings.ca_certificate = Some(bundle);
    let client = Client::new(&settings, &SystemNetwork).unwrap();
    let error = client.create_key(&new_key("app")).await.unwrap_err();
    assert!(
        matches!(error, Error::Refused { status: 402, .. }),
        "{error:?}"
    );
    assert_eq!(stub.received().len(), 1);
}

#[tokio::test]
async fn a_trusted_certificate_for_another_name_or_another_time_gets_nothing() {
    let mut expired = for_host("127.0.0.1");
    expired.not_after = date_time_ymd(2001, 1, 1);
    let mut early = for_host("127.0.0.1");
    early.not_before = date_time_ymd(4000, 1, 1);
    for (params, reason) in [
        (for_host("openrouter.example"), "not valid for name"),
        (expired, "expired"),
        (early, "not valid yet"),
    ] {
        let (stub, bundle) = tls_stub_as(params, reply("402 Payment Required", "", REFUSAL)).await;
        let mut settings = settings(&format!("https://127.0.0.1:{}", stub.port()));
        settings.ca_certificate = Some(bundle);
        let client = Client::new(&settings, &SystemNetwork).unwrap();
        let error = client.create_key(&new_key("app")).await.unwrap_err();
        assert_unreachable(&error, reason);
        assert!(stub.received().is_empty());
    }
}
