//! Connections within the process, without a socket.

use std::io;

use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
};

/// Bytes in flight in each direction of a connection.
const BUFFER: usize = 64 << 10;

/// Connections that may wait to be accepted.
const BACKLOG: usize = 128;

/// Opens connections to a listener of this process.
#[derive(Clone, Debug)]
pub struct Dialer(mpsc::Sender<DuplexStream>);

impl Dialer {
    /// Connects, once the listener's backlog has room.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` if the listener is gone.
    pub async fn connect(&self) -> io::Result<DuplexStream> {
        let (client, server) = duplex(BUFFER);
        match self.0.send(server).await {
            Ok(()) => Ok(client),
            Err(_) => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

pub(super) fn pair() -> (Dialer, mpsc::Receiver<DuplexStream>) {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    (Dialer(sender), receiver)
}
