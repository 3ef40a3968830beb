//! AutoMTLS: host and plugin each create a certificate for one run and exchange them.
//!
//! go-plugin's certificates are self-signed authorities that are used as leaves. Ordinary path building
//! rejects that. There is no path to build: the only acceptable certificate is known byte for byte, so
//! it is pinned, and the peer still has to prove that it holds the key. Only this file uses rustls and
//! rcgen.

use std::error::Error;
use std::io;
use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _, civil, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
    verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig,
    SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::error::ServeError;
use super::transport::ByteStream;

/// Both directions of TLS between this plugin and the one host that started it.
#[derive(Clone)]
pub(super) struct Tls {
    certificate: CertificateDer<'static>,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Tls {
    /// Creates a certificate that is valid at `now`, and trusts the host's certificate, given as PEM.
    pub(super) fn with_host(host_certificate: &str, now: Timestamp) -> Result<Self, ServeError> {
        let host =
            CertificateDer::from_pem_slice(host_certificate.as_bytes()).map_err(|error| {
                ServeError::HostCertificate {
                    source: error.into(),
                }
            })?;
        let own =
            |error: Box<dyn Error + Send + Sync>| ServeError::OwnCertificate { source: error };
        let (certificate, key) = own_certificate(now).map_err(own)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let peer = Arc::new(PinnedPeer::new(host, &provider));

        let server = server_config(&provider, &peer, certificate.clone(), key.clone_key());
        let client = client_config(&provider, &peer, certificate.clone(), key);
        Ok(Self {
            certificate,
            acceptor: TlsAcceptor::from(Arc::new(server.map_err(|e| own(e.into()))?)),
            connector: TlsConnector::from(Arc::new(client.map_err(|e| own(e.into()))?)),
        })
    }

    /// The plugin's certificate as DER, for the host to pin.
    pub(super) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Does the handshake with a host that connected to the plugin.
    ///
    /// Has no time limit. Fails unless the peer is the host.
    pub(super) async fn accept(&self, stream: ByteStream) -> io::Result<ByteStream> {
        self.acceptor.accept(stream).await.map(ByteStream::new)
    }

    /// Does the handshake with a host that the plugin connected to. Otherwise as [`Tls::accept`].
    pub(super) async fn connect(&self, stream: ByteStream) -> io::Result<ByteStream> {
        let name = ServerName::DnsName(SERVER_NAME.try_into().map_err(io::Error::other)?);
        self.connector
            .connect(name, stream)
            .await
            .map(ByteStream::new)
    }
}

/// Accepts one pinned certificate, from a peer that proves that it holds its key.
///
/// Names, dates and key usages are not checked. They restrict a certificate's purpose when an authority
/// vouches for many; here the host itself has sent the certificate that it will use.
#[derive(Debug)]
struct PinnedPeer {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedPeer {
    fn new(certificate: CertificateDer<'static>, provider: &CryptoProvider) -> Self {
        Self {
            certificate,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    fn check(&self, shown: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        if *shown == self.certificate {
            Ok(())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }
}

impl ClientCertVerifier for PinnedPeer {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for PinnedPeer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    peer: &Arc<PinnedPeer>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::clone(peer) as Arc<dyn ClientCertVerifier>)
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Without resumption, every connection proves possession of the key again, which is easier to
    // reason about. A host opens one connection.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    peer: &Arc<PinnedPeer>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(peer) as Arc<dyn ServerCertVerifier>)
        .with_client_auth_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Creates a self-signed certificate as go-plugin does, but with P-256. It is faster, and every Go
/// build verifies it, including builds restricted to approved curves.
fn own_certificate(
    now: Timestamp,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), Box<dyn Error + Send + Sync>> {
    let today = now.to_zoned(TimeZone::UTC).date();
    // A day of slack into the past costs nothing: the certificate lives for one run.
    let yesterday = today.yesterday()?;

    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
    params
        .distinguished_name
        .push(DnType::CommonName, SERVER_NAME);
    let midnight = |date: civil::Date| {
        date_time_ymd(
            date.year().into(),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    params.not_before = midnight(yesterday);
    params.not_after = midnight(today.checked_add(LIFETIME_YEARS.years())?);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyAgreement,
        KeyUsagePurpose::KeyCertSign,
    ];
    // The same certificate is used as a server certificate, for the host's connection, and as a client
    // certificate, for the host's services. Go checks the usage in both roles.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?.der().clone();
    Ok((
        certificate,
        PrivateKeyDer::Pkcs8(key.serialize_der().into()),
    ))
}

/// The name that go-plugin puts into its certificates and verifies.
const SERVER_NAME: &str = "localhost";

/// gRPC for Go rejects a peer that has not negotiated HTTP/2 by name.
const ALPN: &[u8] = b"h2";

/// go-plugin's own value. A plugin's process is not expected to run longer.
const LIFETIME_YEARS: i64 = 30;
