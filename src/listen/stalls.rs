//! Closes HTTP/1 connections whose request or response stalls.

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

/// The longest time from the first byte of a request to the first byte of the
/// response, and between two writes of a response.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A stream that fails if a request or its response stalls. The time between two
/// requests is not limited.
#[derive(Debug)]
pub(super) struct RequestTimeout<S> {
    stream: S,
    /// The deadline of the next write; `None` between requests.
    due: Option<Pin<Box<Sleep>>>,
}

impl<S> RequestTimeout<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, due: None }
    }

    fn arm(&mut self) {
        self.due.get_or_insert_with(|| Box::pin(time::sleep(STALL_TIMEOUT)));
    }

    /// Fails once the deadline has passed.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        match &mut self.due {
            Some(due) => due.as_mut().poll(context).map(|()| Err(too_slow())),
            None => Poll::Pending,
        }
    }

    fn on_write(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            self.arm();
            return self.wait(context);
        }
        self.due = None;
        written
    }
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the request or its response stalled")
}

impl<S: Duplex> AsyncRead for RequestTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(read) => {
                if before < buffer.filled().len() {
                    self.arm();
                }
                Poll::Ready(read)
            }
            Poll::Pending => self.wait(context),
        }
    }
}

impl<S: Duplex> AsyncWrite for RequestTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.on_write(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.on_write(written, context)
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

    /// The server's and the client's end, with a buffer of 8 bytes each way.
    fn pair() -> (RequestTimeout<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(8);
        (RequestTimeout::new(ours), theirs)
    }

    /// Sends one byte every ten seconds; returns the seconds until the connection fails.
    async fn drip(
        mut ours: RequestTimeout<DuplexStream>,
        mut theirs: DuplexStream,
        first: &[u8],
    ) -> u64 {
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
    async fn a_request_that_drips_in_times_out() {
        let (ours, theirs) = pair();
        assert_eq!(drip(ours, theirs, b"GET / H").await, 60);
        let (ours, theirs) = pair();
        assert_eq!(drip(ours, theirs, b"PRI * HT").await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_between_requests_is_not_limited() {
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
    async fn an_unread_response_times_out_and_a_slowly_read_one_does_not() {
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
