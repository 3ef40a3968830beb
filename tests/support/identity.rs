//! A host's certificate and its TLS, written independently of the plugin's own.
//!
//! The certificate has the form of go-plugin's: P-521, self-signed, an authority and a leaf in one. For
//! tests of refusal there is also a certificate without its key.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P521_SHA512,
};
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};

/// A certificate and a key.
pub(crate) struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// A new certificate like that of a Go host.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyAgreement,
            KeyUsagePurpose::KeyCertSign,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            certificate,
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        }
    }

    /// This certificate with another key, as an attacker who has seen it would use it.
    pub(crate) fn forged(&self) -> Self {
        Self {
            certificate: self.certificate.clone(),
            key: Self::new().key,
        }
    }

    /// A copy of the certificate and key.
    pub(crate) fn copy(&self) -> Self {
        Self {
            certificate: self.certificate.clone(),
            key: self.key.clone_key(),
        }
    }

    /// The certificate in the form of `PLUGIN_CLIENT_CERT`.
    pub(crate) fn pem(&self) -> String {
        let text = BASE64_STANDARD.encode(&self.certificate);
        let lines: Vec<_> = text
            .as_bytes()
            .chunks(64)
            .map(String::from_utf8_lossy)
            .collect();
        format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            lines.join("\n")
        )
    }

    /// TLS to the plugin whose certificate is `plugin`.
    pub(crate) fn client(&self, plugin: &[u8]) -> ClientConfig {
        self.client_of(plugin, &[&TLS13, &TLS12])
    }

    /// The same in TLS 1.2 only.
    pub(crate) fn client_of_tls12(&self, plugin: &[u8]) -> ClientConfig {
        self.client_of(plugin, &[&TLS12])
    }

    /// TLS for a listener that expects the plugin whose certificate is `plugin`.
    pub(crate) fn server(&self, plugin: &[u8]) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(Arc::new(Only(plugin.to_vec())))
            .with_cert_resolver(self.shown());
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    fn client_of(
        &self,
        plugin: &[u8],
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut config = trusting(plugin, versions).with_client_cert_resolver(self.shown());
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    /// Bypasses rustls's check that a key matches its certificate.
    fn shown(&self) -> Arc<SingleCertAndKey> {
        let key = any_supported_type(&self.key).unwrap();
        Arc::new(CertifiedKey::new(vec![self.certificate.clone()], key).into())
    }
}

/// TLS to a plugin without a client certificate.
pub(crate) fn anonymous_client(plugin: &[u8]) -> ClientConfig {
    trusting(plugin, &[&TLS13]).with_no_client_auth()
}

/// The same in TLS 1.2 only.
pub(crate) fn anonymous_client_of_tls12(plugin: &[u8]) -> ClientConfig {
    trusting(plugin, &[&TLS12]).with_no_client_auth()
}

fn trusting(
    plugin: &[u8],
    versions: &[&'static SupportedProtocolVersion],
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Only(plugin.to_vec())))
}

/// Trusts one certificate.
#[derive(Debug)]
struct Only(Vec<u8>);

impl Only {
    fn check(&self, shown: &CertificateDer<'_>) -> Result<(), Error> {
        (**shown == *self.0)
            .then_some(())
            .ok_or_else(|| Error::General("a stranger".into()))
    }
}

impl ServerCertVerifier for Only {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ClientCertVerifier for Only {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}
