//! A way to Redis that can be bad.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
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

use crate::cluster_servers::{Cluster, Node};

/// What is wrong with the way.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// How long everything takes longer, in milliseconds.
    delay: AtomicU64,
    /// How long answers take longer, in milliseconds.
    late: AtomicU64,
    /// New connections end at once.
    shut: AtomicBool,
    /// All connections end now, in good order.
    cut: Notify,
    /// All connections are reset now.
    reset: Notify,
    /// What is sent vanishes, and so does what is sent later by connections that
    /// have lost something.
    hole: AtomicBool,
}

impl Faults {
    pub(crate) fn delay(&self, millis: u64) {
        self.delay.store(millis, Relaxed);
    }

    /// Lets the server answer later, by so many milliseconds.
    pub(crate) fn late(&self, millis: u64) {
        self.late.store(millis, Relaxed);
    }

    pub(crate) fn shut(&self, shut: bool) {
        self.shut.store(shut, Relaxed);
        if shut {
            self.cut.notify_waiters();
        }
    }

    /// Ends all connections, as a server does that ends.
    pub(crate) fn cut(&self) {
        self.cut.notify_waiters();
    }

    /// Resets all connections, as a host does that knows nothing of them any more.
    pub(crate) fn reset(&self) {
        self.reset.notify_waiters();
    }

    /// Whether everything vanishes that is sent, as if nobody were there any more.
    /// Connections stay open, and those that were used meanwhile stay dead.
    pub(crate) fn hole(&self, hole: bool) {
        self.hole.store(hole, Relaxed);
    }
}

/// Forwards to `port`; the port where, and what can be made wrong.
pub(crate) async fn proxy(port: u16) -> (u16, Arc<Faults>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let faults = Arc::new(Faults::default());
    let shared = Arc::clone(&faults);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let faults = Arc::clone(&shared);
            tokio::spawn(async move {
                if !faults.shut.load(Relaxed) {
                    connect(client, port, &faults).await;
                }
            });
        }
    });
    (own, faults)
}

/// Ways to the nodes of a cluster, by which they are known from now on.
pub(crate) async fn proxies(cluster: &Cluster) -> (Vec<u16>, Vec<Arc<Faults>>) {
    let (mut ports, mut ways) = (Vec::new(), Vec::new());
    for node in &cluster.primaries {
        let (port, way) = proxy(node.service).await;
        node.ask(&["CONFIG", "SET", "cluster-announce-port", &port.to_string()]);
        ports.push(port);
        ways.push(way);
    }
    let begin = Instant::now();
    let knows = |it: &Node| {
        let nodes = it.text(&["CLUSTER", "NODES"]);
        ports.iter().all(|port| nodes.contains(&format!("127.0.0.1:{port}@")))
    };
    while !cluster.primaries.iter().all(knows) {
        assert!(begin.elapsed() < Duration::from_secs(20), "the nodes keep their ports");
        sleep(Duration::from_millis(20)).await;
    }
    (ports, ways)
}

/// Serves one connection to its end.
async fn connect(mut client: TcpStream, port: u16, faults: &Faults) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let reset = {
        let ((from, to), (back, answers)) = (client.split(), server.split());
        let (dead, on_time) = (AtomicBool::new(false), AtomicU64::new(0));
        tokio::select! {
            () = faults.reset.notified() => true,
            () = faults.cut.notified() => false,
            () = forward(from, answers, (faults, &on_time), &dead) => false,
            () = forward(back, to, (faults, &faults.late), &dead) => false,
        }
    };
    if reset {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
        return;
    }
    // What has not been read when it is dropped would be answered by a reset.
    let _ = client.shutdown().await;
    let mut rest = [0; 4 << 10];
    let drained = async { while let Ok(1..) = client.read(&mut rest).await {} };
    let _ = timeout(Duration::from_secs(1), drained).await;
}

async fn forward(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    (faults, late): (&Faults, &AtomicU64),
    dead: &AtomicBool,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let delay = Duration::from_millis(faults.delay.load(Relaxed) + late.load(Relaxed));
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if faults.hole.load(Relaxed) {
            dead.store(true, Relaxed);
        }
        if !dead.load(Relaxed) && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
