//! Reads a body whole, within the budget.

use std::{
    future::poll_fn,
    mem,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::time::timeout;

use super::{Held, HeldConnection, NoRoom};
use crate::metrics::CutOff;

/// The first block of a body that arrives in parts, in bytes.
const SHORT: usize = 1 << 10;

/// The further blocks.
const BLOCK: usize = 16 << 10;

/// A whole body, which counts in the budget until it is dropped.
#[derive(Debug)]
pub struct Body {
    /// The content.
    pub bytes: Bytes,
    /// Its part of the budget.
    pub held: Held,
}

/// A body was not read whole.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The body is longer than allowed.
    #[error("the body is too long")]
    TooLong,
    /// The body did not arrive in time.
    #[error("the body did not arrive in time")]
    Late,
    /// The budget has no room.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The connection or the request has ended.
    #[error("the body has no end")]
    Cancelled,
}

/// The bounds on a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// The most bytes.
    pub longest: usize,
    /// The longest wait for all of it.
    pub patience: Duration,
}

/// Reads a whole body, and adds its bytes to those of the call.
#[derive(Debug)]
pub struct Reader<S> {
    chunks: S,
    limits: ReadLimits,
    /// Whether the body arrives without being asked for.
    asked: bool,
    buffer: Buffer,
    /// Set once it waits for the peer.
    connection: Option<HeldConnection>,
}

impl<S, E> Reader<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    /// `held` are the bytes of the call without its body.
    pub fn new(chunks: S, limits: ReadLimits, held: Held) -> Self {
        let buffer = Buffer { held, whole: None, blocks: Vec::new(), len: 0 };
        Self { chunks, limits, asked: true, buffer, connection: None }
    }

    /// A reader of a body that arrives only once it has been asked for, so that the first
    /// attempt finds nothing even if all of it is there.
    pub fn of_lazy(chunks: S, limits: ReadLimits, held: Held) -> Self {
        Self { asked: false, ..Self::new(chunks, limits, held) }
    }

    /// Reads as much as has arrived. If that is not all, the bytes of the call wait for
    /// the peer from now on.
    ///
    /// # Errors
    ///
    /// If the body is too long or broken off, or if the budget has no room.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Body, ReadError>> {
        loop {
            match self.chunks.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(chunk))) => {
                    if self.limits.longest < self.buffer.len + chunk.len() {
                        return Poll::Ready(Err(ReadError::TooLong));
                    }
                    self.buffer.push(chunk)?;
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(ReadError::Cancelled)),
                Poll::Ready(None) => return Poll::Ready(Ok(self.buffer.finish()?)),
                Poll::Pending => {
                    if !mem::replace(&mut self.asked, true) {
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    self.buffer.copy()?;
                    if self.connection.is_none() {
                        self.connection = Some(self.buffer.held.share.hold_connection());
                    }
                    self.buffer.held.wait()?;
                    return Poll::Pending;
                }
            }
        }
    }

    /// Reads all.
    ///
    /// # Errors
    ///
    /// Those of [`Self::poll`], and if the body does not arrive in time.
    pub async fn read(mut self) -> Result<Body, ReadError> {
        let patience = self.limits.patience;
        match timeout(patience, poll_fn(|context| self.poll(context))).await {
            Ok(read) => read,
            Err(_) => {
                self.buffer.held.share.budget.count_cut_off(CutOff::LateMessage);
                Err(ReadError::Late)
            }
        }
    }
}

/// A body as far as it has arrived.
#[derive(Debug)]
struct Buffer {
    held: Held,
    /// The only chunk so far. It shares memory with other frames of the connection.
    whole: Option<Bytes>,
    /// A copy of several chunks, in blocks: a single buffer would leave a hole in the
    /// process' memory each time that it grows.
    blocks: Vec<BytesMut>,
    len: usize,
}

impl Buffer {
    fn push(&mut self, chunk: Bytes) -> Result<(), NoRoom> {
        if chunk.is_empty() {
            return Ok(());
        }
        let is_first = self.len == 0;
        self.len += chunk.len();
        if is_first {
            self.held.grow(chunk.len())?;
            self.whole = Some(chunk);
            return Ok(());
        }
        self.copy()?;
        self.append(&chunk)
    }

    /// Copies the chunk that shares memory, because a short one would keep the memory of
    /// the frames beside it.
    fn copy(&mut self) -> Result<(), NoRoom> {
        let Some(chunk) = self.whole.take() else { return Ok(()) };
        self.held.shrink(chunk.len());
        self.append(&chunk)
    }

    fn append(&mut self, mut chunk: &[u8]) -> Result<(), NoRoom> {
        while !chunk.is_empty() {
            let room = match self.blocks.last() {
                Some(block) => block.capacity() - block.len(),
                None => 0,
            };
            if room == 0 {
                // Most bodies that arrive in parts are short.
                let size = if self.blocks.is_empty() { SHORT } else { BLOCK };
                let block = BytesMut::with_capacity(size);
                self.held.grow(block.capacity())?;
                self.blocks.push(block);
                continue;
            }
            let (now, later) = chunk.split_at(room.min(chunk.len()));
            if let Some(block) = self.blocks.last_mut() {
                block.extend_from_slice(now);
            }
            chunk = later;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Body, NoRoom> {
        self.held.stop_waiting();
        let bytes = match (self.whole.take(), self.blocks.pop()) {
            (Some(whole), _) => whole,
            (None, None) => Bytes::new(),
            (None, Some(only)) if self.blocks.is_empty() => only.freeze(),
            (None, Some(last)) => {
                self.held.grow(self.len)?;
                let mut bytes = BytesMut::with_capacity(self.len);
                for block in self.blocks.drain(..).chain([last]) {
                    bytes.extend_from_slice(&block);
                    self.held.shrink(block.capacity());
                }
                bytes.freeze()
            }
        };
        Ok(Body { bytes, held: self.held.take() })
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use futures_util::stream;

    use super::*;
    use crate::{
        budget::{Budget, Share},
        metrics::Metrics,
    };

    fn share() -> Arc<Share> {
        Budget::new(1 << 20, Arc::new(Metrics::new(0.8))).connect(None)
    }

    /// Reads so many chunks of 3,000 bytes, each after a pause.
    async fn read_chunks(count: usize, longest: usize) -> Result<Body, ReadError> {
        let chunks = stream::iter(0..count).then(|number| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, Infallible>(Bytes::from(vec![u8::try_from(number).unwrap(); 3_000]))
        });
        let limits = ReadLimits { longest, patience: Duration::from_secs(20) };
        Reader::new(Box::pin(chunks), limits, share().hold(0, false).unwrap()).read().await
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_in_parts_is_their_sum_and_holds_its_length() {
        for count in [0, 1, 2, 19] {
            let body = read_chunks(count, 3_000 * count).await.unwrap();
            assert_eq!(body.bytes.len(), 3_000 * count);
            for (number, part) in body.bytes.chunks(3_000).enumerate() {
                assert!(part.iter().all(|byte| usize::from(*byte) == number));
            }
            assert_eq!(body.held.bytes, body.bytes.len(), "{count} parts");
        }
        assert_eq!(read_chunks(2, 5_999).await.unwrap_err(), ReadError::TooLong);
        assert_eq!(read_chunks(21, 100_000).await.unwrap_err(), ReadError::Late);
    }
}
