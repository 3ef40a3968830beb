//! An egress proxy as companies run them. It requires credentials, and either forwards a tunnel's
//! bytes, or opens its TLS with a certificate from its own authority for the requested host.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufStream, copy_bidirectional,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_util::task::AbortOnDropHandle;

/// A running proxy. It ends when dropped.
pub(crate) struct EgressProxy {
    port: u16,
    shared: Arc<Shared>,
    // Held for its Drop.
    _task: AbortOnDropHandle<()>,
}

struct Shared {
    authority: Authority,
    /// The destination of the plain bytes of every opened tunnel; `None` opens no tunnel.
    upstream: Option<SocketAddr>,
    /// Whether the connection to the proxy itself uses TLS.
    behind_tls: bool,
    requests: Mutex<Vec<String>>,
}

impl EgressProxy {
    /// A proxy that forwards tunnels to their destinations.
    pub(crate) async fn passing() -> Self {
        Self::start(None, false).await
    }

    /// The same, reached over TLS itself.
    pub(crate) async fn passing_behind_tls() -> Self {
        Self::start(None, true).await
    }

    /// A proxy that opens the TLS of every tunnel and forwards all of them to one plain server.
    pub(crate) async fn opening(upstream: SocketAddr) -> Self {
        Self::start(Some(upstream), false).await
    }

    async fn start(upstream: Option<SocketAddr>, behind_tls: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            authority: Authority::new(),
            upstream,
            behind_tls,
            requests: Mutex::default(),
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self {
            port,
            shared,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Its URL, with the required credentials.
    pub(crate) fn url(&self) -> String {
        self.url_with("vault:pl%40nted")
    }

    /// Its URL, with other credentials.
    pub(crate) fn url_with(&self, credentials: &str) -> String {
        let scheme = if self.shared.behind_tls {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{credentials}@127.0.0.1:{}", self.port)
    }

    /// Its address, without credentials.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The certificate of its authority, in PEM form.
    pub(crate) fn authority(&self) -> &str {
        &self.shared.authority.pem
    }

    /// The heads of all requests so far; nothing else of a tunnel is visible.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The destinations of all requested tunnels, including refused ones.
    pub(crate) fn targets(&self) -> Vec<String> {
        let requests = self.requests();
        let targets = requests.iter().filter_map(|request| target(request));
        targets.map(str::to_owned).collect()
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with the task, together with every connection.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            if shared.behind_tls {
                let tls = shared.authority.acceptor("127.0.0.1");
                shared.tunnel(tls.accept(stream).await.ok()?).await
            } else {
                shared.tunnel(stream).await
            }
        });
    }
}

impl Shared {
    /// Serves a connection. `None` if one of its ends is gone.
    async fn tunnel(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
        let mut stream = BufStream::new(stream);
        let mut request = String::new();
        while !request.ends_with("\r\n\r\n") {
            let read = stream.read_line(&mut request).await.ok()?;
            (read > 0).then_some(())?;
        }
        self.requests.lock().unwrap().push(request.clone());
        let target = target(&request)?;
        if !has_credentials(&request) {
            let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(refusal.as_bytes()).await.ok()?;
            return stream.flush().await.ok();
        }
        let accepted = "HTTP/1.1 200 Connection established\r\n\r\n";
        stream.write_all(accepted.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        match self.upstream {
            None => join(stream, TcpStream::connect(target).await.ok()?).await,
            Some(upstream) => {
                let (host, _) = target.rsplit_once(':')?;
                let tls = self.authority.acceptor(host);
                let opened = tls.accept(stream).await.ok()?;
                join(opened, TcpStream::connect(upstream).await.ok()?).await
            }
        }
    }
}

/// The destination of a requested tunnel.
fn target(request: &str) -> Option<&str> {
    request.strip_prefix("CONNECT ")?.split(' ').next()
}

fn has_credentials(request: &str) -> bool {
    let expected = format!("Basic {}", BASE64_STANDARD.encode("vault:pl@nted"));
    let headers = request.lines().filter_map(|line| line.split_once(": "));
    headers
        .filter(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization"))
        .any(|(_, value)| value == expected)
}

async fn join(
    mut near: impl AsyncRead + AsyncWrite + Unpin,
    mut far: impl AsyncRead + AsyncWrite + Unpin,
) -> Option<()> {
    copy_bidirectional(&mut near, &mut far).await.ok()?;
    Some(())
}

/// A private certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let text = BASE64_STANDARD.encode(certificate.der());
        Self {
            issuer: Issuer::new(params, key),
            pem: format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"),
        }
    }

    /// The server's side of TLS under this name.
    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}
