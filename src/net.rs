//! Addresses of servers, listeners and peers.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use crate::printable::printable_path;

/// The longest path of a unix socket, in bytes: the size of the system's
/// `sockaddr_un`, less its terminating zero.
pub const MAX_SOCKET_PATH: usize = 107;

/// A host and a TCP or UDP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A host name or an IP address, without brackets.
    pub host: String,
    /// A listener with port 0 gets a free port from the system.
    pub port: u16,
}

impl HostPort {
    /// Returns true if a listener at `other` prevents a listener at this
    /// address. Host names are compared as text, not resolved: two different
    /// names are taken to be different hosts.
    pub fn is_taken_by(&self, other: &Self) -> bool {
        self.port != 0 && self.port == other.port && same_host(&self.host, &other.host)
    }
}

fn same_host(one: &str, other: &str) -> bool {
    let (Ok(one), Ok(other)) = (one.parse::<IpAddr>(), other.parse::<IpAddr>()) else {
        return one.eq_ignore_ascii_case(other) || is_any_address(one) || is_any_address(other);
    };
    one == other || covers(one, other) || covers(other, one)
}

/// Returns true for `::`, which also accepts IPv4, so any host name falls under it.
fn is_any_address(host: &str) -> bool {
    host.parse() == Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
}

/// Returns true if a listener on `all` receives connections to `one`.
fn covers(all: IpAddr, one: IpAddr) -> bool {
    if all == IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        return one.is_ipv4();
    }
    all == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// The address of a stream socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP port.
    Tcp(HostPort),
    /// A unix socket; the path has at most [`MAX_SOCKET_PATH`] bytes.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", printable_path(path)),
        }
    }
}

/// Returns true if the length of `path` allows a unix socket there.
pub fn is_socket_path(path: &Path) -> bool {
    (1..=MAX_SOCKET_PATH).contains(&path.as_os_str().len())
}

/// The peers that share a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// A unix socket, or this process.
    Local,
    /// An IPv4 address, or the same mapped to IPv6.
    V4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address: a single host usually has all addresses that
    /// begin with them.
    V6(u64),
}

impl Peer {
    /// The peer at this address; `None` is local.
    pub fn of(address: Option<SocketAddr>) -> Self {
        let Some(address) = address else { return Self::Local };
        match address.ip().to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local peers"),
            Self::V4(address) => address.fmt(f),
            Self::V6(prefix) => {
                write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(*prefix) << 64))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_compared_as_text() {
        let at = |host: &str, port| HostPort { host: host.into(), port };
        assert!(at("localhost", 80).is_taken_by(&at("Localhost", 80)));
        assert!(at("localhost", 80).is_taken_by(&at("::", 80)));
        assert!(!at("localhost", 80).is_taken_by(&at("127.0.0.1", 80)));
        assert!(!at("::", 80).is_taken_by(&at("::", 81)));
        assert!(!at("::", 0).is_taken_by(&at("::", 0)));
    }
}
