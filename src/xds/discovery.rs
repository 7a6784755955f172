//! The client of the aggregated discovery service (ADS), in the state-of-the-world
//! protocol: every response holds all rules.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{Ascii, MetadataKey, MetadataValue},
    transport::Channel,
};

use self::{
    pb::{
        envoy::{
            config::core::v3::Node,
            service::discovery::v3::{
                DiscoveryRequest, DiscoveryResponse,
                aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
            },
        },
        google,
    },
    resource::TYPE_URL,
};
use crate::config::SourceTree;

mod pb;
mod resource;

/// The largest number of requests that the server has not read yet. There is one request
/// for each response.
const MAX_UNREAD_REQUESTS: usize = 16;

/// A header that is sent when a stream is opened.
pub type Header = (MetadataKey<Ascii>, MetadataValue<Ascii>);

/// The identity of this process to the server, and the bounds of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// The ID of this process as an xDS node.
    pub node: String,
    /// The metadata of the node: keys and values.
    pub metadata: Vec<(String, String)>,
    /// Additional headers of each stream.
    pub headers: Vec<Header>,
    /// The largest accepted response, in bytes.
    pub max_message: usize,
}

/// An open stream of rules.
#[derive(Debug)]
pub struct Subscription {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
    /// The common part of all requests, with the last accepted version.
    request: DiscoveryRequest,
}

/// The content of one response: all rules.
#[derive(Debug)]
pub struct Update {
    /// The version of the rules. Must be accepted or rejected.
    pub version: Version,
    /// The rules in order of their resource names, or the reason why they are malformed.
    pub rules: Result<Vec<SourceTree>, String>,
}

/// A version of the rules.
#[derive(Debug)]
pub struct Version {
    /// The server's name of the version.
    pub name: String,
    /// Identifies the response in the answer to the server.
    nonce: String,
}

impl Subscription {
    /// Opens a stream and requests all rules. `accepted` is the active version, or empty.
    ///
    /// Waits for the headers of the server, which may send them only with the first
    /// rules.
    ///
    /// # Errors
    ///
    /// If the server refuses the call, or if the connection fails.
    pub async fn open(
        channel: Channel,
        subscriber: &Subscriber,
        accepted: String,
    ) -> Result<Self, Status> {
        let request = DiscoveryRequest {
            version_info: accepted,
            node: Some(Node {
                id: subscriber.node.clone(),
                metadata: resource::metadata(&subscriber.metadata),
            }),
            type_url: TYPE_URL.to_owned(),
            ..DiscoveryRequest::default()
        };
        let (requests, receiver) = mpsc::channel(MAX_UNREAD_REQUESTS);
        let mut call = Request::new(ReceiverStream::new(receiver));
        for (name, value) in &subscriber.headers {
            call.metadata_mut().append(name.clone(), value.clone());
        }
        send(&requests, request.clone())?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel)
            .max_decoding_message_size(subscriber.max_message);
        let responses = client.stream_aggregated_resources(call).await?;
        Ok(Self { requests, responses: responses.into_inner(), request })
    }

    /// Waits for the next version of the rules. Returns `None` if the server ends the
    /// stream.
    ///
    /// # Errors
    ///
    /// If the stream fails.
    pub async fn next(&mut self) -> Result<Option<Update>, Status> {
        let Some(response) = self.responses.message().await? else { return Ok(None) };
        let DiscoveryResponse { version_info, resources, type_url, nonce } = response;
        let rules = if type_url == TYPE_URL {
            resource::trees(resources)
        } else {
            let found: String = type_url.chars().take(resource::MAX_QUOTED_CHARS).collect();
            Err(format!("the response is of the type {found:?}, expected {TYPE_URL}"))
        };
        Ok(Some(Update { version: Version { name: version_info, nonce }, rules }))
    }

    /// Acknowledges `version` to the server: its rules are active.
    ///
    /// # Errors
    ///
    /// If the stream has failed.
    pub fn accept(&mut self, version: Version) -> Result<(), Status> {
        self.request.version_info = version.name;
        self.answer(version.nonce, None)
    }

    /// Rejects `version` with a reason for the server: its rules are not active.
    ///
    /// # Errors
    ///
    /// If the stream has failed.
    pub fn reject(&mut self, version: Version, reason: String) -> Result<(), Status> {
        let code = Code::InvalidArgument.into();
        self.answer(version.nonce, Some(google::rpc::Status { code, message: reason }))
    }

    fn answer(
        &mut self,
        response_nonce: String,
        error_detail: Option<google::rpc::Status>,
    ) -> Result<(), Status> {
        let request = DiscoveryRequest { response_nonce, error_detail, ..self.request.clone() };
        send(&self.requests, request)
    }
}

fn send(to: &mpsc::Sender<DiscoveryRequest>, request: DiscoveryRequest) -> Result<(), Status> {
    to.try_send(request).map_err(|_| Status::unavailable("the server does not read its answers"))
}
