//! The sockets of either kind.

use std::{
    fs, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream, lookup_host};

use super::{Address, Place, connection::Stream};

/// How many connections the system keeps until they are accepted.
const QUEUE: u32 = 1024;

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Socket {
    pub(super) async fn bind(place: &Place) -> io::Result<Self> {
        match place {
            Place::Tcp(address) => Ok(Self::Tcp(tcp(address).await?)),
            Place::Unix(path) => {
                make_room(path).await?;
                let listener = UnixListener::bind(path)?;
                Ok(Self::Unix(listener, SocketFile::at(path)?))
            }
        }
    }

    /// Where it listens, with the port that the system picked.
    pub(super) fn place(&self) -> io::Result<Place> {
        Ok(match self {
            Self::Tcp(socket) => {
                let bound = socket.local_addr()?;
                Place::Tcp(Address { host: bound.ip().to_string(), port: bound.port() })
            }
            Self::Unix(_, file) => Place::Unix(file.path.clone()),
        })
    }

    pub(super) async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        Ok(match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                // Answers are small, and must not wait for more to send.
                let _ = stream.set_nodelay(true);
                (Box::new(stream), Some(peer))
            }
            Self::Unix(socket, _) => (Box::new(socket.accept().await?.0), None),
        })
    }
}

/// The first address of the host on which it is possible to listen.
async fn tcp(address: &Address) -> io::Result<TcpListener> {
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
    // A port that was in use a moment ago is not in use.
    socket.set_reuseaddr(true)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // Both families, whatever the system's default is.
        SockRef::from(&socket).set_only_v6(false)?;
    }
    socket.bind(address)?;
    socket.listen(QUEUE)
}

/// Removes a socket that a process has left behind.
async fn make_room(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let there = "something else than a socket is there, and is not removed";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, there));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Somebody listens: if the queue is full or access is denied, then too.
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "it is in use by another process")),
    }
}

/// The file of a unix socket: removed when this is dropped, unless another has
/// taken its place.
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
        if identity(&self.path).is_ok_and(|it| it == self.identity) {
            // Whoever comes next finds that nobody listens on it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
