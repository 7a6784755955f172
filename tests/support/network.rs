//! Addresses for servers, chosen so that tests which run at the same time do not
//! take them from each other.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

/// The port of [`unused_address`]. The kernel does not use it for outgoing connections.
const PORT: u16 = 62_000;

/// Below the range that the kernel takes ports for outgoing connections from, also
/// after [`CLUSTER_BUS_OFFSET`] is added.
const FIRST_PORT: u32 = 10_000;
const PORTS: u32 = 12_000;

/// The distance between the ports of a Redis Cluster node and of its cluster bus.
const CLUSTER_BUS_OFFSET: u16 = 10_000;

/// A loopback address that nothing else listens on.
///
/// Linux accepts connections for all of 127.0.0.0/8 without configuration. The address
/// is made of the process ID and a counter, so it differs between the servers of one
/// test process and between test processes.
pub fn unused_host() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = NEXT.fetch_add(1, Ordering::Relaxed) & 0x1ff;
    // 127.64.0.0 to 127.191.255.255: 14 bits of the process ID, 9 of the counter.
    let number = (64 << 16) + ((std::process::id() & 0x3fff) << 9) + count;
    let [_, a, b, c] = number.to_be_bytes();
    Ipv4Addr::new(127, a, b, c)
}

/// An address that refuses connections until the test itself listens on it.
pub fn unused_address() -> SocketAddr {
    (unused_host(), PORT).into()
}

/// A free TCP port of 127.0.0.1 whose cluster bus port is free as well.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test processes that run at the same time begin at different ports.
    let begin = std::process::id().wrapping_mul(193);
    loop {
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + begin.wrapping_add(count) % PORTS;
        let port = u16::try_from(port).unwrap();
        if is_free(port) && is_free(port + CLUSTER_BUS_OFFSET) {
            return port;
        }
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}
