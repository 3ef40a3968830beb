//! The gate to OpenRouter: forwards requests and answers unchanged. When a node dies, its network connection
//! ends here.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::effects::{Effects, Life};

/// A gate, open until it is dropped.
pub(crate) struct Gate {
    address: SocketAddr,
    state: Arc<State>,
    listening: JoinHandle<()>,
}

struct State {
    openrouter: SocketAddr,
    effects: Arc<Effects>,
    life: Mutex<Arc<Life>>,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

impl Gate {
    pub(crate) async fn before(base_url: &str, effects: Arc<Effects>) -> Self {
        let authority = base_url.split('/').nth(2).expect("a URL with a host");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let state = Arc::new(State {
            openrouter: authority.parse().unwrap(),
            effects,
            life: Mutex::default(),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
        });
        Self {
            address: listener.local_addr().unwrap(),
            state: Arc::clone(&state),
            listening: tokio::spawn(listen(listener, state)),
        }
    }

    /// The value of a connection's `api_url`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1", self.address)
    }

    /// The highest number of concurrent requests so far: those with a management key, and those that a key
    /// makes for itself.
    pub(crate) fn most_under_way(&self) -> usize {
        self.state.most_under_way.load(Ordering::Relaxed)
    }

    /// New connections belong to this node from now on.
    pub(crate) fn serve(&self, life: Arc<Life>) {
        *self.state.life.lock().unwrap() = life;
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let life = Arc::clone(&state.life.lock().unwrap());
        tokio::spawn(pass(stream, life, Arc::clone(&state)));
    }
}

/// Forwards the requests of one connection, one after the other, until one is not answered completely.
async fn pass(mut client: TcpStream, life: Arc<Life>, state: Arc<State>) {
    client.set_nodelay(true).unwrap();
    while let Message::Whole(request) = read(&mut client).await {
        let _busy = life.busy();
        let name = name_of(&request);
        let reached = state.effects.reach(&life, format!("before {name}"));
        if reached.await.is_err() {
            return reset(&client);
        }
        let under_way = state.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        state.most_under_way.fetch_max(under_way, Ordering::Relaxed);
        let answer = ask(state.openrouter, &request).await;
        state.under_way.fetch_sub(1, Ordering::Relaxed);
        let reached = state.effects.reach(&life, format!("after {name}"));
        if reached.await.is_err() {
            return reset(&client);
        }
        match answer {
            Message::Whole(answer) => {
                if client.write_all(&answer).await.is_err() {
                    return;
                }
            }
            Message::Partial(part) if part.is_empty() => return reset(&client),
            Message::Partial(part) => {
                let _ = client.write_all(&part).await;
                return;
            }
        }
    }
}

async fn ask(openrouter: SocketAddr, request: &[u8]) -> Message {
    let Ok(mut stream) = TcpStream::connect(openrouter).await else {
        return Message::Partial(Vec::new());
    };
    match stream.write_all(request).await {
        Ok(()) => read(&mut stream).await,
        Err(_) => Message::Partial(Vec::new()),
    }
}

/// The next request or answer of this stream; `None` if the stream ends before it.
pub(crate) async fn whole_message(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    match read(stream).await {
        Message::Whole(message) => Some(message),
        Message::Partial(_) => None,
    }
}

/// A complete request or answer as received.
enum Message {
    Whole(Vec<u8>),
    /// The connection ended before the message did.
    Partial(Vec<u8>),
}

/// Reads to the end of a body whose length is in the head. No other form is used here.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Message {
    let mut message = Vec::new();
    loop {
        if length(&message).is_some_and(|length| message.len() >= length) {
            return Message::Whole(message);
        }
        match stream.read_buf(&mut message).await {
            Ok(0) | Err(_) => return Message::Partial(message),
            Ok(_) => {}
        }
    }
}

/// The length of the whole message, once its head has arrived.
fn length(message: &[u8]) -> Option<usize> {
    let head = message.windows(4).position(|end| end == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&message[..head]).to_ascii_lowercase();
    let body = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |value| value.trim().parse().unwrap());
    Some(head + 4 + body)
}

/// Method and path without hash, guardrail and query, such as `DELETE /keys/*`.
fn name_of(request: &[u8]) -> String {
    let text = String::from_utf8_lossy(request);
    let mut words = text.split(' ');
    let method = words.next().unwrap_or_default();
    let target = words.next().unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    let mut parts = path.splitn(4, '/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(""), Some("keys"), Some(_), None) => format!("{method} /keys/*"),
        (Some(""), Some("guardrails"), Some(id), Some(rest)) if id != "assignments" => {
            format!("{method} /guardrails/*/{rest}")
        }
        _ => format!("{method} {path}"),
    }
}

/// Without lingering, closing sends a reset instead of an orderly close.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
