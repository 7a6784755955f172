//! Reads of files that may never end, as on a network file system whose server is gone.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    task::{self, JoinError},
    time,
};

/// The time after which a read is given up. Its thread continues.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
/// The number of threads that reads occupy. Once each has a read that does not end, the
/// next read waits until one ends.
const MAX_THREADS: usize = 16;

/// Runs reads on threads of their own, and notices those that do not end.
#[derive(Clone, Debug)]
pub(super) struct Reads {
    pub(super) timeout: Duration,
    threads: Arc<Semaphore>,
}

/// The reason why a read has no result.
#[derive(Debug)]
pub(super) enum ReadFailure {
    /// It did not end in time.
    Hung,
    Panicked(JoinError),
}

impl Reads {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, threads: Arc::new(Semaphore::new(MAX_THREADS)) }
    }

    /// Calls `read` on another thread, and waits for its result or the timeout.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ReadFailure> {
        // Only a closed semaphore has no permit, and it is never closed.
        let thread = Arc::clone(&self.threads).acquire_owned().await.ok();
        let read = task::spawn_blocking(move || {
            let _thread = thread;
            read()
        });
        match time::timeout(self.timeout, read).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(panic)) => Err(ReadFailure::Panicked(panic)),
            Err(_) => Err(ReadFailure::Hung),
        }
    }
}
