//! Serves the connections of a listener.

use tokio::{
    sync::watch,
    task::{JoinError, JoinSet, yield_now},
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
            // Handshakes that have arrived are read before more connections are accepted.
            yield_now().await;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::listen::{ConnectionBounds, Purpose};

    /// Clients that all start at the same time, such as those of a deployment.
    #[tokio::test(start_paused = true)]
    async fn many_clients_that_start_at_once_are_served() {
        let bounds = ConnectionBounds { most: 100, most_per_peer: None };
        let (listener, dialer) = Listener::in_process(Purpose::Grpc, bounds);
        let (_running, stop) = watch::channel(false);
        let dialer = Arc::new(dialer);
        let mut clients = JoinSet::new();
        for _ in 0..90 {
            let dialer = Arc::clone(&dialer);
            clients.spawn(async move {
                let mut client = dialer.connect().await?;
                client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
                client.read_u8().await
            });
        }
        let echo = async |mut connection: Connection| {
            let mut preface = [0; 24];
            if connection.read_exact(&mut preface).await.is_ok() {
                let _ = connection.write_u8(1).await;
            }
        };
        let server = tokio::spawn(listener.serve(stop, echo));
        let mut served = 0;
        while let Some(answer) = clients.join_next().await {
            served += usize::from(answer.unwrap().is_ok());
        }
        server.abort();
        assert_eq!(served, 90);
    }
}
