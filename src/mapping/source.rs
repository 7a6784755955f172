//! The sources of values.

use std::{fmt, net::IpAddr};

use bytes::Bytes;

use super::{claim::ClaimPath, host, path};

/// The part of a request that is the value of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The address of the client.
    RemoteAddress,
    /// The network of the client's address.
    MaskedAddress(AddressMask),
    /// The path, normalized.
    Path,
    /// The path as the client sent it.
    RawPath,
    /// The method in upper case.
    Method,
    /// The host in lower case, without port.
    Host,
    /// The scheme in lower case.
    Scheme,
    /// The lines of a header, joined with commas. The name is in lower case.
    Header(Box<str>),
    /// The first value of a parameter of the query, decoded.
    Query(Box<str>),
    /// The first value of a cookie.
    Cookie(Box<str>),
    /// A member of the JSON object that a header has in base64url.
    Claim {
        /// The name of the header, in lower case.
        header: Box<str>,
        /// The member.
        path: ClaimPath,
    },
    /// This text.
    Constant(Bytes),
}

/// The lengths of the prefixes to which addresses are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressMask {
    /// The bits of an IPv4 address, at most 32.
    pub ipv4: u8,
    /// The bits of an IPv6 address, at most 128.
    pub ipv6: u8,
}

impl Source {
    /// The key of an entry for which the rules name none; `None` for a constant.
    pub fn default_key(&self) -> Option<&str> {
        Some(match self {
            Self::RemoteAddress => "remote_address",
            Self::MaskedAddress(_) => "masked_remote_address",
            Self::Path => "path",
            Self::RawPath => "raw_path",
            Self::Method => "method",
            Self::Host => "host",
            Self::Scheme => "scheme",
            Self::Header(name) | Self::Query(name) | Self::Cookie(name) => name,
            Self::Claim { path, .. } => path.as_str(),
            Self::Constant(_) => return None,
        })
    }

    /// The spelling in which the source has the value `text`.
    pub fn normalize(&self, text: &str) -> String {
        let normal = match self {
            Self::Path => path::normalize(text.as_bytes()),
            Self::Host => host::normalize(text.as_bytes()),
            Self::Scheme => text.to_ascii_lowercase().into_bytes(),
            Self::Method => text.to_ascii_uppercase().into_bytes(),
            Self::RemoteAddress => match text.parse::<IpAddr>() {
                Ok(address) => address.to_canonical().to_string().into_bytes(),
                Err(_) => text.as_bytes().to_vec(),
            },
            _ => text.as_bytes().to_vec(),
        };
        String::from_utf8_lossy(&normal).into_owned()
    }
}

impl fmt::Display for Source {
    /// Writes a noun with its article.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemoteAddress => f.write_str("the address of the client"),
            Self::MaskedAddress(_) => f.write_str("the network of the client"),
            Self::Path => f.write_str("the path"),
            Self::RawPath => f.write_str("the raw path"),
            Self::Method => f.write_str("the method"),
            Self::Host => f.write_str("the host"),
            Self::Scheme => f.write_str("the scheme"),
            Self::Header(name) => write!(f, "the header `{name}`"),
            Self::Query(name) => write!(f, "the query parameter `{name}`"),
            Self::Cookie(name) => write!(f, "the cookie `{name}`"),
            Self::Claim { header, path } => {
                write!(f, "the claim `{}` of the header `{header}`", path.as_str())
            }
            Self::Constant(_) => f.write_str("the constant"),
        }
    }
}
