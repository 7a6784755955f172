//! A gRPC client that uses Envoy's own message types.

use std::net::SocketAddr;

use envoy_types::pb::{
    envoy::{
        extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
        service::ratelimit::v3::{
            RateLimitRequest, RateLimitResponse, rate_limit_service_client::RateLimitServiceClient,
        },
    },
    google::protobuf::UInt64Value,
};
use tonic::transport::{Channel, Endpoint};

pub type Client = RateLimitServiceClient<Channel>;

/// Opens a new connection.
pub async fn channel(to: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{to}")).unwrap();
    endpoint.connect().await.unwrap()
}

/// A client on a new connection.
pub async fn connect(to: SocketAddr) -> Client {
    let client = RateLimitServiceClient::new(channel(to).await);
    client.max_decoding_message_size(usize::MAX)
}

/// A request with one descriptor.
pub fn request_for(domain: &str, entries: &[(&str, &str)]) -> RateLimitRequest {
    RateLimitRequest {
        domain: domain.to_owned(),
        descriptors: vec![descriptor(entries)],
        hits_addend: 0,
    }
}

pub fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let mut descriptor = RateLimitDescriptor::default();
    for (key, value) in entries {
        descriptor.entries.push(Entry { key: (*key).to_owned(), value: (*value).to_owned() });
    }
    descriptor
}

/// Sets `hits_addend` of a descriptor.
pub fn with_hits(mut descriptor: RateLimitDescriptor, hits: u64) -> RateLimitDescriptor {
    descriptor.hits_addend = Some(UInt64Value { value: hits });
    descriptor
}

/// Sends a request. Panics unless the call succeeds.
pub async fn decide(client: &mut Client, request: RateLimitRequest) -> RateLimitResponse {
    client.should_rate_limit(request).await.unwrap().into_inner()
}

/// Whether the response metadata states that a policy decided in place of Redis.
/// `RESPONSE_DYNAMIC_METADATA` has to be `always`.
pub fn is_degraded(response: &RateLimitResponse) -> bool {
    let metadata = response.dynamic_metadata.as_ref().unwrap();
    metadata.fields.contains_key("degraded")
}
