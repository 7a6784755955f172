//! A client of the service, for `tollgate hit`.

use std::{error::Error, io, time::Duration};

use hyper_util::client::legacy::connect::HttpConnector;
use prost_types::value::Kind;
use serde_json::{Map, Value as Json};
use tonic::transport::{Channel, Endpoint};

use super::pb::envoy::{
    extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
    service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse,
        rate_limit_response::{Code, DescriptorStatus, RateLimit},
        rate_limit_service_client::RateLimitServiceClient,
    },
};
use crate::{
    causes,
    descriptor::{Descriptor, Request},
    limit::{self, Hits},
    net::Address,
    trust::{self, ClientTls},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a call has no response.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The connection was refused.
    #[error("nothing listens at {0}; is tollgate running?")]
    Refused(Address),
    /// The connection failed for another reason.
    #[error("cannot connect to {address}: {reason}")]
    NotConnected {
        /// The server.
        address: Address,
        /// The root cause.
        reason: String,
    },
    /// The connection broke, or the server does not speak gRPC.
    #[error("the call to {address} failed: {reason}; is that its gRPC port?")]
    Broken {
        /// The server.
        address: Address,
        /// The root cause.
        reason: String,
    },
    /// The server returned an error.
    #[error("{address} answered {code:?}: {message}")]
    Status {
        /// The server.
        address: Address,
        /// The gRPC status.
        code: tonic::Code,
        /// The server's text, which may contain control characters.
        message: String,
    },
}

/// A response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The result for the whole request.
    pub code: ResponseCode,
    /// One for each descriptor, in order.
    pub statuses: Vec<ResponseStatus>,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// Empty if the response has none.
    pub metadata: Map<String, Json>,
}

/// The result for one descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseStatus {
    /// The result.
    pub code: ResponseCode,
    /// `None` if no limit applies.
    pub limit: Option<ResponseLimit>,
    /// Remaining hits.
    pub remaining: u32,
    /// Seconds until the reset or the next retry, rounded up; `None` if no retry
    /// ever passes.
    pub reset_seconds: Option<u64>,
}

impl ResponseStatus {
    /// True if no rule applies to the descriptor. Only the remaining hits distinguish this
    /// from a rule without limits, in this service as in the reference service.
    pub fn is_unmatched(&self) -> bool {
        self.limit.is_none() && self.remaining != u32::MAX
    }
}

/// The limit of a descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseLimit {
    /// Hits per window, or concurrent slots.
    pub requests: u32,
    /// In lower case; `None` for a limit on concurrency.
    pub unit: Option<String>,
    /// Units per window.
    pub multiplier: u32,
    /// Empty if the limit has no name.
    pub name: String,
}

/// The result of a request or a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseCode {
    /// A number that the protocol does not define.
    #[default]
    Unknown,
    /// Within the limits.
    Ok,
    /// Over a limit.
    OverLimit,
}

impl ResponseCode {
    /// The protocol's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => Code::Unknown,
            Self::Ok => Code::Ok,
            Self::OverLimit => Code::OverLimit,
        }
        .as_str_name()
    }
}

/// Connects to `address`, with TLS if `tls` is set, and sends one request.
///
/// # Errors
///
/// If the connection or the call fails.
pub async fn call(
    address: &Address,
    tls: Option<&ClientTls>,
    request: &Request,
) -> Result<Response, CallError> {
    let connection = match connect(address, tls).await {
        Ok(connection) => connection,
        Err(error) if is_refused(&*error) => return Err(CallError::Refused(address.clone())),
        Err(error) => {
            let reason = root(&*error);
            return Err(CallError::NotConnected { address: address.clone(), reason });
        }
    };
    let result =
        RateLimitServiceClient::new(connection).should_rate_limit(write_request(request)).await;
    match result {
        Ok(response) => Ok(read_response(response.into_inner())),
        Err(status) => Err(call_error(address.clone(), &status)),
    }
}

fn call_error(address: Address, status: &tonic::Status) -> CallError {
    match status.source() {
        Some(cause) => CallError::Broken { address, reason: root(cause) },
        None => {
            let message = status.message().to_owned();
            CallError::Status { address, code: status.code(), message }
        }
    }
}

async fn connect(
    address: &Address,
    tls: Option<&ClientTls>,
) -> Result<Channel, Box<dyn Error + Send + Sync>> {
    let with_timeouts =
        |endpoint: Endpoint| endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(CALL_TIMEOUT);
    match (address, tls) {
        (Address::Tcp(server), Some(tls)) => {
            let name = tls.name_for(&server.host);
            let connector = trust::grpc::connector(HttpConnector::new(), tls.config()?, name)?;
            let endpoint = with_timeouts(trust::grpc::endpoint(server)?);
            Ok(endpoint.connect_with_connector(connector).await?)
        }
        (Address::Unix(_), Some(_)) => Err("a unix socket has no TLS".into()),
        (Address::Tcp(server), None) => {
            Ok(with_timeouts(Endpoint::from_shared(format!("http://{server}"))?).connect().await?)
        }
        (unix, None) => {
            Ok(with_timeouts(Endpoint::from_shared(unix.to_string())?).connect().await?)
        }
    }
}

fn is_refused(error: &(dyn Error + 'static)) -> bool {
    for cause in causes::chain(error) {
        if let Some(io) = cause.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::ConnectionRefused
        {
            return true;
        }
    }
    false
}

/// The last cause: those above it only wrap it.
fn root(error: &(dyn Error + 'static)) -> String {
    causes::chain(error).last().unwrap_or(error).to_string()
}

fn write_request(request: &Request) -> RateLimitRequest {
    let mut descriptors = Vec::with_capacity(request.descriptors.len());
    for descriptor in &request.descriptors {
        descriptors.push(write_descriptor(descriptor));
    }
    RateLimitRequest { domain: request.domain.clone(), descriptors, hits_addend: 0 }
}

fn write_descriptor(descriptor: &Descriptor) -> RateLimitDescriptor {
    let mut entries = Vec::with_capacity(descriptor.entries.len());
    for entry in &descriptor.entries {
        entries.push(Entry { key: entry.key.clone(), value: entry.value.clone() });
    }
    let (hits, is_negative_hits) = match descriptor.hits {
        Hits::Add(hits) => (hits, false),
        Hits::Refund(hits) => (hits, true),
    };
    let hits_addend = if descriptor.has_own_hits { Some(hits) } else { None };
    RateLimitDescriptor { entries, limit: None, hits_addend, is_negative_hits }
}

fn read_response(message: RateLimitResponse) -> Response {
    let code = read_code(message.overall_code());
    let mut response = Response { code, ..Response::default() };
    for status in message.statuses {
        response.statuses.push(read_status(status));
    }
    for header in message.response_headers_to_add {
        response.headers.push((header.key, header.value));
    }
    for (name, value) in message.dynamic_metadata.unwrap_or_default().fields {
        response.metadata.insert(name, json(value));
    }
    response
}

fn read_status(message: DescriptorStatus) -> ResponseStatus {
    let code = read_code(message.code());
    let reset_seconds = message
        .duration_until_reset
        .map(|reset| Duration::try_from(reset).map_or(0, limit::ceil_seconds));
    ResponseStatus {
        code,
        limit: message.current_limit.map(read_limit),
        remaining: message.limit_remaining,
        reset_seconds,
    }
}

fn read_limit(message: RateLimit) -> ResponseLimit {
    use super::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;

    let unit = match message.unit() {
        Unit::Unknown => None,
        unit => Some(unit.as_str_name().to_ascii_lowercase()),
    };
    ResponseLimit {
        requests: message.requests_per_unit,
        unit,
        multiplier: message.unit_multiplier.unwrap_or(1).max(1),
        name: message.name,
    }
}

fn read_code(code: Code) -> ResponseCode {
    match code {
        Code::Unknown => ResponseCode::Unknown,
        Code::Ok => ResponseCode::Ok,
        Code::OverLimit => ResponseCode::OverLimit,
    }
}

fn json(value: prost_types::Value) -> Json {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        // Prints whole numbers without a fraction.
        Some(Kind::NumberValue(number)) => {
            serde_json::from_str(&number.to_string()).unwrap_or_default()
        }
        Some(Kind::StringValue(text)) => Json::from(text),
        Some(Kind::BoolValue(flag)) => Json::from(flag),
        Some(Kind::StructValue(fields)) => {
            let mut map = Map::new();
            for (name, value) in fields.fields {
                map.insert(name, json(value));
            }
            Json::Object(map)
        }
        Some(Kind::ListValue(list)) => {
            let mut elements = Vec::with_capacity(list.values.len());
            for value in list.values {
                elements.push(json(value));
            }
            Json::Array(elements)
        }
    }
}

#[cfg(test)]
mod tests;
