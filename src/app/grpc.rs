//! The gRPC server: decisions, health, reflection.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use futures_util::stream;
use tokio::sync::watch;
use tonic::{service::Routes, transport};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    health::{Health, State},
    listen::Listener,
    store::Store,
    wire::{
        DESCRIPTORS, Grpc, LARGEST_MESSAGE, Service,
        pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer,
    },
};

/// The names by which health is asked for: of the process, and of the service
/// as Envoy's reference service calls it.
const HEALTH_NAMES: [&str; 2] = ["", "ratelimit"];

/// How many calls one connection may have in flight. Envoy's own limit.
const MOST_STREAMS: u32 = 1024;
/// How often a silent peer is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The gRPC server.
pub(super) struct Server<S> {
    pub(super) service: Arc<Service<S>>,
    pub(super) health: Arc<Health>,
    pub(super) max_age: Option<Duration>,
    pub(super) max_age_grace: Option<Duration>,
}

impl<S: Store> Server<S> {
    /// Serves until `stop`, and then until the calls in flight are answered.
    pub(super) async fn serve(
        self,
        mut listener: Listener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (reporter, health) = tonic_health::server::health_reporter();
        let decisions = RateLimitServiceServer::new(Grpc(self.service))
            .max_decoding_message_size(LARGEST_MESSAGE);
        let routes = Routes::new(decisions)
            .add_service(health)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
        let mut server = transport::Server::builder()
            .max_concurrent_streams(MOST_STREAMS)
            .http2_keepalive_interval(Some(KEEPALIVE));
        if let Some(age) = self.max_age {
            server = server.max_connection_age(age);
            // Not by tonic 0.14.9: told of a grace, it asks no connection to
            // end, and cuts each after both times.
            if let Some(grace) = self.max_age_grace {
                listener.limit_life(age.saturating_add(grace));
            }
        }
        let mut clearing = reporter.clone();
        let stop = async move {
            stop.await;
            // Ends the calls that watch: they would hold the exit open.
            for name in HEALTH_NAMES {
                clearing.clear_service_status(name).await;
            }
        };
        let connections = stream::unfold(listener, async |listener| {
            let (connection, _) = listener.accept().await;
            Some((Ok::<_, Infallible>(connection), listener))
        });
        let serving = server.add_routes(routes).serve_with_incoming_shutdown(connections, stop);
        tokio::select! {
            served = serving => Ok(served?),
            never = report(reporter, self.health.subscribe()) => match never {},
        }
    }
}

/// Tells those who ask for health by gRPC what is known of it.
async fn report(reporter: HealthReporter, mut health: watch::Receiver<State>) -> Infallible {
    loop {
        let healthy = health.borrow_and_update().is_healthy();
        let status = if healthy { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in HEALTH_NAMES {
            reporter.set_service_status(name, status).await;
        }
        if health.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn reflection<'a>() -> tonic_reflection::server::Builder<'a> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
