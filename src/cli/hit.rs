//! `tollgate hit`: sends one request to a running service, as Envoy would.

use std::{io, path::Path};

use axum::http::uri::Authority;
use bytes::Bytes;

use super::exit::CommandStatus;
use crate::{
    descriptor::{Descriptor, Entry, Request},
    explain::notation::printable,
    grpc::client::{self, CallError, Response, ResponseCode},
    limit::Hits,
    net::{self, Address, HostPort},
    trust::ClientTls,
};

pub(super) mod render;
mod unmatched;

/// The arguments of `tollgate hit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The gRPC address of the service.
    pub address: Address,
    /// `None` connects without TLS.
    pub tls: Option<ClientTls>,
    /// The domain of the rules to apply.
    pub domain: Bytes,
    /// At least one descriptor, each with at least one entry.
    pub descriptors: Vec<Vec<Entry>>,
    /// The hits to charge for each descriptor. `None` leaves it to the service,
    /// which charges 1.
    pub hits: Option<u64>,
    /// Set to refund the hits instead.
    pub refund: bool,
    /// The port of the service's HTTP pages, which name its rules.
    pub http_port: u16,
}

/// The reason why `tollgate hit` failed.
#[derive(Debug, thiserror::Error)]
pub enum HitError {
    /// The service returned no answer.
    #[error("{error}{advice}")]
    Call {
        /// The cause.
        error: CallError,
        /// The flags that may help; may be empty.
        advice: &'static str,
    },
    /// The answer cannot be written.
    #[error("cannot write the answer")]
    Output(#[from] io::Error),
}

/// Sends the request, and writes the answer to `out`. Descriptors to which no rule applies
/// are named on `errors`. Returns [`CommandStatus::Positive`] if the request is allowed and
/// a rule applies to each descriptor.
///
/// # Errors
///
/// If there is no answer, or the output cannot be written.
pub async fn run(
    hit: &Hit,
    out: &mut impl io::Write,
    errors: &mut impl io::Write,
) -> Result<CommandStatus, HitError> {
    let response = call(hit).await?;
    let descriptors: Vec<_> = hit.descriptors.iter().map(Vec::as_slice).collect();
    render::response(&descriptors, &response, out)?;
    out.flush()?;
    let unmatched = unmatched::descriptors(&hit.descriptors, &response);
    if !unmatched.is_empty() {
        unmatched::report(hit, &unmatched, errors).await?;
    }
    Ok(match response.code {
        ResponseCode::Ok if !unmatched.is_empty() => CommandStatus::Unmatched,
        ResponseCode::Ok => CommandStatus::Positive,
        ResponseCode::OverLimit => CommandStatus::Negative,
        ResponseCode::Unknown => CommandStatus::Failed,
    })
}

/// Sends the request.
pub(super) async fn call(hit: &Hit) -> Result<Response, HitError> {
    let result = client::call(&hit.address, hit.tls.as_ref(), &request(hit)).await;
    result.map_err(|error| explain(error, hit.tls.as_ref()))
}

/// Texts in errors of the libraries for TLS and gRPC, and advice that follows them.
const ADVICE: [(&str, &str); 8] = [
    ("UnknownIssuer", "; name the CA certificate of the service with --grpc-server-ca-file"),
    (
        "CertificateRequired",
        "; the service requires a client certificate: --grpc-cert-file and --grpc-key-file",
    ),
    ("UnknownCA", "; the service does not trust the client certificate of --grpc-cert-file"),
    (
        "InvalidContentType",
        "; this port does not use TLS: omit --grpc-use-tls, or name the gRPC port, 8081 by default",
    ),
    (
        "NoApplicationProtocol",
        "; this port does not speak gRPC: name the gRPC port, 8081 by default",
    ),
    (
        "invalid compression flag",
        "; this is an HTTP port, and gRPC is on GRPC_PORT, 8081 by default",
    ),
    ("requires HTTP/1.1", "; this is an HTTP port, and gRPC is on GRPC_PORT, 8081 by default"),
    ("404 Not Found", "; this is an HTTP port, and gRPC is on GRPC_PORT, 8081 by default"),
];

/// Advice if the service closed the connection without a reason.
fn advice_if_closed(tls: Option<&ClientTls>) -> &'static str {
    match tls {
        None => " gRPC is on GRPC_PORT, 8081 by default; if it uses TLS, set --grpc-use-tls",
        // Its reason, an alert of TLS, can be lost with the connection.
        Some(tls) if tls.identity.is_none() => {
            " If it requires a client certificate, set --grpc-cert-file and --grpc-key-file"
        }
        Some(_) => "",
    }
}

/// Adds advice, and escapes control characters in the text of the service.
fn explain(error: CallError, tls: Option<&ClientTls>) -> HitError {
    let text = error.to_string();
    let mut advice =
        if text.ends_with("is that its gRPC port?") { advice_if_closed(tls) } else { "" };
    for (part, advised) in ADVICE {
        if text.contains(part) {
            advice = advised;
            break;
        }
    }
    let error = match error {
        CallError::Status { address, code, message } => {
            CallError::Status { address, code, message: printable(&message) }
        }
        error => error,
    };
    HitError::Call { error, advice }
}

pub(super) fn request(hit: &Hit) -> Request {
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

/// Parses `key=value,key2=value2`. The first `=` of a pair ends its key, and
/// `\,` stands for a comma. Other bytes are taken as they are; a value may be
/// empty, a key may not.
///
/// # Errors
///
/// If a pair has no key. The error is the expected form.
pub fn parse_descriptor(text: &[u8]) -> Result<Vec<Entry>, &'static str> {
    let mut entries = Vec::new();
    for pair in split_pairs(text) {
        entries.push(parse_entry(&pair)?);
    }
    Ok(entries)
}

fn parse_entry(pair: &[u8]) -> Result<Entry, &'static str> {
    match pair.iter().position(|byte| *byte == b'=') {
        None | Some(0) => Err("expected key=value,key=value and so on"),
        Some(equals) => Ok(Entry {
            key: Bytes::copy_from_slice(&pair[..equals]),
            value: Bytes::copy_from_slice(&pair[equals + 1..]),
        }),
    }
}

fn split_pairs(text: &[u8]) -> Vec<Vec<u8>> {
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

/// The port of HTTP of a service with default settings.
pub const HTTP_PORT: u16 = 8080;

/// The gRPC address of a service with default settings.
pub fn default_address() -> Address {
    Address::Tcp(HostPort { host: "localhost".to_owned(), port: 8081 })
}

/// Parses `host:port` and `unix:path`.
///
/// # Errors
///
/// If `text` has another form. The error is the expected form.
pub fn parse_address(text: &str) -> Result<Address, &'static str> {
    const EXPECTED: &str = "expected host:port, such as localhost:8081, or unix:path";
    if let Some(path) = text.strip_prefix("unix:") {
        let path = Path::new(path);
        if !net::is_socket_path(path) {
            return Err("expected the path of a unix socket");
        }
        return Ok(Address::Unix(path.into()));
    }
    let Ok(authority) = text.parse::<Authority>() else { return Err(EXPECTED) };
    let host = authority.host().trim_matches(['[', ']']);
    match authority.port_u16() {
        Some(port) if !host.is_empty() && !text.contains('@') => {
            Ok(Address::Tcp(HostPort { host: host.to_owned(), port }))
        }
        _ => Err(EXPECTED),
    }
}

#[cfg(test)]
mod tests;
