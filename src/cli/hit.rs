//! `tollgate hit`: asks a running service like Envoy would.

use std::{error::Error, io, iter, path::Path, time::Duration};

use axum::http::uri::Authority;
use bytes::Bytes;
use tonic::transport::{Channel, Endpoint};

use super::Status;
use crate::{
    descriptor::Entry,
    net::{self, Address, HostPort},
    tls::client::ClientTls,
    wire::pb::envoy::{
        extensions::common::ratelimit::v3::{
            RateLimitDescriptor, rate_limit_descriptor::Entry as WireEntry,
        },
        service::ratelimit::v3::{
            RateLimitRequest, RateLimitResponse, rate_limit_response::Code,
            rate_limit_service_client::RateLimitServiceClient,
        },
    },
};

mod render;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// What to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Where the service listens for gRPC.
    pub address: Address,
    /// Set if the connection is encrypted.
    pub tls: Option<ClientTls>,
    /// Whose rules apply.
    pub domain: Bytes,
    /// Neither the list nor a descriptor is ever empty.
    pub descriptors: Vec<Vec<Entry>>,
    /// What each descriptor is charged; none leaves that to the service, which
    /// takes 1.
    pub hits: Option<u64>,
    /// Whether the hits are given back instead.
    pub refund: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HitError {
    /// The connection was refused.
    #[error("nothing listens at {0}; is tollgate running?")]
    NobodyThere(String),
    /// There is no connection for another reason.
    #[error("cannot connect to {0}: {1}")]
    NotConnected(String, String),
    /// The connection broke, or does not speak gRPC.
    #[error("the call to {0} failed: {1}; is that its gRPC port?")]
    Broken(String, String),
    /// The service reported an error.
    #[error("{0} answered {1:?}: {2}")]
    Status(String, tonic::Code, String),
    /// The answer could not be written.
    #[error("cannot write the answer")]
    Output(#[from] io::Error),
}

/// Asks, and shows the answer.
///
/// # Errors
///
/// If there is no answer, or nowhere to show it.
pub async fn run(hit: &Hit, out: &mut impl io::Write) -> Result<Status, HitError> {
    let address = || hit.address.to_string();
    let connection = connect(hit).await.map_err(|error| {
        if is_refused(&*error) {
            HitError::NobodyThere(address())
        } else {
            HitError::NotConnected(address(), root(&*error))
        }
    })?;
    let reply = RateLimitServiceClient::new(connection).should_rate_limit(request(hit)).await;
    let response = reply.map_err(|status| match status.source() {
        Some(cause) => HitError::Broken(address(), root(cause)),
        None => HitError::Status(address(), status.code(), render::printable(status.message())),
    })?;
    let response = response.into_inner();
    render::response(hit, &response, out)?;
    Ok(status(&response))
}

async fn connect(hit: &Hit) -> Result<Channel, Box<dyn Error + Send + Sync>> {
    let scheme = if hit.tls.is_some() { "https://" } else { "http://" };
    let (uri, host) = match &hit.address {
        Address::Tcp(address) => (format!("{scheme}{address}"), address.host.clone()),
        // Refused by tonic if it is to be encrypted.
        unix @ Address::Unix(_) => (unix.to_string(), String::new()),
    };
    let mut endpoint = Endpoint::from_shared(uri)?;
    if let Some(tls) = &hit.tls {
        endpoint = endpoint.tls_config(tls.clone().config(host)?)?;
    }
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(CALL_TIMEOUT).connect().await?)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&it| it.source())
}

fn is_refused(error: &(dyn Error + 'static)) -> bool {
    causes(error)
        .filter_map(|it| it.downcast_ref::<io::Error>())
        .any(|it| it.kind() == io::ErrorKind::ConnectionRefused)
}

/// The last cause says most: those above it only say that there was one.
fn root(error: &(dyn Error + 'static)) -> String {
    causes(error).last().unwrap_or(error).to_string()
}

fn status(response: &RateLimitResponse) -> Status {
    match response.overall_code() {
        Code::Ok => Status::Yes,
        Code::OverLimit => Status::No,
        Code::Unknown => Status::Failed,
    }
}

fn request(hit: &Hit) -> RateLimitRequest {
    let entry = |it: &Entry| WireEntry { key: it.key.clone(), value: it.value.clone() };
    let descriptor = |entries: &Vec<Entry>| RateLimitDescriptor {
        entries: entries.iter().map(entry).collect(),
        limit: None,
        hits_addend: hit.hits,
        is_negative_hits: hit.refund,
    };
    RateLimitRequest {
        domain: hit.domain.clone(),
        descriptors: hit.descriptors.iter().map(descriptor).collect(),
        hits_addend: 0,
    }
}

/// Parses `key=value,key2=value2`. Only the first `=` of a pair divides it, and
/// `\,` stands for a comma. Any bytes; a value may be empty, a key may not.
///
/// # Errors
///
/// What was expected.
pub fn parse_descriptor(text: &[u8]) -> Result<Vec<Entry>, &'static str> {
    pairs(text).iter().map(|it| parse_entry(it)).collect()
}

fn parse_entry(pair: &[u8]) -> Result<Entry, &'static str> {
    let divided = pair.iter().position(|&it| it == b'=').filter(|&it| 0 < it);
    let at = divided.ok_or("expected key=value,key=value and so on")?;
    let part = Bytes::copy_from_slice;
    Ok(Entry { key: part(&pair[..at]), value: part(&pair[at + 1..]) })
}

fn pairs(text: &[u8]) -> Vec<Vec<u8>> {
    let mut pairs = Vec::new();
    let mut pair = Vec::new();
    let mut rest = text;
    loop {
        rest = match rest {
            [b'\\', b',', rest @ ..] => {
                pair.push(b',');
                rest
            }
            [b',', rest @ ..] => {
                pairs.push(std::mem::take(&mut pair));
                rest
            }
            [byte, rest @ ..] => {
                pair.push(*byte);
                rest
            }
            [] => {
                pairs.push(pair);
                return pairs;
            }
        };
    }
}

/// Where the service listens unless it is told otherwise.
pub fn default_address() -> Address {
    Address::Tcp(HostPort { host: "localhost".to_owned(), port: 8081 })
}

/// Parses `host:port` and `unix:path`.
///
/// # Errors
///
/// What was expected.
pub fn parse_address(text: &str) -> Result<Address, &'static str> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = Some(Path::new(path)).filter(|it| net::is_socket_path(it));
        return path.map(|it| Address::Unix(it.into())).ok_or("expected the path of a unix socket");
    }
    let authority = text.parse::<Authority>().ok().filter(|it| !it.as_str().contains('@'));
    let address = authority.and_then(|it| {
        let host = it.host().trim_matches(['[', ']']);
        Some(HostPort { host: host.to_owned(), port: it.port_u16()? })
    });
    let address = address.filter(|it| !it.host.is_empty());
    address.map(Address::Tcp).ok_or("expected host:port, such as localhost:8081, or unix:path")
}

#[cfg(test)]
mod tests;
