//! The gRPC server: decisions, health, reflection, and the services of other modules.

use std::sync::Arc;

use tokio::sync::watch;
use tonic::Status;

use super::{
    FILE_DESCRIPTORS, Grpc,
    connection::{ConnectionLimits, ConnectionServer},
    health,
    kept::AllKept,
    method::{Kind, Method, SMALL},
    pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer,
    routes::Services,
    unread::RecordUnread,
};
use crate::{
    budget::Budget,
    health::Health,
    listen::{Connection, Encryption, Listener},
    metrics::Metrics,
    service::{LARGEST_MESSAGE, Service},
    store::Store,
};

/// The longest message of a stream of reflection: the name of a file or a symbol. tonic keeps
/// a message that has not arrived whole.
const LONGEST_QUESTION: usize = 4 << 10;

/// The method of both versions of reflection.
const REFLECTION: Method = Method { name: "ServerReflectionInfo", kind: Kind::Streams };

/// The gRPC server.
#[derive(Debug)]
pub struct Server<S> {
    /// Decides.
    pub service: Arc<Service<S>>,
    /// Other services of the listener.
    pub others: Services,
    /// Reported to health checks.
    pub health: Arc<Health>,
    /// `None` for plaintext.
    pub encryption: Option<Arc<Encryption>>,
    /// The bounds on each connection.
    pub limits: ConnectionLimits,
    /// The bound on all calls in flight.
    pub budget: Arc<Budget>,
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
        let answer = |_: &Metrics, status: Status| status.into_http();
        let decisions = RecordUnread { server, service: Arc::clone(&service), answer };
        let health = health::server(Arc::clone(&metrics), self.health.subscribe(), stop.clone());
        let v1 = reflection().build_v1()?.max_decoding_message_size(LONGEST_QUESTION);
        let v1alpha = reflection().build_v1alpha()?.max_decoding_message_size(LONGEST_QUESTION);
        let methods = self
            .others
            .add(decisions, &[Method { name: "ShouldRateLimit", kind: Kind::Decision }])
            .add(
                health,
                &[
                    Method { name: "Check", kind: SMALL },
                    Method { name: "List", kind: SMALL },
                    Method { name: "Watch", kind: Kind::Watch },
                ],
            )
            .add(v1, &[REFLECTION])
            .add(v1alpha, &[REFLECTION])
            .methods();
        let calls = ConnectionServer {
            methods,
            service,
            limits: self.limits,
            kept: AllKept::new(self.budget.most()),
            budget: self.budget,
        };
        let calls = Arc::new(calls);
        let acceptor = Acceptor { calls, encryption: self.encryption };
        let serve = |connection| acceptor.clone().serve_connection(connection, stop.clone());
        listener.serve(stop.clone(), serve).await;
        Ok(())
    }
}

/// Serves a connection from its handshake on.
struct Acceptor<S> {
    calls: Arc<ConnectionServer<S>>,
    encryption: Option<Arc<Encryption>>,
}

impl<S> Clone for Acceptor<S> {
    fn clone(&self) -> Self {
        Self { calls: Arc::clone(&self.calls), encryption: self.encryption.clone() }
    }
}

impl<S: Store> Acceptor<S> {
    async fn serve_connection(self, mut connection: Connection, stop: watch::Receiver<bool>) {
        // The server can end a connection in order only after the client's preface.
        connection.expect_preface_before(stop.clone());
        let share = self.calls.budget.connect(connection.peer());
        if let Some(encryption) = &self.encryption {
            let Some(encrypted) = encryption.begin(connection, &share).await else { return };
            connection = encrypted;
        }
        self.calls.serve(connection, share, stop).await;
    }
}

fn reflection<'a>() -> tonic_reflection::server::Builder<'a> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTORS)
}
