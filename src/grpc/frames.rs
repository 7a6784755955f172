//! A connection whose unfinished frames are bounded in bytes and time: h2 keeps a frame, or
//! a block of headers in several frames, until it is whole.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{self, Sleep},
};

use crate::{
    budget::{Held, Share},
    listen::Connection,
};

const PREFACE: usize = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Finds the ends of frames and blocks of headers (RFC 9113, sections 4.1 and 6.10).
#[derive(Debug)]
struct Scanner {
    head: [u8; HEAD],
    /// The bytes of `head` that have arrived.
    head_len: usize,
    /// The bytes of the payload that have not arrived.
    missing: usize,
    in_headers: bool,
    /// The bytes since the last end.
    unfinished: usize,
    /// The number of ends.
    ends: u64,
}

impl Scanner {
    fn new() -> Self {
        let missing = PREFACE;
        let head = [0; HEAD];
        Self { head, head_len: 0, missing, in_headers: false, unfinished: 0, ends: 0 }
    }

    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let wanted = if 0 < self.missing { self.missing } else { HEAD - self.head_len };
            let (part, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            self.unfinished += part.len();
            if 0 < self.missing {
                self.missing -= part.len();
            } else {
                self.read_head(part);
            }
            if self.missing == 0 && self.head_len == 0 && !self.in_headers {
                self.unfinished = 0;
                self.ends += 1;
            }
        }
    }

    fn read_head(&mut self, part: &[u8]) {
        for byte in part {
            if let Some(place) = self.head.get_mut(self.head_len) {
                *place = *byte;
            }
            self.head_len += 1;
        }
        if self.head_len < HEAD {
            return;
        }
        self.head_len = 0;
        let [high, middle, low, kind, flags, ..] = self.head;
        self.missing = (usize::from(high) << 16) | (usize::from(middle) << 8) | usize::from(low);
        if matches!(kind, HEADERS | CONTINUATION) {
            self.in_headers = flags & END_HEADERS == 0;
        }
    }
}

/// The time for a frame, and what it holds of the budget.
#[derive(Debug)]
struct Unfinished {
    /// The number of ends before it.
    ends: u64,
    deadline: Pin<Box<Sleep>>,
    held: Held,
}

/// A connection that counts what h2 keeps.
#[derive(Debug)]
pub(super) struct Frames {
    connection: Connection,
    share: Arc<Share>,
    timeout: Duration,
    scanner: Scanner,
    unfinished: Option<Unfinished>,
}

impl Frames {
    /// Frames have `timeout` to arrive whole.
    pub(super) fn new(connection: Connection, share: Arc<Share>, timeout: Duration) -> Self {
        Self { connection, share, timeout, scanner: Scanner::new(), unfinished: None }
    }

    /// Fails if the frame that has arrived in part is late, or has no room. A frame that
    /// arrives at once is not counted.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Scanner { ends, unfinished: bytes, .. } = self.scanner;
        if bytes == 0 || self.unfinished.as_ref().is_some_and(|it| it.ends != ends) {
            self.unfinished = None;
        }
        if bytes == 0 {
            return Ok(());
        }
        let unfinished = match &mut self.unfinished {
            Some(unfinished) => unfinished,
            none => {
                let deadline = Box::pin(time::sleep(self.timeout));
                let held = self.share.hold(0, true).map_err(io::Error::other)?;
                none.insert(Unfinished { ends, deadline, held })
            }
        };
        unfinished.held.grow_to(bytes).map_err(io::Error::other)?;
        if unfinished.deadline.as_mut().poll(context).is_ready() {
            let why = "a frame, or a block of headers, did not arrive in time";
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        Ok(())
    }
}

impl AsyncRead for Frames {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.connection).poll_read(context, buffer);
        if read.is_pending() {
            self.check(context)?;
        }
        ready!(read)?;
        if let Some(arrived) = buffer.filled().get(before..) {
            self.scanner.read(arrived);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Frames {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], &vec![b'x'; payload]].concat()
    }

    #[test]
    fn what_is_not_whole_is_counted() {
        let preface = vec![b'P'; PREFACE];
        let (settings, data) = (frame(4, 0, 0), frame(0, 1, 1_000));
        let split = frame(HEADERS, 1, 500);
        let rest = frame(CONTINUATION, END_HEADERS, 70_000);
        let whole = [preface, settings, split.clone(), rest.clone(), data].concat();
        for step in [1, 7, 9, 1_000, whole.len()] {
            let mut scanner = Scanner::new();
            for part in whole.chunks(step) {
                scanner.read(part);
            }
            assert_eq!((scanner.unfinished, scanner.ends), (0, 4), "{step}");
            scanner.read(&split);
            scanner.read(&rest[..2_000]);
            assert_eq!((scanner.unfinished, scanner.ends), (split.len() + 2_000, 4));
        }
    }
}
