//! The gRPC server: decisions, health, reflection.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};
use tonic::{service::Routes, transport};
use tracing::{debug, error};

use crate::{
    health::Health,
    listen::{Connection, Listener},
    metrics::Metrics,
    store::Store,
    tls::SharedServerConfig,
    wire::{
        DESCRIPTORS, Grpc, LARGEST_MESSAGE, Service,
        pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer,
    },
};

mod health;

/// How many calls one connection may have in flight. Envoy's own limit.
const MOST_STREAMS: u32 = 1024;
/// How often a silent peer is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The gRPC server.
pub(super) struct Server<S> {
    pub(super) service: Arc<Service<S>>,
    pub(super) health: Arc<Health>,
    /// How connections are encrypted, if they are.
    pub(super) tls: Option<SharedServerConfig>,
    pub(super) max_age: Option<Duration>,
    pub(super) max_age_grace: Option<Duration>,
}

impl<S: Store> Server<S> {
    /// Serves until `stop` says so, and then until the calls in flight are
    /// answered.
    pub(super) async fn serve(
        self,
        listener: Listener,
        stop: watch::Receiver<bool>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let metrics = Arc::clone(&self.service.metrics);
        let decisions = RateLimitServiceServer::new(Grpc(self.service))
            .max_decoding_message_size(LARGEST_MESSAGE);
        let routes = Routes::new(decisions)
            .add_service(health::server(
                Arc::clone(&metrics),
                self.health.subscribe(),
                stop.clone(),
            ))
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .prepare();
        let (max_age, max_age_grace) = (self.max_age, self.max_age_grace);
        let lines = Lines { routes, metrics, tls: self.tls, max_age, max_age_grace };
        lines.serve(listener, stop).await;
        Ok(())
    }
}

/// What all connections have in common.
#[derive(Clone)]
struct Lines {
    routes: Routes,
    metrics: Arc<Metrics>,
    tls: Option<SharedServerConfig>,
    max_age: Option<Duration>,
    max_age_grace: Option<Duration>,
}

impl Lines {
    async fn serve(self, mut listener: Listener, mut stop: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            let connection = tokio::select! {
                _ = stop.wait_for(|it| *it) => break,
                Some(ended) = connections.join_next() => {
                    note(ended);
                    continue;
                }
                connection = listener.accept() => connection,
            };
            connections.spawn(self.clone().answer(connection, stop.clone()));
        }
        drop(listener);
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    }

    /// Serves one connection.
    async fn answer(self, mut connection: Connection, stop: watch::Receiver<bool>) {
        // HTTP/2 waits for the client's greeting before it says goodbye.
        let mut end = stop.clone();
        connection.expect_preface_before(async move { drop(end.wait_for(|it| *it).await) });
        let connection = match &self.tls {
            None => Ok(connection),
            Some(tls) => connection.encrypt(tls.load_full()).await,
        };
        match connection {
            Ok(connection) => self.speak(connection, stop).await,
            Err(error) => {
                self.metrics.count_failed_handshake();
                debug!("a client was refused: {error}");
            }
        }
    }

    /// A server of tonic has one age for all its connections, so each connection
    /// has a server of its own. It ends with the connection: a list of
    /// connections that ends would end them, too.
    async fn speak(self, mut connection: Connection, mut stop: watch::Receiver<bool>) {
        let mut server = transport::Server::builder()
            .max_concurrent_streams(MOST_STREAMS)
            .http2_keepalive_interval(Some(KEEPALIVE));
        if let Some(age) = self.max_age.map(|it| about(it, fastrand::f64())) {
            server = server.max_connection_age(age);
            // Not by tonic 0.14.9: told of a grace, it asks no connection to
            // end, and cuts each after both times.
            if let Some(grace) = self.max_age_grace {
                connection.limit_age(age.saturating_add(grace));
            }
        }
        let closed = connection.closed();
        let end = async {
            tokio::select! {
                _ = stop.wait_for(|it| *it) => {}
                () = closed => {}
            }
        };
        let connection = stream::iter([Ok::<_, Infallible>(connection)]).chain(stream::pending());
        let serving = server.add_routes(self.routes).serve_with_incoming_shutdown(connection, end);
        if let Err(error) = serving.await {
            debug!("a connection failed: {error}");
        }
    }
}

/// Returns `age`, up to a tenth shorter or longer as `random` (from 0 to 1) decides, so
/// that connections that were opened together are not closed together.
fn about(age: Duration, random: f64) -> Duration {
    age.saturating_sub(age / 10).saturating_add((age / 5).mul_f64(random))
}

fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!("a connection failed: {error}");
    }
}

fn reflection<'a>() -> tonic_reflection::server::Builder<'a> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_differ_by_a_tenth_at_most() {
        for seconds in [0, 1, 86_400, u64::MAX] {
            let age = Duration::from_secs(seconds);
            let (least, most) = (about(age, 0.0), about(age, 1.0));
            assert!(least <= age && age <= most.saturating_add(Duration::from_nanos(10)));
            assert_eq!(about(Duration::from_secs(100), 0.25), Duration::from_secs(95));
        }
        let ages: Vec<_> =
            (0..100).map(|_| about(Duration::from_secs(1000), fastrand::f64())).collect();
        let (first, last) = (ages.iter().min().unwrap(), ages.iter().max().unwrap());
        assert!(Duration::from_secs(900) <= *first && *last <= Duration::from_secs(1100));
        assert!(Duration::from_secs(50) < *last - *first, "{first:?} {last:?}");
    }
}
