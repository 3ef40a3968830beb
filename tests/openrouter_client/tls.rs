//! Trust: a server is talked to only if its certificate leads to a known root.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use vault_plugin_secrets_openrouter::openrouter::{CaBundle, Client, Error};

use crate::stub::{Part, Stub, reply};
use crate::{assert_unreachable, client, new_key, settings};

const REFUSAL: &str = r#"{"error":{"code":402,"message":"Insufficient credits"}}"#;

/// A TLS server with a certificate of its own making, and that certificate in PEM form.
pub(crate) async fn tls_stub(part: Part) -> (Stub, CaBundle) {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = certified.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
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
    let client = Client::new(&settings).unwrap();
    let error = client.create_key(&new_key("app")).await.unwrap_err();
    assert!(
        matches!(error, Error::Refused { status: 402, .. }),
        "{error:?}"
    );
    assert_eq!(stub.received().len(), 1);
}
