//! Conversations in turns, as of HTTP/1: who has begun to say something has to come to
//! an end.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{self, Sleep},
};

use super::connection::Duplex;

/// How long it may take from the first byte of a request to the first of the answer,
/// and from one byte of the answer to the next.
const TURN: Duration = Duration::from_secs(60);

/// A stream that ends by itself if a request, or the answer to it, does not come to an
/// end. Between two requests the peer may be silent for as long as it likes.
#[derive(Debug)]
pub(super) struct Turns<S> {
    stream: S,
    /// Until when the next byte has to be written.
    due: Option<Pin<Box<Sleep>>>,
    heard: Heard,
}

/// What the peer has said so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    /// Something that takes turns.
    Turns,
    /// HTTP/2, which does not, and has means of its own.
    Http2,
}

impl<S> Turns<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, due: None, heard: Heard::Nothing }
    }

    /// Something has arrived.
    fn hear(&mut self, bytes: &[u8]) {
        if self.heard == Heard::Nothing {
            self.heard = if bytes.starts_with(b"PRI") { Heard::Http2 } else { Heard::Turns };
        }
        if !bytes.is_empty() {
            self.owe();
        }
    }

    fn owe(&mut self) {
        if self.heard != Heard::Http2 {
            self.due.get_or_insert_with(|| Box::pin(time::sleep(TURN)));
        }
    }

    /// Fails once it takes too long.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        match &mut self.due {
            Some(due) => due.as_mut().poll(context).map(|()| Err(too_slow())),
            None => Poll::Pending,
        }
    }

    fn written(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            self.owe();
            return self.wait(context);
        }
        self.due = None;
        written
    }
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the peer is too slow")
}

impl<S: Duplex> AsyncRead for Turns<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(read) => {
                self.hear(&buffer.filled()[before..]);
                Poll::Ready(read)
            }
            Poll::Pending => self.wait(context),
        }
    }
}

impl<S: Duplex> AsyncWrite for Turns<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::{Instant, sleep},
    };

    use super::*;

    /// Ours, with room for 8 bytes each way, and the peer's.
    fn pair() -> (Turns<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(8);
        (Turns::new(ours), theirs)
    }

    /// A byte each ten seconds. After how many seconds that is cut.
    async fn drip(mut ours: Turns<DuplexStream>, mut theirs: DuplexStream, first: &[u8]) -> u64 {
        let begin = Instant::now();
        theirs.write_all(first).await.unwrap();
        let peer = async {
            loop {
                sleep(Duration::from_secs(10)).await;
                theirs.write_all(b"x").await.unwrap();
            }
        };
        let read = async { while ours.read(&mut [0; 64]).await.is_ok() {} };
        tokio::select! {
            () = peer => {}
            () = read => {}
            () = sleep(Duration::from_secs(1_000)) => {}
        }
        begin.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_drips_in_is_cut_and_http_2_is_not() {
        let (ours, theirs) = pair();
        assert_eq!(drip(ours, theirs, b"GET / H").await, 60);
        let (ours, theirs) = pair();
        assert_eq!(drip(ours, theirs, b"PRI * H").await, 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_a_peer_may_be_silent() {
        let (mut ours, mut theirs) = pair();
        for _ in 0..3 {
            sleep(Duration::from_secs(500)).await;
            theirs.write_all(b"GET").await.unwrap();
            ours.read_exact(&mut [0; 3]).await.unwrap();
            sleep(Duration::from_secs(50)).await;
            ours.write_all(b"OK").await.unwrap();
            theirs.read_exact(&mut [0; 2]).await.unwrap();
            let silence = tokio::time::timeout(Duration::from_secs(500), ours.read_u8());
            assert!(silence.await.is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_is_cut_and_a_slow_one_is_not() {
        let (mut ours, mut theirs) = pair();
        theirs.write_all(b"GET").await.unwrap();
        ours.read_exact(&mut [0; 3]).await.unwrap();
        let reader = tokio::spawn(async move {
            for _ in 0..8 {
                sleep(Duration::from_secs(40)).await;
                theirs.read_exact(&mut [0; 8]).await.unwrap();
            }
            sleep(Duration::from_secs(1_000)).await;
        });
        let begin = Instant::now();
        ours.write_all(&[0; 64]).await.unwrap();
        let error = ours.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed().as_secs(), 8 * 40 + 60);
        reader.abort();
    }
}
