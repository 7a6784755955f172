//! The protocols that are served over TLS.

use std::fmt;

/// A protocol that is served over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC, over HTTP/2 only.
    Grpc,
    /// HTTP/1.
    Http,
}

impl Protocol {
    /// Its name in ALPN. A client that offers other names only is rejected.
    pub(super) const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Grpc => b"h2",
            Self::Http => b"http/1.1",
        }
    }

    /// Whether a client may omit ALPN, as many clients of HTTP/1 do.
    pub const fn is_implied(self) -> bool {
        match self {
            Self::Grpc => false,
            Self::Http => true,
        }
    }

    /// The value of the label `listener` in metrics and in the log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grpc => "gRPC",
            Self::Http => "HTTP",
        })
    }
}
