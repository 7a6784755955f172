//! Rules by xDS: the aggregated discovery service, state of the world. Every
//! response holds all rules there are.

use futures_util::TryFutureExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{Ascii, MetadataKey, MetadataValue},
    transport::Channel,
};

use self::pb::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{
            DiscoveryRequest, DiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
    google,
};
use crate::config::SourceTree;

mod resource;

/// The messages, generated from `proto/`.
#[allow(dead_code, missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
mod pb {
    include!(concat!(env!("OUT_DIR"), "/xds/proto.rs"));
}

/// The type of every resource that is asked for.
pub const TYPE_URL: &str = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig";

/// How many requests may wait for a server that does not read. There is one for
/// each response.
const WAITING: usize = 16;

/// A header of the call.
pub type Header = (MetadataKey<Ascii>, MetadataValue<Ascii>);

/// Who asks for rules, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// The name of this process.
    pub node: String,
    /// What else the server is told of this process.
    pub metadata: Vec<(String, String)>,
    /// Sent when a stream is opened.
    pub headers: Vec<Header>,
    /// The longest response that is read, in bytes.
    pub max_message: usize,
}

/// A stream of rules.
#[derive(Debug)]
pub struct Subscription {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
    /// What each request says, with the version that was accepted last.
    request: DiscoveryRequest,
}

/// All rules, as one response has them.
#[derive(Debug)]
pub struct Update {
    /// By which the server is answered.
    pub receipt: Receipt,
    /// The rules, by the names of their resources; else why they cannot be
    /// read.
    pub rules: Result<Vec<SourceTree>, String>,
}

/// Which response is answered.
#[derive(Debug)]
pub struct Receipt {
    /// The server's name for this state of the rules.
    pub version: String,
    nonce: String,
}

impl Subscription {
    /// Asks for all rules. `accepted` is the version that is in force, empty
    /// if there is none.
    ///
    /// It may be long until the server has something to say, and this does not
    /// return before.
    ///
    /// # Errors
    ///
    /// If the server refuses.
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
        let (requests, receiver) = mpsc::channel(WAITING);
        let mut call = Request::new(ReceiverStream::new(receiver));
        for (name, value) in &subscriber.headers {
            call.metadata_mut().append(name.clone(), value.clone());
        }
        send(&requests, request.clone())?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel)
            .max_decoding_message_size(subscriber.max_message);
        let responses =
            client.stream_aggregated_resources(call).map_ok(tonic::Response::into_inner).await?;
        Ok(Self { requests, responses, request })
    }

    /// The next state of the rules; none if the server ends the stream.
    ///
    /// # Errors
    ///
    /// If the stream breaks.
    pub async fn next(&mut self) -> Result<Option<Update>, Status> {
        let Some(response) = self.responses.message().await? else { return Ok(None) };
        let DiscoveryResponse { version_info, resources, type_url, nonce } = response;
        let rules = match type_url == TYPE_URL {
            true => resource::trees(resources),
            false => Err(format!("the response is of the type {type_url:?}, expected {TYPE_URL}")),
        };
        Ok(Some(Update { receipt: Receipt { version: version_info, nonce }, rules }))
    }

    /// Tells the server that the rules are in force.
    ///
    /// # Errors
    ///
    /// If the stream is broken.
    pub fn accept(&mut self, receipt: Receipt) -> Result<(), Status> {
        self.request.version_info = receipt.version;
        self.answer(receipt.nonce, None)
    }

    /// Tells the server why the rules are not in force.
    ///
    /// # Errors
    ///
    /// If the stream is broken.
    pub fn refuse(&mut self, receipt: Receipt, reason: String) -> Result<(), Status> {
        let code = Code::InvalidArgument.into();
        self.answer(receipt.nonce, Some(google::rpc::Status { code, message: reason }))
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
