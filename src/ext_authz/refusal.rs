//! Answers to checks that cannot be decided because something is wrong with them: with the
//! proxy, the rules or the request. They are refusals and no errors, which Envoy with
//! `failure_mode_allow` would let pass.

use tokio_stream::once;
use tonic::{
    Code, Status,
    body::Body,
    codec::{BufferSettings, EncodeBody, SingleMessageCompressionOverride},
    codegen::http,
};
use tonic_prost::ProstEncoder;

use super::{
    pb::envoy::{service::auth::v3::CheckResponse, r#type::v3::StatusCode},
    response::{self, Refusal},
};
use crate::{
    answer::problem::Problem,
    descriptor::invalid::InvalidRequest,
    mapping::MappingError,
    metrics::{CheckFault, Metrics},
};

/// The longest part of a domain that is logged, in bytes.
const LONGEST_DOMAIN: usize = 100;

/// The mistake in a check.
#[derive(Debug, thiserror::Error)]
pub enum Mistake {
    /// The check is not about an HTTP request.
    #[error(
        "the check has no HTTP request; expected a check of Envoy's HTTP filter \
         envoy.filters.http.ext_authz"
    )]
    NoRequest,
    /// The check names no domain.
    #[error(
        "the check names no domain; expected `domain` in the context_extensions of the route, or \
         the setting EXT_AUTHZ_DOMAIN"
    )]
    NoDomain,
    /// There are no rules for the domain.
    #[error("the domain `{0}` has no rules; the context_extensions of the route name it")]
    UnknownDomain(String),
    /// The domain does not map requests to descriptors.
    #[error(
        "the rules of the domain `{0}` have no `http`; expected the descriptors of a request there"
    )]
    NoMapping(String),
    /// The request cannot be mapped to descriptors.
    #[error(transparent)]
    Unmapped(#[from] MappingError),
    /// The rules map the request to descriptors that are not valid.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
}

impl Mistake {
    pub(super) const fn fault(&self) -> CheckFault {
        match self {
            Self::NoRequest => CheckFault::Unreadable,
            Self::NoDomain => CheckFault::NoDomain,
            Self::UnknownDomain(_) => CheckFault::UnknownDomain,
            Self::NoMapping(_) => CheckFault::NoHttp,
            Self::Unmapped(error) => CheckFault::Unmapped(error.name()),
            Self::Invalid(_) => CheckFault::InvalidRequest,
        }
    }

    /// 500 if the setup is wrong whatever the request, else 400.
    const fn status(&self) -> StatusCode {
        match self {
            Self::NoRequest | Self::NoDomain | Self::UnknownDomain(_) | Self::NoMapping(_) => {
                StatusCode::InternalServerError
            }
            Self::Unmapped(_) | Self::Invalid(_) => StatusCode::BadRequest,
        }
    }
}

/// The beginning of a domain that the proxy has sent, for the log.
pub(super) fn shown_domain(domain: &[u8]) -> String {
    domain.get(..LONGEST_DOMAIN).unwrap_or(domain).escape_ascii().to_string()
}

/// The answer to a check with a mistake. Its body, which end users may see, has no details.
pub(super) fn of_mistake(mistake: &Mistake) -> CheckResponse {
    let detail = match mistake.status() {
        StatusCode::BadRequest => {
            "the rate limits need a part of the request that is missing or cannot be read"
        }
        _ => "the rate limits are set up wrongly; the log of their service has the reason",
    };
    refuse(mistake.status(), detail)
}

/// Counts and answers a check that could not be read and has this status.
pub(super) fn of_unread(metrics: &Metrics, status: Status) -> http::Response<Body> {
    metrics.count_misconfigured_check(CheckFault::Unreadable);
    let is_too_large = matches!(status.code(), Code::OutOfRange | Code::InvalidArgument);
    let code = if is_too_large { StatusCode::PayloadTooLarge } else { StatusCode::BadRequest };
    let answer = refuse(code, "the rate limits cannot read the request");
    let body = EncodeBody::new_server(
        ProstEncoder::new(BufferSettings::default()),
        once(Ok(answer)),
        None,
        SingleMessageCompressionOverride::Disable,
        None,
    );
    let mut response = http::Response::new(Body::new(body));
    let grpc = http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
    response
}

fn refuse(status: StatusCode, detail: &str) -> CheckResponse {
    let (code, title) = match status {
        StatusCode::InternalServerError => (Code::FailedPrecondition, "Internal Server Error"),
        StatusCode::PayloadTooLarge => (Code::InvalidArgument, "Payload Too Large"),
        _ => (Code::InvalidArgument, "Bad Request"),
    };
    let body = Problem::of_status(response::number(status), title, detail).to_json();
    response::refusal(Refusal { code, status, headers: Vec::new(), body, metadata: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_domain_is_logged_in_part() {
        assert_eq!(shown_domain(b"edge\n"), "edge\\n");
        assert_eq!(shown_domain(&vec![0xff; 4 << 20]), "\\xff".repeat(100));
    }
}
