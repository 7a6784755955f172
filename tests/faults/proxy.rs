//! A way to Redis that can be bad.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::sleep,
};

/// What is wrong with the way.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// How long everything takes longer, in milliseconds.
    delay: AtomicU64,
    /// New connections end at once.
    shut: AtomicBool,
    /// All connections end now.
    cut: Notify,
}

impl Faults {
    pub(crate) fn delay(&self, millis: u64) {
        self.delay.store(millis, Relaxed);
    }

    pub(crate) fn shut(&self, shut: bool) {
        self.shut.store(shut, Relaxed);
        if shut {
            self.cut.notify_waiters();
        }
    }

    /// Ends all connections, with a reset where anything is under way.
    pub(crate) fn cut(&self) {
        self.cut.notify_waiters();
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
                if faults.shut.load(Relaxed) {
                    return;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                // What has not been read when it is dropped is answered by a reset.
                let ((from, to), (back, answers)) = (client.into_split(), server.into_split());
                tokio::select! {
                    () = faults.cut.notified() => {}
                    () = forward(from, answers, &faults.delay) => {}
                    () = forward(back, to, &faults.delay) => {}
                }
            });
        }
    });
    (own, faults)
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    delay: &AtomicU64,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let delay = Duration::from_millis(delay.load(Relaxed));
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
