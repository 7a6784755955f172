//! The encrypted side of a TLS connection: its bytes count in the budget until they have
//! become plaintext, because rustls keeps a record, or a message of the handshake in several
//! records, until it is whole.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::budget::{Arriving, Share};

/// How far the bytes of a connection have become plaintext.
#[derive(Debug, Default)]
pub(super) struct Decryption {
    /// The bytes since the last plaintext.
    bytes: AtomicUsize,
    has_begun: AtomicBool,
}

impl Decryption {
    /// There is plaintext, or the handshake is done. rustls reads no more while it has
    /// plaintext.
    pub(super) fn progress(&self) {
        self.bytes.store(0, Relaxed);
        self.has_begun.store(true, Relaxed);
    }
}

/// The stream that rustls reads and writes.
#[derive(Debug)]
pub(super) struct Ciphertext<S> {
    stream: S,
    arriving: Arriving,
    decryption: Arc<Decryption>,
}

impl<S> Ciphertext<S> {
    pub(super) fn new(stream: S, share: &Arc<Share>) -> Self {
        Self { stream, arriving: Arriving::new(share), decryption: Arc::default() }
    }

    pub(super) fn decryption(&self) -> Arc<Decryption> {
        Arc::clone(&self.decryption)
    }

    /// Counts the bytes, for which rustls needs more. The number of handshakes is bounded.
    fn count(&mut self) -> io::Result<()> {
        let bytes = self.decryption.bytes.load(Relaxed);
        let counted = if self.decryption.has_begun.load(Relaxed) {
            self.arriving.set(bytes)
        } else {
            self.arriving.set_alone(bytes)
        };
        counted.map_err(io::Error::other)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ciphertext<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.decryption.bytes.fetch_add(buffer.filled().len() - before, Relaxed);
        if read.is_pending() {
            self.count()?;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ciphertext<S> {
    pass_writes!(stream);
}
