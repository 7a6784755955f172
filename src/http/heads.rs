//! A connection of HTTP/1 whose unfinished heads count in the budget: hyper keeps a head
//! until it is whole.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use axum::http::{HeaderMap, HeaderValue, Response, Uri, header::CONNECTION};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::{
    budget::{Arriving, Share},
    listen::{Connection, pass_writes},
};

/// The most bytes that hyper gets at once. It doubles its buffer of 8 KiB, and does not make
/// it smaller again, when a read fills it.
const MOST_AT_ONCE: u64 = (8 << 10) - 1;

/// A head of more bytes leaves a large buffer behind, so its connection ends with the answer.
pub(super) const LONG_HEAD: usize = 8 << 10;

/// How far the requests of a connection have arrived.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The bytes that have arrived since the last head was whole.
    arrived: AtomicUsize,
    /// Whether a head is whole and its answer has not begun. Other bytes that arrive
    /// are those of its body, which counts by itself.
    is_answering: AtomicBool,
}

impl Progress {
    /// A head is whole.
    pub(super) fn begin_answer(&self) {
        self.arrived.store(0, Relaxed);
        self.is_answering.store(true, Relaxed);
    }

    /// The answer to it begins.
    pub(super) fn end_answer(&self) {
        self.is_answering.store(false, Relaxed);
    }

    fn add(&self, bytes: usize) {
        if !self.is_answering.load(Relaxed) {
            self.arrived.fetch_add(bytes, Relaxed);
        }
    }
}

/// The bytes of the target and of the names and values of the headers.
pub(super) fn head_bytes(uri: &Uri, headers: &HeaderMap) -> usize {
    let mut bytes = uri.path_and_query().map_or(0, |it| it.as_str().len());
    for (name, value) in headers {
        bytes += name.as_str().len() + value.len();
    }
    bytes
}

/// Ends the connection after this response.
pub(super) fn close_after<T>(response: &mut Response<T>) {
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}

/// The connection that hyper reads and writes.
#[derive(Debug)]
pub(super) struct Heads<'a> {
    connection: &'a mut Connection,
    progress: Arc<Progress>,
    arriving: Arriving,
}

impl<'a> Heads<'a> {
    pub(super) fn new(connection: &'a mut Connection, share: &Arc<Share>) -> Self {
        Self { connection, progress: Arc::default(), arriving: Arriving::new(share) }
    }

    /// To be told when heads are whole.
    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }
}

impl AsyncRead for Heads<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let mut connection = (&mut *self.connection).take(MOST_AT_ONCE);
        let read = Pin::new(&mut connection).poll_read(context, buffer);
        if read.is_pending() {
            // A head that arrives at once is not counted.
            let bytes = self.progress.arrived.load(Relaxed);
            self.arriving.set(bytes).map_err(io::Error::other)?;
        }
        self.progress.add(buffer.filled().len() - before);
        read
    }
}

impl AsyncWrite for Heads<'_> {
    pass_writes!(connection);
}
