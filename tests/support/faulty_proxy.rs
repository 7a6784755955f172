//! A TCP proxy that delays, drops and closes connections on demand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::Notify,
    time::{sleep, timeout},
};

use crate::{redis_cluster::Cluster, wait::eventually};

/// A proxy for a server on 127.0.0.1. It stops with the runtime.
#[derive(Clone, Debug)]
pub struct FaultyProxy {
    /// The port that the proxy listens on.
    pub port: u16,
    faults: Arc<Faults>,
}

/// The faults that are active.
#[derive(Debug, Default)]
struct Faults {
    /// Delay of each read in both directions, in milliseconds.
    delay: AtomicU64,
    /// Additional delay of replies, in milliseconds.
    reply_delay: AtomicU64,
    /// New connections are closed at once.
    refuses: AtomicBool,
    close: Notify,
    reset: Notify,
    /// The number of connections so far.
    accepted: AtomicU64,
    /// Everything that is sent is dropped. A connection that has lost data once stays
    /// silent for ever.
    drops: AtomicBool,
}

impl FaultyProxy {
    /// Starts a proxy for the server on `port`.
    pub async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            faults: Arc::new(Faults::default()),
        };
        let faults = Arc::clone(&proxy.faults);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let faults = Arc::clone(&faults);
                faults.accepted.fetch_add(1, Relaxed);
                tokio::spawn(async move {
                    if !faults.refuses.load(Relaxed) {
                        forward_connection(client, port, &faults).await;
                    }
                });
            }
        });
        proxy
    }

    /// Starts a proxy for each primary. From then on the nodes announce the ports of the
    /// proxies.
    pub async fn for_cluster(cluster: &Cluster) -> Vec<Self> {
        let mut proxies = Vec::new();
        for node in &cluster.primaries {
            let proxy = Self::start(node.client_port).await;
            let port = proxy.port.to_string();
            node.query::<()>(&["CONFIG", "SET", "cluster-announce-port", &port]);
            proxies.push(proxy);
        }
        for node in &cluster.primaries {
            eventually("the nodes to announce the ports of the proxies", || {
                let nodes: String = node.query(&["CLUSTER", "NODES"]);
                proxies.iter().all(|proxy| nodes.contains(&format!("127.0.0.1:{}@", proxy.port)))
            });
        }
        proxies
    }

    /// `127.0.0.1` and the port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The number of connections that clients have opened so far.
    pub fn accepted(&self) -> u64 {
        self.faults.accepted.load(Relaxed)
    }

    /// Delays requests and replies by so many milliseconds.
    pub fn set_delay(&self, millis: u64) {
        self.faults.delay.store(millis, Relaxed);
    }

    /// Delays replies by so many milliseconds.
    pub fn set_reply_delay(&self, millis: u64) {
        self.faults.reply_delay.store(millis, Relaxed);
    }

    /// Closes all connections, and each new one.
    pub fn refuse_connections(&self) {
        self.faults.refuses.store(true, Relaxed);
        self.close_connections();
    }

    /// Ends [`Self::refuse_connections`].
    pub fn accept_connections(&self) {
        self.faults.refuses.store(false, Relaxed);
    }

    /// Closes all connections as a server does at its end.
    pub fn close_connections(&self) {
        self.faults.close.notify_waiters();
    }

    /// Resets all connections as a host does after a reboot.
    pub fn reset_connections(&self) {
        self.faults.reset.notify_waiters();
    }

    /// Drops all data, as a network does in which packets are lost. Connections stay open,
    /// and those that lost data stay silent.
    pub fn start_dropping(&self) {
        self.faults.drops.store(true, Relaxed);
    }

    /// Ends [`Self::start_dropping`] for new connections and those that lost nothing.
    pub fn stop_dropping(&self) {
        self.faults.drops.store(false, Relaxed);
    }
}

/// Serves one connection until it ends.
async fn forward_connection(mut client: TcpStream, port: u16, faults: &Faults) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let reset = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let (silent, no_delay) = (AtomicBool::new(false), AtomicU64::new(0));
        let requests = Direction { faults, delay: &no_delay, silent: &silent };
        let replies = Direction { faults, delay: &faults.reply_delay, silent: &silent };
        tokio::select! {
            () = faults.reset.notified() => true,
            () = faults.close.notified() => false,
            () = requests.forward(from_client, to_server) => false,
            () = replies.forward(from_server, to_client) => false,
        }
    };
    if reset {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
        return;
    }
    // The kernel answers with a reset if data is unread when the socket is closed.
    let _ = client.shutdown().await;
    let mut rest = [0; 4 << 10];
    let drained = async { while let Ok(1..) = client.read(&mut rest).await {} };
    let _ = timeout(Duration::from_secs(1), drained).await;
}

/// One direction of a connection.
struct Direction<'a> {
    faults: &'a Faults,
    /// Delay of this direction, in milliseconds, besides the one of both.
    delay: &'a AtomicU64,
    /// The connection has lost data.
    silent: &'a AtomicBool,
}

impl Direction<'_> {
    async fn forward(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let delay = self.faults.delay.load(Relaxed) + self.delay.load(Relaxed);
            if delay > 0 {
                sleep(Duration::from_millis(delay)).await;
            }
            if self.faults.drops.load(Relaxed) {
                self.silent.store(true, Relaxed);
            }
            if !self.silent.load(Relaxed) && to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }
}
