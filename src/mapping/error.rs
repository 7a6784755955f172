//! Requests that cannot be mapped.

use super::{MOST_VALUE_BYTES, Source};

/// Why a request cannot be mapped: with few exceptions, a mistake in the setup of the proxy.
/// Such a request must not pass, or a mistake would switch limits off without a trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MappingError {
    /// The mapping needs the method, and the proxy did not tell it.
    #[error("the method of the request is missing, expected the proxy to send it")]
    NoMethod,
    /// The mapping needs the path or the query, and the proxy did not tell the URI.
    #[error("the URI of the request is missing, expected the proxy to send it")]
    NoUri,
    /// The mapping needs the host, and the proxy or the client did not tell it. A descriptor
    /// without it would be dropped, so that a client could choose to have no limit.
    #[error("the host of the request is missing or empty, expected the proxy to send it")]
    NoHost,
    /// The mapping needs the scheme, and the proxy did not tell it.
    #[error("the scheme of the request is missing, expected the proxy to send it")]
    NoScheme,
    /// The mapping needs the address of the client, and nothing tells it.
    #[error(
        "the address of the client is missing, expected the proxy to send it in X-Forwarded-For"
    )]
    NoAddress,
    /// The host of an absolute URI has a delimiter, which a client has sent.
    #[error(
        "the host in the URI of the request has `?`, `#` or `@`, expected a name or an address, \
         and no user"
    )]
    BadAuthority,
    /// The entry of `X-Forwarded-For` that should be the client is no address.
    #[error(
        "the entry of X-Forwarded-For at position {position} from the right is `{}`, expected an IP \
         address; the proxies there may be fewer than trusted_hops or trusted_proxies say",
        .entry.escape_ascii()
    )]
    BadAddress {
        /// The position in the list, from 1.
        position: usize,
        /// The first bytes of the entry.
        entry: Vec<u8>,
    },
    /// The value of a source exceeds [`MOST_VALUE_BYTES`].
    #[error("{0} has more than {MOST_VALUE_BYTES} bytes")]
    TooLong(Source),
}

impl MappingError {
    /// Every result of [`Self::name`].
    pub const NAMES: [&str; 8] = [
        "no_method",
        "no_uri",
        "no_host",
        "no_scheme",
        "no_address",
        "bad_authority",
        "bad_address",
        "too_long",
    ];

    /// The error for a request without a value of `source`, if every request should have one.
    pub(super) fn of_missing(source: &Source) -> Option<Self> {
        match source {
            Source::Host => Some(Self::NoHost),
            Source::Scheme => Some(Self::NoScheme),
            _ => None,
        }
    }

    /// A name of the reason, for statistics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NoMethod => "no_method",
            Self::NoUri => "no_uri",
            Self::NoHost => "no_host",
            Self::NoScheme => "no_scheme",
            Self::NoAddress => "no_address",
            Self::BadAuthority => "bad_authority",
            Self::BadAddress { .. } => "bad_address",
            Self::TooLong(_) => "too_long",
        }
    }
}
