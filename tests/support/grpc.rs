//! The service over gRPC, in upstream's own messages.

use std::net::SocketAddr;

use envoy_types::pb::{
    envoy::{
        extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
        service::ratelimit::v3::{
            RateLimitRequest, rate_limit_service_client::RateLimitServiceClient,
        },
    },
    google::protobuf::UInt64Value,
};
use tonic::transport::{Channel, Endpoint};

pub type Client = RateLimitServiceClient<Channel>;

/// A connection of its own.
pub async fn channel(to: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{to}")).unwrap();
    endpoint.connect().await.unwrap()
}

/// A client on a connection of its own.
pub async fn connect(to: SocketAddr) -> Client {
    let client = RateLimitServiceClient::new(channel(to).await);
    client.max_decoding_message_size(usize::MAX)
}

/// A request about one descriptor.
pub fn ask(domain: &str, entries: &[(&str, &str)]) -> RateLimitRequest {
    RateLimitRequest {
        domain: domain.to_owned(),
        descriptors: vec![descriptor(entries)],
        hits_addend: 0,
    }
}

pub fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let entry =
        |&(key, value): &(&str, &str)| Entry { key: key.to_owned(), value: value.to_owned() };
    RateLimitDescriptor { entries: entries.iter().map(entry).collect(), ..Default::default() }
}

/// The descriptor with this number of hits.
pub fn charging(hits: u64, mut descriptor: RateLimitDescriptor) -> RateLimitDescriptor {
    descriptor.hits_addend = Some(UInt64Value { value: hits });
    descriptor
}
