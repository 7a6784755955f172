//! Serves the connections of a listener.

use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};
use tracing::error;

use super::{Connection, Listener};

impl Listener {
    /// Accepts connections until `stop` is true, and serves each in a task of its own.
    /// Returns once all of them have ended.
    pub async fn serve<F>(
        mut self,
        mut stop: watch::Receiver<bool>,
        mut serve: impl FnMut(Connection) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut connections = JoinSet::new();
        loop {
            let connection = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                Some(ended) = connections.join_next() => {
                    log_panic(ended);
                    continue;
                }
                connection = self.accept() => connection,
            };
            connections.spawn(serve(connection));
        }
        drop(self);
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    }
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!("a connection failed: {error}");
    }
}
