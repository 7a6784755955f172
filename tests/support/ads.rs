//! A management server for rules, in upstream's own messages, that does what a
//! test tells it to.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use envoy_types::pb::{
    envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
        aggregated_discovery_service_server::{
            AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
        },
    },
    google::protobuf::Any,
    ratelimit::config::ratelimit::v3::{
        RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
    },
};
use prost::Message;
use tokio::{net::TcpListener, sync::mpsc, time};
use tokio_rustls::{TlsAcceptor, rustls};
use tokio_stream::{
    Stream,
    wrappers::{TcpListenerStream, UnboundedReceiverStream},
};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap, transport::Server};

use super::SOON;

pub const TYPE_URL: &str = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig";

/// The server; gone when it is dropped, with all connections.
#[derive(Debug)]
pub struct Ads {
    pub address: SocketAddr,
    streams: mpsc::UnboundedReceiver<Conversation>,
    _runtime: tokio::task::JoinSet<()>,
}

/// One stream, from the side of the server.
#[derive(Debug)]
pub struct Conversation {
    pub headers: MetadataMap,
    requests: Streaming<DiscoveryRequest>,
    responses: mpsc::UnboundedSender<Result<DiscoveryResponse, Status>>,
}

struct Service(mpsc::UnboundedSender<Conversation>);

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let (headers, _, requests) = request.into_parts();
        let (responses, receiver) = mpsc::unbounded_channel();
        self.0.send(Conversation { headers, requests, responses }).unwrap();
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }

    async fn delta_aggregated_resources(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only state of the world"))
    }
}

impl Ads {
    pub async fn start() -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").await.unwrap(), None)
    }

    /// With TLS, if there is a configuration for it.
    pub fn serve(listener: TcpListener, tls: Option<rustls::ServerConfig>) -> Self {
        let address = listener.local_addr().unwrap();
        let (sender, streams) = mpsc::unbounded_channel();
        let service = AggregatedDiscoveryServiceServer::new(Service(sender));
        let router = Server::builder().add_service(service);
        let mut runtime = tokio::task::JoinSet::new();
        match tls {
            None => {
                let incoming = TcpListenerStream::new(listener);
                runtime.spawn(async { router.serve_with_incoming(incoming).await.unwrap() });
            }
            Some(tls) => {
                let acceptor = TlsAcceptor::from(Arc::new(tls));
                let (accepted, incoming) = mpsc::unbounded_channel();
                runtime.spawn(async move {
                    loop {
                        let (socket, _) = listener.accept().await.unwrap();
                        if let Ok(connection) = acceptor.accept(socket).await {
                            accepted.send(Ok::<_, std::io::Error>(connection)).unwrap();
                        }
                    }
                });
                let incoming = UnboundedReceiverStream::new(incoming);
                runtime.spawn(async { router.serve_with_incoming(incoming).await.unwrap() });
            }
        }
        Self { address, streams, _runtime: runtime }
    }

    /// The next stream that is opened.
    pub async fn stream(&mut self) -> Conversation {
        time::timeout(SOON, self.streams.recv()).await.expect("a stream").unwrap()
    }
}

impl Conversation {
    /// What the client says next.
    pub async fn request(&mut self) -> DiscoveryRequest {
        let message = time::timeout(SOON, self.requests.message()).await;
        message.expect("a request in time").unwrap().expect("a request, not the end")
    }

    /// Whether the client says nothing for a moment.
    pub async fn is_silent(&mut self) -> bool {
        time::timeout(Duration::from_millis(200), self.requests.message()).await.is_err()
    }

    /// Sends all rules there are.
    pub fn send(&self, version: &str, nonce: &str, rules: &[RateLimitConfig]) {
        self.send_raw(version, nonce, rules.iter().map(resource).collect());
    }

    pub fn send_raw(&self, version: &str, nonce: &str, resources: Vec<Any>) {
        self.respond(DiscoveryResponse {
            version_info: version.into(),
            nonce: nonce.into(),
            type_url: TYPE_URL.into(),
            resources,
            ..Default::default()
        });
    }

    pub fn respond(&self, response: DiscoveryResponse) {
        self.responses.send(Ok(response)).unwrap();
    }

    /// Ends the stream with this status.
    pub fn fail(self, status: Status) {
        self.responses.send(Err(status)).unwrap();
    }
}

pub fn resource(config: &RateLimitConfig) -> Any {
    Any { type_url: TYPE_URL.into(), value: config.encode_to_vec() }
}

pub fn config(name: &str, descriptors: Vec<RateLimitDescriptor>) -> RateLimitConfig {
    RateLimitConfig { name: name.into(), domain: name.into(), descriptors }
}

pub fn node(key: &str, value: &str) -> RateLimitDescriptor {
    RateLimitDescriptor { key: key.into(), value: value.into(), ..Default::default() }
}

pub fn limited(mut node: RateLimitDescriptor, requests: u32) -> RateLimitDescriptor {
    node.rate_limit = Some(RateLimitPolicy {
        unit: RateLimitUnit::Year.into(),
        requests_per_unit: requests,
        ..Default::default()
    });
    node
}

/// A descriptor that goes on with others.
pub fn above(
    mut node: RateLimitDescriptor,
    descriptors: Vec<RateLimitDescriptor>,
) -> RateLimitDescriptor {
    node.descriptors = descriptors;
    node
}
