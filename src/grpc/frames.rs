//! A connection whose unfinished frames are bounded in bytes and time: h2 keeps a frame, or
//! a block of headers in several frames, until it is whole. Headers that the client adds to the
//! table of HPACK are bounded in bytes.

use std::{
    future::Future,
    io, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{self, Sleep},
};

use super::{call::HEADER_BYTES, table::Table};
use crate::{
    budget::{Arriving, Share},
    listen::{Connection, pass_writes},
};

const PREFACE: usize = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;
/// The bytes of a priority (section 6.2).
const PRIORITY_LEN: usize = 5;

/// Finds the ends of frames and blocks of headers (RFC 9113, sections 4.1 and 6.10).
#[derive(Debug)]
struct Scanner {
    head: [u8; HEAD],
    /// The bytes of `head` that have arrived.
    head_len: usize,
    /// The bytes of the payload that have not arrived.
    missing: usize,
    in_headers: bool,
    /// The bytes before the headers of the frame that have not arrived, and whether the first
    /// of them is the length of the padding.
    prefix: usize,
    is_padded: bool,
    /// The bytes of the headers of the frame that have not arrived.
    headers: usize,
    table: Table,
    /// The bytes of the connection.
    position: u64,
    /// The bytes since the last end.
    unfinished: usize,
    /// The number of ends.
    ends: u64,
}

impl Scanner {
    fn new() -> Self {
        Self {
            head: [0; HEAD],
            head_len: 0,
            missing: PREFACE,
            in_headers: false,
            prefix: 0,
            is_padded: false,
            headers: 0,
            table: Table::new(),
            position: 0,
            unfinished: 0,
            ends: 0,
        }
    }

    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let wanted = if 0 < self.missing { self.missing } else { HEAD - self.head_len };
            let (part, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            self.unfinished += part.len();
            if 0 < self.missing {
                self.missing -= part.len();
                self.read_headers(part);
            } else {
                self.read_head(part);
            }
            self.position += part.len() as u64;
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
        self.headers = 0;
        if !matches!(kind, HEADERS | CONTINUATION) {
            self.table.begin_frame(self.missing);
            return;
        }
        self.in_headers = flags & END_HEADERS == 0;
        if kind == HEADERS {
            self.table.begin_block();
        }
        self.table.begin_headers(self.missing);
        self.is_padded = kind == HEADERS && flags & PADDED != 0;
        let has_priority = kind == HEADERS && flags & PRIORITY != 0;
        let priority = if has_priority { PRIORITY_LEN } else { 0 };
        self.prefix = (usize::from(self.is_padded) + priority).min(self.missing);
        self.headers = self.missing - self.prefix;
    }

    /// The memory of the frame, or of the block of headers, that has arrived in part.
    fn unfinished_memory(&self) -> usize {
        let fields = if self.in_headers { self.table.fields() } else { 0 };
        self.unfinished + fields * HEADER_BYTES
    }

    /// Reads the headers in a part of a payload.
    fn read_headers(&mut self, part: &[u8]) {
        let (prefix, rest) = part.split_at(self.prefix.min(part.len()));
        self.prefix -= prefix.len();
        if let Some(padding) = prefix.first()
            && mem::take(&mut self.is_padded)
        {
            self.headers = self.headers.saturating_sub(usize::from(*padding));
        }
        let (headers, _padding) = rest.split_at(self.headers.min(rest.len()));
        self.headers -= headers.len();
        self.table.read(headers, self.position);
    }
}

/// The time for a frame, and what it holds of the budget.
#[derive(Debug)]
struct Unfinished {
    /// The number of ends before it.
    ends: u64,
    deadline: Pin<Box<Sleep>>,
    arriving: Arriving,
}

/// A connection that counts what h2 keeps.
#[derive(Debug)]
pub(super) struct Frames {
    connection: Connection,
    share: Arc<Share>,
    timeout: Duration,
    scanner: Scanner,
    unfinished: Option<Unfinished>,
    /// The memory that the table of headers keeps.
    table: Arriving,
}

impl Frames {
    /// Frames have `timeout` to arrive whole.
    pub(super) fn new(connection: Connection, share: Arc<Share>, timeout: Duration) -> Self {
        let table = Arriving::new(&share);
        let scanner = Scanner::new();
        Self { connection, share, timeout, scanner, unfinished: None, table }
    }

    /// Fails if the frame that has arrived in part is late, or has no room. A frame that
    /// arrives at once is not counted.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let pinned = self.scanner.table.pinned(self.scanner.position);
        self.table.set(pinned).map_err(io::Error::other)?;
        let Scanner { ends, unfinished: bytes, .. } = self.scanner;
        let memory = self.scanner.unfinished_memory();
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
                none.insert(Unfinished { ends, deadline, arriving: Arriving::new(&self.share) })
            }
        };
        unfinished.arriving.set(memory).map_err(io::Error::other)?;
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
    pass_writes!(connection);
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
