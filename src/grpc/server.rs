//! The gRPC server: decisions, health, reflection.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};
use tonic::{
    service::Routes,
    transport::{self, server::Connected},
};
use tracing::{debug, error};

use super::{
    FILE_DESCRIPTORS, Grpc, health,
    pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer,
    unread::RecordUnread,
};
use crate::{
    health::Health,
    listen::{Connection, Listener},
    metrics::Metrics,
    service::{LARGEST_MESSAGE, Service},
    store::Store,
    tls::SharedServerConfig,
    warnings::WarningLimiter,
};

/// The most calls in flight on one connection: Envoy's own limit.
const MAX_STREAMS: u32 = 1024;
/// The interval of pings on an idle connection.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The gRPC server.
#[derive(Debug)]
pub struct Server<S> {
    /// Decides.
    pub service: Arc<Service<S>>,
    /// Reported to health checks.
    pub health: Arc<Health>,
    /// `None` for plaintext.
    pub tls: Option<SharedServerConfig>,
    /// The age at which a connection accepts no more calls, give or take a tenth.
    pub max_age: Option<Duration>,
    /// The time after `max_age` at which a connection is closed.
    pub max_age_grace: Option<Duration>,
}

impl<S: Store> Server<S> {
    /// Serves until `stop` is true, then until the calls in flight have ended.
    ///
    /// # Errors
    ///
    /// If the descriptors for reflection are invalid.
    pub async fn serve(
        self,
        listener: Listener,
        stop: watch::Receiver<bool>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let metrics = Arc::clone(&self.service.metrics);
        let service = self.service;
        let server = RateLimitServiceServer::new(Grpc(Arc::clone(&service)))
            .max_decoding_message_size(LARGEST_MESSAGE);
        let decisions = RecordUnread { server, service };
        let health = health::server(Arc::clone(&metrics), self.health.subscribe(), stop.clone());
        let routes = Routes::new(decisions)
            .add_service(health)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .prepare();
        let (max_age, max_age_grace) = (self.max_age, self.max_age_grace);
        let failed_handshakes = WarningLimiter::new(
            "a TLS handshake for gRPC failed",
            "TLS handshakes for gRPC failed",
        );
        let acceptor = Acceptor {
            routes,
            metrics,
            tls: self.tls,
            max_age,
            max_age_grace,
            failed_handshakes: Arc::new(failed_handshakes),
        };
        acceptor.serve(listener, stop).await;
        Ok(())
    }
}

/// Accepts connections and serves each in a task of its own.
#[derive(Clone)]
struct Acceptor {
    routes: Routes,
    metrics: Arc<Metrics>,
    tls: Option<SharedServerConfig>,
    max_age: Option<Duration>,
    max_age_grace: Option<Duration>,
    failed_handshakes: Arc<WarningLimiter>,
}

impl Acceptor {
    async fn serve(self, mut listener: Listener, mut stop: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            let connection = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                Some(ended) = connections.join_next() => {
                    log_panic(ended);
                    continue;
                }
                connection = listener.accept() => connection,
            };
            connections.spawn(self.clone().serve_connection(connection, stop.clone()));
        }
        drop(listener);
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    }

    async fn serve_connection(self, mut connection: Connection, stop: watch::Receiver<bool>) {
        // The server can end a connection in order only after the client's preface.
        let mut end = stop.clone();
        connection.expect_preface_before(async move { drop(end.wait_for(|stop| *stop).await) });
        let peer = connection.connect_info().remote_addr;
        let connection = match &self.tls {
            None => Ok(connection),
            Some(tls) => connection.encrypt(tls.load_full()).await,
        };
        match connection {
            Ok(connection) => self.serve_calls(connection, stop).await,
            Err(error) => {
                self.metrics.count_failed_handshake();
                let peer = peer.map_or("a Unix socket".to_owned(), |peer| peer.to_string());
                debug!("a TLS handshake with {peer} failed: {error}");
                self.failed_handshakes.warn(&format!("{peer}: {error}"));
            }
        }
    }

    /// Serves one connection with a tonic server of its own, because tonic has one
    /// maximum age for all connections of a server. The stream of connections stays
    /// open until this connection closes: its end would close the connection too.
    async fn serve_calls(self, mut connection: Connection, mut stop: watch::Receiver<bool>) {
        let mut server = transport::Server::builder()
            .max_concurrent_streams(MAX_STREAMS)
            .http2_keepalive_interval(Some(KEEPALIVE));
        if let Some(age) = self.max_age {
            let age = spread(age, fastrand::f64());
            server = server.max_connection_age(age);
            // tonic 0.14.9 has a grace of its own, which closes connections without
            // asking the client to leave first.
            if let Some(grace) = self.max_age_grace {
                connection.limit_age(age.saturating_add(grace));
            }
        }
        let closed = connection.closed();
        let end = async {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = closed => {}
            }
        };
        let connections = stream::iter([Ok::<_, Infallible>(connection)]).chain(stream::pending());
        let serving = server.add_routes(self.routes).serve_with_incoming_shutdown(connections, end);
        if let Err(error) = serving.await {
            debug!("a connection failed: {error}");
        }
    }
}

/// `age`, up to a tenth more or less for `random` from 0 to 1, so that connections
/// opened together do not end together.
fn spread(age: Duration, random: f64) -> Duration {
    age.saturating_sub(age / 10).saturating_add((age / 5).mul_f64(random))
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!("a connection failed: {error}");
    }
}

fn reflection<'a>() -> tonic_reflection::server::Builder<'a> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_differ_by_a_tenth_at_most() {
        for seconds in [0, 1, 86_400, u64::MAX] {
            let age = Duration::from_secs(seconds);
            let (least, most) = (spread(age, 0.0), spread(age, 1.0));
            assert!(least <= age && age <= most.saturating_add(Duration::from_nanos(10)));
            assert_eq!(spread(Duration::from_secs(100), 0.25), Duration::from_secs(95));
        }
        let ages: Vec<_> =
            (0..100).map(|_| spread(Duration::from_secs(1000), fastrand::f64())).collect();
        let (first, last) = (ages.iter().min().unwrap(), ages.iter().max().unwrap());
        assert!(Duration::from_secs(900) <= *first && *last <= Duration::from_secs(1100));
        assert!(Duration::from_secs(50) < *last - *first, "{first:?} {last:?}");
    }
}
