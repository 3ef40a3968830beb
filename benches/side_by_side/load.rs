//! Load: readers in a loop, as fast as possible or at a steady rate.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::join_all;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Reads one thing at a time.
pub(crate) trait Reader {
    /// Reads once; panics unless the answer is correct.
    async fn read(&mut self);
}

/// The result of a load.
pub(crate) struct Load {
    /// Sorted.
    latencies: Vec<Duration>,
    wall: Duration,
}

impl Load {
    fn of(mut latencies: Vec<Duration>, wall: Duration) -> Self {
        latencies.sort_unstable();
        Self { latencies, wall }
    }

    pub(crate) fn reads(&self) -> usize {
        self.latencies.len()
    }

    pub(crate) fn wall(&self) -> Duration {
        self.wall
    }

    /// Reads per second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.wall.as_secs_f64()
    }

    /// The cost of one read, in microseconds.
    pub(crate) fn share(&self, of: Duration) -> f64 {
        of.as_secs_f64() * 1e6 / self.latencies.len() as f64
    }

    /// The latency that this fraction of the reads did not exceed, in microseconds.
    pub(crate) fn within(&self, part: f64) -> f64 {
        let last = self.latencies.len() - 1;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index between 0 and the last"
        )]
        let index = (last as f64 * part).round() as usize;
        self.latencies[index].as_secs_f64() * 1e6
    }
}

/// All readers read as fast as possible, for this long.
pub(crate) async fn flat_out<R: Reader>(readers: &mut [R], time: Duration) -> Load {
    let begun = Instant::now();
    let each = join_all(readers.iter_mut().map(async |reader| {
        let mut latencies = Vec::new();
        while begun.elapsed() < time {
            latencies.push(timed(reader).await);
        }
        latencies
    }));
    let latencies = each.await.concat();
    Load::of(latencies, begun.elapsed())
}

/// The readers together read this many times, as fast as possible.
pub(crate) async fn so_often<R: Reader>(readers: &mut [R], reads: usize) -> Load {
    let begun = Instant::now();
    let share = reads.div_ceil(readers.len());
    let each = join_all(readers.iter_mut().map(async |reader| {
        let mut latencies = Vec::with_capacity(share);
        for _ in 0..share {
            latencies.push(timed(reader).await);
        }
        latencies
    }));
    let latencies = each.await.concat();
    Load::of(latencies, begun.elapsed())
}

/// The readers together read at this rate, for this long; a late reader continues at once.
///
/// Latencies are measured from when a read was sent: the timer's own delay, up to a millisecond, is not
/// the fault of what is measured.
pub(crate) async fn paced<R: Reader>(readers: &mut [R], rate: f64, time: Duration) -> Load {
    let begun = Instant::now();
    let pause = Duration::from_secs_f64(readers.len() as f64 / rate);
    let each = join_all(readers.iter_mut().enumerate().map(async |(index, reader)| {
        let mut latencies = Vec::new();
        let mut due = begun + Duration::from_secs_f64(index as f64 / rate);
        while due < begun + time {
            tokio::time::sleep_until(due.into()).await;
            latencies.push(timed(reader).await);
            due += pause;
        }
        latencies
    }));
    let latencies = each.await.concat();
    Load::of(latencies, begun.elapsed())
}

async fn timed(reader: &mut impl Reader) -> Duration {
    let sent = Instant::now();
    reader.read().await;
    sent.elapsed()
}

/// Reads over one HTTP connection that stays open.
pub(crate) struct HttpReader {
    connection: SendRequest<Empty<Bytes>>,
    requests: Vec<Request<Empty<Bytes>>>,
    next: usize,
}

impl HttpReader {
    /// Reads these paths of the server in turn, with this token.
    pub(crate) async fn new(server: SocketAddr, token: &str, paths: &[String]) -> Self {
        let stream = TcpStream::connect(server)
            .await
            .expect("the server accepts");
        stream.set_nodelay(true).expect("an option of TCP");
        let (connection, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .expect("a connection");
        tokio::spawn(driver);
        let request = |path: &String| {
            Request::get(format!("/v1/{path}"))
                .header("Host", server.to_string())
                .header("X-Vault-Token", token)
                .body(Empty::new())
                .expect("a request")
        };
        Self {
            connection,
            requests: paths.iter().map(request).collect(),
            next: 0,
        }
    }
}

impl Reader for HttpReader {
    async fn read(&mut self) {
        let request = self.requests[self.next].clone();
        self.next = (self.next + 1) % self.requests.len();
        self.connection.ready().await.expect("the connection lives");
        let answer = self.connection.send_request(request).await;
        let answer = answer.expect("the server answers");
        let status = answer.status();
        let body = answer.into_body().collect().await;
        let body = body.expect("the whole answer").to_bytes();
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    }
}
