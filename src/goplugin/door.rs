//! Admission: the handshake with every client that connects to the socket.
//!
//! Called by [`Listener`](super::listener::Listener). A client that may open the socket can stay
//! silent, be slow, or reconnect endlessly. It must not delay the host, or cost this process more than
//! a fixed number of file descriptors. So nobody waits for a slot: when all are taken, the oldest
//! holder is disconnected. Clients that have not sent a byte share separate slots, so a flood of them
//! cannot interrupt a host in the middle of its handshake.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::host_watch::HostWatch;
use super::tls::Tls;
use super::transport::ByteStream;

/// Admits connections to the server.
pub(super) struct Door {
    tls: Option<Tls>,
    watch: HostWatch,
    let_in: mpsc::Sender<io::Result<ByteStream>>,
    silent: Places,
    speaking: Places,
    refusals: Refusals,
}

impl Door {
    /// A door that passes the host's connections to `let_in`, and reports them to `watch`.
    pub(super) fn new(
        tls: Option<Tls>,
        watch: HostWatch,
        let_in: mpsc::Sender<io::Result<ByteStream>>,
    ) -> Self {
        Self {
            tls,
            watch,
            let_in,
            silent: Places::default(),
            speaking: Places::default(),
            refusals: Refusals::default(),
        }
    }

    /// Admits a client if it is the host. Returns at once; a task does the handshake.
    pub(super) fn knock(self: &Arc<Self>, stream: UnixStream) {
        let place = self.silent.take();
        tokio::spawn(Arc::clone(self).admit(stream, place));
    }

    async fn admit(self: Arc<Self>, stream: UnixStream, place: Place) {
        let handshake = async {
            let mut stream = BufReader::with_capacity(FIRST_WORD, stream);
            // The client speaks first, in TLS and in HTTP/2 without it.
            let first_word = async { stream.fill_buf().await.map(|_| ()) };
            place.during(first_word).await?;
            let place = self.speaking.take();
            place.during(self.handshake(stream)).await
        };
        let outcome = timeout(HANDSHAKE_LIMIT, handshake).await;
        match outcome.map_err(io::Error::from).flatten() {
            Ok(stream) => {
                let stream = stream.with_presence(self.watch.connected());
                // Fails only if the server has ended.
                let _ = self.let_in.send(Ok(stream)).await;
            }
            Err(error) => self.refusals.note(&error),
        }
    }

    async fn handshake(&self, stream: BufReader<UnixStream>) -> io::Result<ByteStream> {
        let stream = ByteStream::new(stream);
        match &self.tls {
            Some(tls) => tls.accept(stream).await,
            None => Ok(stream),
        }
    }
}

/// A fixed number of slots, reused in order.
#[derive(Default)]
struct Places {
    // Never held across an await, so not tokio's. The oldest is first.
    taken: Mutex<VecDeque<oneshot::Sender<Infallible>>>,
}

impl Places {
    /// Takes a slot. If all are taken, the oldest holder loses its slot.
    fn take(&self) -> Place {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|place| !place.is_closed());
        if taken.len() >= MAX_CONNECTIONS {
            taken.pop_front();
        }
        let (hold, held) = oneshot::channel();
        taken.push_back(hold);
        Place(held)
    }
}

/// A slot that is held until it is dropped or another client takes it.
struct Place(oneshot::Receiver<Infallible>);

impl Place {
    /// Runs `work` while the slot is held.
    ///
    /// # Errors
    /// The error of `work`, or an error that says that another client took the slot.
    async fn during<T>(self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        tokio::select! {
            // Finished work is not discarded for a client that arrives at the same moment.
            biased;
            done = work => done,
            _ = self.0 => Err(io::Error::other("too many connections, and this one was the oldest")),
        }
    }
}

/// Logs refused clients, at most once per [`REFUSAL_PAUSE`]. Otherwise any client that can connect
/// could fill the host's log.
#[derive(Default)]
struct Refusals(Mutex<Unlogged>);

#[derive(Default)]
struct Unlogged {
    last_logged: Option<Instant>,
    count: u64,
}

impl Refusals {
    fn note(&self, error: &io::Error) {
        let Some(unlogged) = self.count(Instant::now()) else {
            return;
        };
        tracing::warn!(%error, before = unlogged, "refused a connection");
    }

    /// Counts a refusal at `now`. If it may be logged, returns how many were not logged since the last
    /// one.
    fn count(&self, now: Instant) -> Option<u64> {
        let mut unlogged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let too_early = |last| now.duration_since(last) < REFUSAL_PAUSE;
        if unlogged.last_logged.is_some_and(too_early) {
            unlogged.count += 1;
            return None;
        }
        unlogged.last_logged = Some(now);
        Some(std::mem::take(&mut unlogged.count))
    }
}

/// How much is read before a client counts as speaking. Later reads ask for more at a time and need no
/// copy.
const FIRST_WORD: usize = 1_024;

/// Time limit from the connection to the end of the handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// A host opens one connection. The other slots are for reconnects and for silent clients.
const MAX_CONNECTIONS: usize = 64;

const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    /// Whether another client took the slot.
    async fn is_lost(place: Place) -> bool {
        let nothing_to_do = pending::<io::Result<()>>();
        let until_now = timeout(Duration::ZERO, place.during(nothing_to_do)).await;
        until_now.is_ok()
    }

    #[tokio::test]
    async fn with_all_places_taken_the_oldest_makes_room() {
        let places = Places::default();
        let mut taken: VecDeque<Place> = (0..=MAX_CONNECTIONS).map(|_| places.take()).collect();
        assert!(is_lost(taken.pop_front().unwrap()).await);
        for place in taken {
            assert!(!is_lost(place).await);
        }
    }

    #[tokio::test]
    async fn a_place_that_was_given_back_is_taken_before_anybody_has_to_make_room() {
        let places = Places::default();
        let mut taken: VecDeque<Place> = (0..MAX_CONNECTIONS).map(|_| places.take()).collect();
        taken.pop_back();
        let newcomer = places.take();
        for place in taken {
            assert!(!is_lost(place).await);
        }
        assert!(!is_lost(newcomer).await);
    }

    #[tokio::test]
    async fn what_was_done_in_time_is_done() {
        let places = Places::default();
        let place = places.take();
        let newcomers: Vec<Place> = (0..MAX_CONNECTIONS).map(|_| places.take()).collect();
        assert_eq!(place.during(ready(Ok(7))).await.unwrap(), 7);
        drop(newcomers);
    }

    #[test]
    fn a_refusal_is_logged_once_a_second_and_the_others_are_counted() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        assert_eq!(refusals.count(at(0)), Some(0));
        assert_eq!(refusals.count(at(1)), None);
        assert_eq!(refusals.count(at(999)), None);
        assert_eq!(refusals.count(at(1_000)), Some(2));
        assert_eq!(refusals.count(at(3_000)), Some(0));
    }
}
