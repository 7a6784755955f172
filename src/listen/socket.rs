//! Listening sockets: TCP, unix, or within the process.

use std::{
    fs, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use socket2::SockRef;
use tokio::{
    io::DuplexStream,
    net::{TcpListener, TcpSocket, UnixListener, UnixStream, lookup_host},
    sync::mpsc,
};

use super::connection::Stream;
use crate::net::{Address, HostPort};

/// Connections that may wait in the system until they are accepted.
const BACKLOG: u32 = 1024;

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
    Memory(mpsc::Receiver<DuplexStream>),
}

impl Socket {
    pub(super) async fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => Ok(Self::Tcp(tcp(address).await?)),
            Address::Unix(path) => {
                remove_stale(path).await?;
                let listener = UnixListener::bind(path)?;
                Ok(Self::Unix(listener, SocketFile::at(path)?))
            }
        }
    }

    /// The bound address, with the port that the system chose.
    pub(super) fn address(&self) -> io::Result<Option<Address>> {
        Ok(match self {
            Self::Tcp(socket) => {
                let bound = socket.local_addr()?;
                Some(Address::Tcp(HostPort { host: bound.ip().to_string(), port: bound.port() }))
            }
            Self::Unix(_, file) => Some(Address::Unix(file.path.clone())),
            Self::Memory(_) => None,
        })
    }

    pub(super) async fn accept(&mut self) -> io::Result<(Stream, Option<SocketAddr>)> {
        Ok(match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                // Responses are small: Nagle's algorithm would delay them.
                let _ = stream.set_nodelay(true);
                (Box::new(stream), Some(peer))
            }
            Self::Unix(socket, _) => (Box::new(socket.accept().await?.0), None),
            Self::Memory(incoming) => match incoming.recv().await {
                Some(stream) => (Box::new(stream), None),
                // Without a dialer no connection can come.
                None => std::future::pending().await,
            },
        })
    }
}

/// Binds to the first address of the host that allows it.
async fn tcp(address: &HostPort) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in lookup_host((address.host.as_str(), address.port)).await? {
        match tcp_at(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn tcp_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Connections of an earlier process in TIME_WAIT do not block the port.
    socket.set_reuseaddr(true)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // Both families, whatever the system's default is.
        SockRef::from(&socket).set_only_v6(false)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Removes the socket of a process that has ended.
async fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let reason = "the path exists and is not a socket; it was not removed";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, reason));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // A full backlog and denied access also mean a live listener.
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process uses this socket")),
    }
}

/// The file of a unix socket. Removed on drop, unless another file has
/// replaced it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // The next process replaces a stale socket.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
