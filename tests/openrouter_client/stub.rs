//! A loopback server that behaves the same on every connection, and records what it was sent.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What happens on a connection.
#[derive(Clone)]
pub(crate) enum Part {
    /// These bytes answer every request, after which the connection ends.
    Reply(String),
    /// This beginning, and then the same bytes repeated forever.
    Endless(String, &'static str),
    /// The beginning of an answer, and then nothing.
    Stall(String),
    /// The connection is reset when the request arrives, before a byte of it is read.
    ResetUnread,
    /// The connection is reset after the request.
    ResetAfterRequest,
    /// The request is read and never answered.
    Silence,
}

/// The server. It ends when dropped.
pub(crate) struct Stub {
    port: u16,
    received: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Stub {
    pub(crate) async fn start(part: Part) -> Self {
        Self::serve(part, None).await
    }

    pub(crate) async fn start_tls(part: Part, acceptor: TlsAcceptor) -> Self {
        Self::serve(part, Some(acceptor)).await
    }

    async fn serve(part: Part, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = Arc::default();
        let log = Arc::clone(&received);
        let task = tokio::spawn(async move {
            // Dropped with the task, and every connection with it.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (part, tls, log) = (part.clone(), tls.clone(), Arc::clone(&log));
                connections.spawn(async move {
                    match tls {
                        None => connection(stream, part, log).await,
                        // A client that rejects the certificate ends here.
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => play(stream, part, log).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Self {
            port,
            received,
            task,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The requests so far, as they were sent.
    pub(crate) fn received(&self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An HTTP answer with a body and its length.
pub(crate) fn reply(status: &str, headers: &str, body: &str) -> Part {
    let length = body.len();
    Part::Reply(format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    ))
}

type Log = Arc<Mutex<Vec<String>>>;

async fn connection(stream: TcpStream, part: Part, log: Log) -> Option<()> {
    let reset = |stream: TcpStream| stream.set_zero_linger().ok();
    match part {
        Part::ResetUnread => {
            stream.readable().await.ok()?;
            reset(stream)
        }
        Part::ResetAfterRequest => {
            let (mut stream, part) = (stream, Part::Reply(String::new()));
            play(&mut stream, part, log).await?;
            reset(stream)
        }
        part => play(stream, part, log).await,
    }
}

/// `None` if the client is gone.
async fn play<S>(mut stream: S, part: Part, log: Log) -> Option<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = read_request(&mut stream).await?;
    log.lock().unwrap().push(request);
    match part {
        Part::Reply(reply) => {
            stream.write_all(reply.as_bytes()).await.ok()?;
            stream.flush().await.ok()
        }
        Part::Endless(beginning, more) => {
            stream.write_all(beginning.as_bytes()).await.ok()?;
            let more = more.repeat(1_024);
            loop {
                stream.write_all(more.as_bytes()).await.ok()?;
            }
        }
        Part::Stall(beginning) => {
            stream.write_all(beginning.as_bytes()).await.ok()?;
            std::future::pending().await
        }
        _ => std::future::pending().await,
    }
}

/// Reads the head and as much of the body as it announces.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let read = stream.read_buf(&mut bytes).await.ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let announced = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .and_then(|(_, length)| length.parse().ok());
            if body.len() >= announced.unwrap_or(0) {
                return Some(text);
            }
        }
        if read == 0 {
            return None;
        }
    }
}
