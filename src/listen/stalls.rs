//! Bounds the time of peers that stall.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{self, Sleep};

/// The time in which a peer must take some of the bytes that are written to it. It may
/// also bound requests: the time from the first byte that arrives to the next that is
/// written. The time between a response and the next request is not limited.
#[derive(Debug)]
pub(super) struct StallTimeout {
    timeout: Duration,
    bounds_requests: bool,
    /// The deadline of the next write, if there is one.
    due: Option<Pin<Box<Sleep>>>,
}

impl StallTimeout {
    /// A timeout of writes alone.
    pub(super) fn of_writes(timeout: Duration) -> Self {
        Self { timeout, bounds_requests: false, due: None }
    }

    /// A timeout of requests and of the writes of their responses.
    pub(super) fn of_requests(timeout: Duration) -> Self {
        Self { timeout, bounds_requests: true, due: None }
    }

    /// The result of a read of so many bytes.
    pub(super) fn on_read(
        &mut self,
        read: Poll<io::Result<()>>,
        bytes: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.bounds_requests {
            return read;
        }
        if read.is_pending() {
            return self.wait(context);
        }
        if 0 < bytes {
            self.start();
        }
        read
    }

    /// The result of a write.
    pub(super) fn on_write<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_pending() {
            self.start();
            return self.wait(context);
        }
        self.due = None;
        written
    }

    fn start(&mut self) {
        self.due.get_or_insert_with(|| Box::pin(time::sleep(self.timeout)));
    }

    /// Fails once the deadline has passed.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        match &mut self.due {
            Some(due) => due.as_mut().poll(context).map(|()| Err(stalled())),
            None => Poll::Pending,
        }
    }
}

fn stalled() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the peer does not read, or its request stalled")
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::{Instant, sleep},
    };

    use super::*;
    use crate::listen::{Connection, ConnectionBounds, Purpose, room::Room};

    /// The server's and the client's end, with a buffer of 8 bytes each way.
    fn pair() -> (Connection, DuplexStream) {
        let (ours, theirs) = duplex(8);
        let bounds = ConnectionBounds { most: 1, most_per_peer: None };
        let (place, stream) = Room::new(Purpose::Http, bounds).enter(ours, None);
        let mut connection = Connection::new(Box::new(stream), None, 1, place);
        connection.limit_requests(Duration::from_secs(60));
        (connection, theirs)
    }

    /// Sends one byte every ten seconds; returns the seconds until the connection fails.
    async fn drip(mut ours: Connection, mut theirs: DuplexStream, first: &[u8]) -> u64 {
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
