//! Combines the small writes that HTTP/2 flushes one by one.
//!
//! The headers, message and trailers of a call are flushed separately. Each flush costs a TLS record
//! and a system call, and wakes the peer for a few bytes. So a flush first yields to every other task
//! that is ready, and their writes are sent with it. gRPC for Go does the same in its `loopyWriter`.
//! If no other task is ready, the bytes are sent at once.
//!
//! The one exception is the acknowledgment of a PING, if it is all there is to send. gRPC for Go measures
//! the connection: it sends a PING with the first data that it receives while none is outstanding. So a
//! host with one caller would ping after every answer, and ping and acknowledgment would cost as much as
//! the answer. The acknowledgment is sent after [`DELAY`], and until then the host sends no other PING.
//! The place of an acknowledgment between other frames is free, and so is its order among several: each
//! repeats the data of its PING.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tonic::transport::server::Connected;

/// A stream that holds small writes until a flush, and then sends them together with what other tasks
/// wrote while the flush yielded. Used for HTTP/2, above TLS. A flush that has something to send is pending
/// at least once.
pub struct Coalesced<S> {
    stream: S,
    held: Vec<u8>,
    /// How much of `held` is sent already.
    sent: usize,
    /// Whether the flush has yielded to the other tasks.
    others_had_their_turn: bool,
    /// The acknowledgment that waits.
    acknowledgment: Option<Acknowledgment>,
    /// When it has waited for long enough. Made for the first one.
    delay: Option<Pin<Box<Sleep>>>,
}

impl<S> Coalesced<S> {
    /// Wraps a stream; nothing is held yet.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            held: Vec::new(),
            sent: 0,
            others_had_their_turn: false,
            acknowledgment: None,
            delay: None,
        }
    }
}

impl<S: AsyncWrite + Unpin> Coalesced<S> {
    /// Postpones an acknowledgment if there is nothing else to send. If a second one arrives, neither is
    /// postponed: a peer that sends two PINGs is not only measuring.
    fn set_acknowledgment_aside(&mut self) {
        if self.others_had_their_turn {
            return;
        }
        let Some(acknowledgment) = one_acknowledgment(&self.held) else {
            return;
        };
        if self.acknowledgment.is_some() {
            self.hold_acknowledgment();
            return;
        }
        self.held.clear();
        self.acknowledgment = Some(acknowledgment);
        match &mut self.delay {
            None => self.delay = Some(Box::pin(sleep(DELAY))),
            Some(delay) => delay.as_mut().reset(Instant::now() + DELAY),
        }
    }

    /// Takes an acknowledgment that has waited long enough. Otherwise, schedules the flushing task to be
    /// woken when it has.
    fn poll_acknowledgment(&mut self, cx: &mut Context<'_>) {
        if self.acknowledgment.is_some()
            && let Some(delay) = &mut self.delay
            && delay.as_mut().poll(cx).is_ready()
        {
            self.hold_acknowledgment();
        }
    }

    fn hold_acknowledgment(&mut self) {
        if let Some(acknowledgment) = self.acknowledgment.take() {
            self.held.extend_from_slice(&acknowledgment);
        }
    }

    /// Writes everything that is held to the stream.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.held.get(self.sent..) {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        // Keeps the allocation and clears the secrets in it.
        self.held.fill(0);
        self.held.clear();
        self.sent = 0;
        self.others_had_their_turn = false;
        Poll::Ready(Ok(()))
    }
}

impl<S: Connected> Connected for Coalesced<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Coalesced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

/// Not vectored: HTTP/2 then copies messages of up to a kilobyte next to their headers. With vectored writes
/// it would flush between the two.
impl<S: AsyncWrite + Unpin> AsyncWrite for Coalesced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.held.len() + buf.len() > LIMIT {
            ready!(self.poll_send(cx))?;
        }
        if buf.len() > LIMIT {
            return Pin::new(&mut self.stream).poll_write(cx, buf);
        }
        self.held.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    /// Does not wait for a postponed acknowledgment: HTTP/2 sends nothing more on a stream while a flush is
    /// pending.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.set_acknowledgment_aside();
        self.poll_acknowledgment(cx);
        if !self.held.is_empty() && !self.others_had_their_turn {
            self.others_had_their_turn = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.hold_acknowledgment();
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The frame that acknowledges a PING: its head, and the data of the PING.
type Acknowledgment = [u8; 9 + 8];

/// These frames, if they are the acknowledgment of a PING and nothing else.
fn one_acknowledgment(frames: &[u8]) -> Option<Acknowledgment> {
    let frame = Acknowledgment::try_from(frames).ok()?;
    // Length 8, type PING, flag ACK, no stream.
    frame
        .starts_with(&[0, 0, 8, 6, 1, 0, 0, 0, 0])
        .then_some(frame)
}

/// The most that is held: the size of one TLS record.
const LIMIT: usize = 16 * 1_024;
/// How long an acknowledgment waits. Peers that check whether a connection is alive allow seconds.
const DELAY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::FutureExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::sync::Mutex;

    use super::*;

    /// Accepts this many bytes at a time and records them. Every other poll returns pending.
    struct Carrier {
        at_a_time: usize,
        is_ready: bool,
        writes: Vec<Vec<u8>>,
        is_shut: bool,
    }

    impl Carrier {
        fn taking(at_a_time: usize) -> Coalesced<Self> {
            Coalesced::new(Self {
                at_a_time,
                is_ready: false,
                writes: Vec::new(),
                is_shut: false,
            })
        }
    }

    impl AsyncWrite for Carrier {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.is_ready = !self.is_ready;
            if !self.is_ready {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let taken = &buf[..buf.len().min(self.at_a_time)];
            self.writes.push(taken.to_vec());
            Poll::Ready(Ok(taken.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.is_shut = true;
            Poll::Ready(Ok(()))
        }
    }

    /// Flushes as HTTP/2 does: other tasks can write while it is pending.
    async fn flush(stream: &Mutex<Coalesced<Carrier>>) -> io::Result<()> {
        poll_fn(|cx| {
            let mut stream = stream.try_lock().expect("nobody holds it for long");
            Pin::new(&mut *stream).poll_flush(cx)
        })
        .await
    }

    #[tokio::test]
    async fn what_others_have_to_say_at_the_moment_of_a_flush_goes_along() {
        let stream = Mutex::new(Carrier::taking(1_000));
        stream.lock().await.write_all(b"headers").await.unwrap();
        let (flushed, ()) = tokio::join!(flush(&stream), async {
            stream.lock().await.write_all(b", message").await.unwrap();
        });
        flushed.unwrap();
        assert_eq!(stream.into_inner().stream.writes, [b"headers, message"]);
    }

    #[tokio::test]
    async fn nothing_leaves_unless_it_is_flushed_and_every_flush_gives_others_their_turn() {
        let stream = Mutex::new(Carrier::taking(1_000));
        for message in [b"first", b"after", b"third"] {
            stream.lock().await.write_all(message).await.unwrap();
        }
        assert_eq!(stream.lock().await.stream.writes.len(), 0);
        flush(&stream).await.unwrap();
        stream.lock().await.write_all(b"more").await.unwrap();
        assert!(flush(&stream).now_or_never().is_none());
        assert_eq!(stream.lock().await.stream.writes, [b"firstafterthird"]);
        flush(&stream).await.unwrap();
        assert_eq!(stream.lock().await.stream.writes[1], b"more");
    }

    /// A PING's acknowledgment with this data.
    fn acknowledgment(data: &[u8; 8]) -> Vec<u8> {
        [&[0, 0, 8, 6, 1, 0, 0, 0, 0], &data[..]].concat()
    }

    /// Flushes until something is sent, and returns how long that took. A connection is woken in the same
    /// way.
    async fn next_write(stream: &Mutex<Coalesced<Carrier>>) -> Duration {
        let begun = Instant::now();
        poll_fn(|cx| {
            let mut stream = stream.try_lock().expect("nobody holds it for long");
            let _ = Pin::new(&mut *stream).poll_flush(cx);
            match stream.stream.writes.is_empty() {
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        })
        .await;
        begun.elapsed()
    }

    async fn take_writes(stream: &Mutex<Coalesced<Carrier>>) -> Vec<Vec<u8>> {
        std::mem::take(&mut stream.lock().await.stream.writes)
    }

    /// The timer counts whole milliseconds.
    fn is_the_delay(waited: Duration) -> bool {
        (DELAY..DELAY + Duration::from_millis(2)).contains(&waited)
    }

    #[tokio::test(start_paused = true)]
    async fn an_acknowledgment_waits_while_other_bytes_are_flushed_at_once() {
        let stream = Mutex::new(Carrier::taking(1_000));
        let waiting = acknowledgment(b"measured");
        stream.lock().await.write_all(&waiting).await.unwrap();
        let begun = Instant::now();
        flush(&stream).await.unwrap();
        for answer in [&b"answer"[..], b"another"] {
            tokio::time::advance(DELAY / 4).await;
            stream.lock().await.write_all(answer).await.unwrap();
            let flushed = Instant::now();
            flush(&stream).await.unwrap();
            assert_eq!(flushed.elapsed(), Duration::ZERO);
            assert_eq!(take_writes(&stream).await, [answer]);
        }
        next_write(&stream).await;
        assert!(is_the_delay(begun.elapsed()));
        assert_eq!(take_writes(&stream).await, [waiting]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_acknowledgment_is_sent_once_and_in_time() {
        let stream = Mutex::new(Carrier::taking(1_000));
        for data in [b"measured", b"again...", b"and more"] {
            let waiting = acknowledgment(data);
            stream.lock().await.write_all(&waiting).await.unwrap();
            assert!(is_the_delay(next_write(&stream).await));
            assert_eq!(take_writes(&stream).await, [waiting]);
            // Nothing is left.
            tokio::time::advance(DELAY).await;
            flush(&stream).await.unwrap();
            assert_eq!(take_writes(&stream).await.len(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_but_one_acknowledgment_ever_waits() {
        let one = acknowledgment(b"measured");
        let with_byte = |position: usize, byte: u8| {
            let mut frame = one.clone();
            frame[position] = byte;
            frame
        };
        let begun = Instant::now();
        for frames in [
            // One of our own PINGs, data, acknowledged settings, and a window update.
            with_byte(4, 0),
            with_byte(3, 0),
            vec![0, 0, 0, 4, 1, 0, 0, 0, 0],
            vec![0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0],
            [&one[..], &one].concat(),
            [&one[..], b"answer"].concat(),
            [b"answer", &one[..]].concat(),
        ] {
            let stream = Mutex::new(Carrier::taking(1_000));
            stream.lock().await.write_all(&frames).await.unwrap();
            flush(&stream).await.unwrap();
            assert_eq!(stream.into_inner().stream.writes, [frames]);
        }
        // A second acknowledgment does not wait with the first.
        let stream = Mutex::new(Carrier::taking(1_000));
        for sent in [0, 1] {
            stream.lock().await.write_all(&one).await.unwrap();
            flush(&stream).await.unwrap();
            assert_eq!(stream.lock().await.stream.writes.len(), sent);
        }
        assert_eq!(take_writes(&stream).await, [[&one[..], &one].concat()]);
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_sends_an_acknowledgment_that_waits() {
        let stream = Mutex::new(Carrier::taking(1_000));
        let waiting = acknowledgment(b"measured");
        stream.lock().await.write_all(&waiting).await.unwrap();
        flush(&stream).await.unwrap();
        let mut stream = stream.into_inner();
        stream.shutdown().await.unwrap();
        assert_eq!(stream.stream.writes, [waiting]);
        assert!(stream.stream.is_shut);
    }

    #[tokio::test]
    async fn a_carrier_that_takes_little_at_a_time_gets_everything_in_order() {
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(5 * LIMIT + 7).collect();
        let mut stream = Carrier::taking(1_000);
        for part in bytes.chunks(LIMIT / 3).chain([&bytes[..]]) {
            stream.write_all(part).await.unwrap();
        }
        stream.flush().await.unwrap();
        assert_eq!(stream.stream.writes.concat(), [&bytes[..], &bytes].concat());
        // The buffer never grows beyond the limit, and it is empty at the end.
        assert!(stream.held.capacity() <= 2 * LIMIT);
        assert!(stream.held.is_empty());
    }

    #[tokio::test]
    async fn the_end_sends_what_is_held_first() {
        let mut stream = Carrier::taking(1_000);
        stream.write_all(b"goodbye").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(stream.stream.writes, [b"goodbye"]);
        assert!(stream.stream.is_shut);
    }

    #[tokio::test]
    async fn a_carrier_that_takes_nothing_is_an_error() {
        let mut stream = Carrier::taking(0);
        stream.write_all(b"anything").await.unwrap();
        let error = stream.flush().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
}
