//! Sends together what HTTP/2 flushes bit by bit.
//!
//! Headers, message and trailers of a call are flushed as they come, and each flush is a TLS record, a
//! system call, and a peer that wakes up for a few bytes. So a flush lets every other task that is
//! ready have its turn first, and what they add goes along; gRPC for Go does the same in its
//! `loopyWriter`. No time has to pass: with nobody else ready, the bytes leave at once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// A stream whose small writes are held until they are flushed, and then leave together with what was
/// written while others had their turn. For HTTP/2, above TLS; a flush is pending at least once.
pub struct Coalesced<S> {
    stream: S,
    held: Vec<u8>,
    /// How much of `held` is sent already.
    sent: usize,
    /// Whether the others have had their turn since the flush was asked for.
    others_had_their_turn: bool,
}

impl<S> Coalesced<S> {
    /// Nothing is held yet.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            held: Vec::new(),
            sent: 0,
            others_had_their_turn: false,
        }
    }
}

impl<S: AsyncWrite + Unpin> Coalesced<S> {
    /// Passes on everything that is held.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.held.get(self.sent..) {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        // The allocation stays, the secrets that were in it do not.
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

/// Not vectored: HTTP/2 then copies messages of up to a kilobyte to where their headers are, and
/// otherwise flushes between the two.
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

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.held.is_empty() && !self.others_had_their_turn {
            self.others_had_their_turn = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The most that is held: as much as goes into one TLS record.
const LIMIT: usize = 16 * 1_024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::FutureExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::sync::Mutex;

    use super::*;

    /// Takes so many bytes at a time and keeps a record of it. Every other time it is not ready.
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

    /// Flushes as HTTP/2 does: others can write while it is under way.
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

    #[tokio::test]
    async fn a_carrier_that_takes_little_at_a_time_gets_everything_in_order() {
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(5 * LIMIT + 7).collect();
        let mut stream = Carrier::taking(1_000);
        for part in bytes.chunks(LIMIT / 3).chain([&bytes[..]]) {
            stream.write_all(part).await.unwrap();
        }
        stream.flush().await.unwrap();
        assert_eq!(stream.stream.writes.concat(), [&bytes[..], &bytes].concat());
        // Held is never more than fits, and nothing stays behind.
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
