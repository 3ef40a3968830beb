//! The foreign server of these tests, and a road to OpenRouter on which it can lie in wait.

use std::sync::{Arc, Mutex, OnceLock};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rcgen::CertifiedKey;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_util::task::AbortOnDropHandle;

use crate::harness::{World, whole_message};

/// How the foreign server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Like OpenRouter with an account without keys.
    Denies,
    /// Like OpenRouter with the account that has the keys: whatever it is asked about, it claims to have.
    Claims,
}

/// A foreign server: an API and a proxy, in plain text and behind TLS, which keeps everything that it is sent.
pub(super) struct Thief {
    pub(super) url: String,
    ears: Arc<Ears>,
    // Held for its Drop.
    _listening: AbortOnDropHandle<()>,
}

struct Ears {
    heard: Mutex<String>,
    certificate: Certificate,
    /// Where claims come from, and the management key that the thief replaces by the real one to get them.
    claims: Option<(String, OnceLock<(String, String)>)>,
}

impl Thief {
    /// One that denies.
    pub(super) async fn listening() -> Self {
        Self::start(None).await
    }

    /// One that answers in this manner.
    pub(super) async fn in_the_manner(manner: Manner, world: &World) -> Self {
        let gate = authority(&world.gate_url());
        Self::start((manner == Manner::Claims).then_some(gate)).await
    }

    async fn start(claims: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let ears = Arc::new(Ears {
            heard: Mutex::default(),
            certificate: Certificate::new(),
            claims: claims.map(|gate| (gate, OnceLock::new())),
        });
        let listening = tokio::spawn(listen(listener, Arc::clone(&ears)));
        Self {
            url,
            ears,
            _listening: AbortOnDropHandle::new(listening),
        }
    }

    /// For one that claims: its management key, which OpenRouter does not know, and the one that it stands for.
    pub(super) fn passes_off(&self, own: &str, real: &str) {
        if let Some((_, keys)) = &self.ears.claims {
            let keys = keys.set((own.to_owned(), real.to_owned()));
            keys.expect("it has one key");
        }
    }

    pub(super) fn heard(&self) -> String {
        self.ears.heard.lock().unwrap().clone()
    }

    /// Who trusts this certificate takes the thief for anyone.
    pub(super) fn certificate(&self) -> &str {
        &self.ears.certificate.pem
    }

    /// Every change of address that leads to this server.
    pub(super) fn addresses(&self) -> [Value; 3] {
        let api_url = format!("{}/api/v1", self.url);
        [
            json!({ "api_url": api_url }),
            json!({ "proxy_url": self.url }),
            json!({"api_url": api_url, "proxy_url": self.url}),
        ]
    }
}

async fn listen(listener: TcpListener, ears: Arc<Ears>) {
    while let Ok((stream, _)) = listener.accept().await {
        let ears = Arc::clone(&ears);
        tokio::spawn(async move { ears.meet(stream).await });
    }
}

impl Ears {
    /// `None` when the caller is gone.
    async fn meet(&self, stream: TcpStream) -> Option<()> {
        if is_tls(&stream).await? {
            let opened = self.certificate.acceptor.accept(stream).await.ok()?;
            return self.converse(opened).await;
        }
        let mut stream = stream;
        let request = whole_message(&mut stream).await?;
        if !request.starts_with(b"CONNECT ") {
            self.answer(&mut stream, request).await?;
            return self.converse(stream).await;
        }
        self.hear(&request);
        let accepted = b"HTTP/1.1 200 Connection established\r\n\r\n";
        stream.write_all(accepted).await.ok()?;
        if is_tls(&stream).await? {
            let opened = self.certificate.acceptor.accept(stream).await.ok()?;
            return self.converse(opened).await;
        }
        self.converse(stream).await
    }

    async fn converse(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
        loop {
            let request = whole_message(&mut stream).await?;
            self.answer(&mut stream, request).await?;
        }
    }

    async fn answer(&self, stream: &mut (impl AsyncWrite + Unpin), request: Vec<u8>) -> Option<()> {
        let text = self.hear(&request);
        let answer = match &self.claims {
            None => denial(&text),
            Some((gate, keys)) => {
                let mut openrouter = TcpStream::connect(gate).await.ok()?;
                let (own, real) = keys.get()?;
                let request = text.replace(own, real);
                openrouter.write_all(request.as_bytes()).await.ok()?;
                whole_message(&mut openrouter).await?
            }
        };
        stream.write_all(&answer).await.ok()
    }

    fn hear(&self, request: &[u8]) -> String {
        let text = String::from_utf8_lossy(request).into_owned();
        self.heard.lock().unwrap().push_str(&text);
        text
    }
}

fn denial(request: &str) -> Vec<u8> {
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, body) = if path.ends_with("/key") {
        let key = json!({"label": "sk-or-v1-thi...ief", "is_management_key": true});
        ("200 OK", json!({ "data": key }))
    } else if path.ends_with("/keys") || path.contains("/keys?") {
        ("200 OK", json!({"data": []}))
    } else {
        let error = json!({"code": 404, "message": "API key not found"});
        ("404 Not Found", json!({ "error": error }))
    };
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// An address of OpenRouter behind TLS. Whoever controls the network can put a foreign server there, which has
/// no certificate that the connection trusts.
pub(super) struct Road {
    port: u16,
    state: Arc<RoadState>,
    // Held for its Drop.
    _open: AbortOnDropHandle<()>,
}

struct RoadState {
    certificate: Certificate,
    gate: String,
    waylaid: OnceLock<Arc<Ears>>,
}

impl Road {
    pub(super) async fn to_openrouter(world: &World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(RoadState {
            certificate: Certificate::new(),
            gate: authority(&world.gate_url()),
            waylaid: OnceLock::new(),
        });
        let open = tokio::spawn(travel(listener, Arc::clone(&state)));
        Self {
            port,
            state,
            _open: AbortOnDropHandle::new(open),
        }
    }

    /// The fields of a connection that leads along it.
    pub(super) fn fields(&self) -> Value {
        json!({
            "api_url": format!("https://localhost:{}/api/v1", self.port),
            "ca_certificate": self.state.certificate.pem,
        })
    }

    /// From now on it ends at the thief.
    pub(super) fn waylay(&self, thief: &Thief) {
        let first = self.state.waylaid.set(Arc::clone(&thief.ears));
        assert!(first.is_ok(), "there is one thief");
    }
}

async fn travel(listener: TcpListener, state: Arc<RoadState>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            if let Some(ears) = state.waylaid.get() {
                return ears.meet(stream).await;
            }
            let mut opened = state.certificate.acceptor.accept(stream).await.ok()?;
            let mut gate = TcpStream::connect(&state.gate).await.ok()?;
            copy_bidirectional(&mut opened, &mut gate).await.ok()?;
            Some(())
        });
    }
}

/// A self-signed certificate for this machine, and the server's side of TLS with it.
pub(super) struct Certificate {
    pub(super) pem: String,
    acceptor: TlsAcceptor,
}

impl Certificate {
    pub(super) fn new() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
        let text = BASE64_STANDARD.encode(cert.der());
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        Self {
            pem: format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"),
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }
    }
}

/// Whether the caller begins with a TLS handshake. `None` if it is gone.
async fn is_tls(stream: &TcpStream) -> Option<bool> {
    let mut first = [0];
    let read = stream.peek(&mut first).await.ok()?;
    (read > 0).then_some(first[0] == 0x16)
}

/// Host and port of a URL.
fn authority(url: &str) -> String {
    let authority = url.split('/').nth(2);
    authority.expect("a URL with a host").to_owned()
}
