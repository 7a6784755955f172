//! An xDS management server whose responses are written by the test, with Envoy's own
//! message types.

use std::{net::SocketAddr, pin::Pin, time::Duration};

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
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet, time};
use tokio_rustls::rustls;
use tokio_stream::{Stream, wrappers::UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap, transport::Server};

use crate::{tonic_server, wait::TIMEOUT};

pub const TYPE_URL: &str = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig";

/// The server. Dropping it closes all connections.
#[derive(Debug)]
pub struct XdsServer {
    pub address: SocketAddr,
    streams: mpsc::UnboundedReceiver<XdsStream>,
    _tasks: JoinSet<()>,
}

/// The server side of one stream.
#[derive(Debug)]
pub struct XdsStream {
    pub headers: MetadataMap,
    requests: Streaming<DiscoveryRequest>,
    responses: mpsc::UnboundedSender<Result<DiscoveryResponse, Status>>,
}

struct Service(mpsc::UnboundedSender<XdsStream>);

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
        self.0.send(XdsStream { headers, requests, responses }).unwrap();
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }

    async fn delta_aggregated_resources(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only state of the world"))
    }
}

impl XdsServer {
    pub async fn start() -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").await.unwrap(), None)
    }

    /// Serves on `listener`, with TLS if `tls` is set.
    pub fn serve(listener: TcpListener, tls: Option<rustls::ServerConfig>) -> Self {
        let address = listener.local_addr().unwrap();
        let (sender, streams) = mpsc::unbounded_channel();
        let service = AggregatedDiscoveryServiceServer::new(Service(sender));
        let router = Server::builder().add_service(service);
        let tasks = tonic_server::serve(router, listener, tls);
        Self { address, streams, _tasks: tasks }
    }

    /// Waits for the next stream of the client.
    pub async fn accept(&mut self) -> XdsStream {
        time::timeout(TIMEOUT, self.streams.recv()).await.expect("a stream").unwrap()
    }
}

impl XdsStream {
    /// Waits for the next request.
    pub async fn next_request(&mut self) -> DiscoveryRequest {
        let message = time::timeout(TIMEOUT, self.requests.message()).await;
        message.expect("a request in time").unwrap().expect("a request, not the end")
    }

    /// Whether the client sends nothing for a short time.
    pub async fn sends_nothing(&mut self) -> bool {
        time::timeout(Duration::from_millis(200), self.requests.message()).await.is_err()
    }

    /// Sends rules that replace all earlier ones.
    pub fn send(&self, version: &str, nonce: &str, rules: &[RateLimitConfig]) {
        self.send_raw(version, nonce, rules.iter().map(encode).collect());
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

pub fn encode(config: &RateLimitConfig) -> Any {
    Any { type_url: TYPE_URL.into(), value: config.encode_to_vec() }
}

pub fn domain_config(name: &str, descriptors: Vec<RateLimitDescriptor>) -> RateLimitConfig {
    RateLimitConfig { name: name.into(), domain: name.into(), descriptors }
}

pub fn rule(key: &str, value: &str) -> RateLimitDescriptor {
    RateLimitDescriptor { key: key.into(), value: value.into(), ..Default::default() }
}

/// Adds a limit per year.
pub fn with_limit(mut rule: RateLimitDescriptor, requests: u32) -> RateLimitDescriptor {
    rule.rate_limit = Some(RateLimitPolicy {
        unit: RateLimitUnit::Year.into(),
        requests_per_unit: requests,
        ..Default::default()
    });
    rule
}

/// Nests other rules below a rule.
pub fn with_children(
    mut rule: RateLimitDescriptor,
    descriptors: Vec<RateLimitDescriptor>,
) -> RateLimitDescriptor {
    rule.descriptors = descriptors;
    rule
}
