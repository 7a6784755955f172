//! `tollgate hit`: asks a running service like Envoy would.

use std::{io, path::Path};

use axum::http::uri::Authority;
use bytes::Bytes;

use super::Status;
use crate::{
    descriptor::{Descriptor, Entry, Request},
    grpc::client::{self, CallError, ResponseCode},
    limit::Hits,
    net::{self, Address, HostPort},
    tls::client::ClientTls,
};

mod render;

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

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum HitError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The answer could not be written.
    #[error("cannot write the answer")]
    Output(#[from] io::Error),
}

/// Sends the request, and writes the answer to `out`.
///
/// # Errors
///
/// If the call fails, or if the answer cannot be written.
pub async fn run(hit: &Hit, out: &mut impl io::Write) -> Result<Status, HitError> {
    let result = client::call(&hit.address, hit.tls.as_ref(), &request(hit)).await;
    let response = result.map_err(printable)?;
    render::response(hit, &response, out)?;
    Ok(match response.code {
        ResponseCode::Ok => Status::Yes,
        ResponseCode::OverLimit => Status::No,
        ResponseCode::Unknown => Status::Failed,
    })
}

fn printable(error: CallError) -> CallError {
    match error {
        CallError::Status { address, code, message } => {
            CallError::Status { address, code, message: render::printable(&message) }
        }
        error => error,
    }
}

fn request(hit: &Hit) -> Request {
    let hits = hit.hits.unwrap_or(1);
    let hits = if hit.refund { Hits::Refund(hits) } else { Hits::Add(hits) };
    let mut descriptors = Vec::with_capacity(hit.descriptors.len());
    for entries in &hit.descriptors {
        descriptors.push(Descriptor {
            entries: entries.clone(),
            hits,
            has_own_hits: hit.hits.is_some(),
            limit: None,
        });
    }
    Request { domain: hit.domain.clone(), descriptors, hits_addend: 0 }
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
