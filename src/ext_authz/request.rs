//! Reads checks.

use std::net::IpAddr;

use super::{
    pb::envoy::{
        config::core::v3::HeaderMap,
        service::auth::v3::{
            AttributeContext, CheckRequest,
            attribute_context::{HttpRequest as HttpMessage, Peer, Request},
        },
    },
    refusal::Mistake,
};
use crate::mapping::{Headers, HttpRequest};

/// The key of the domain in `context_extensions`.
const DOMAIN: &[u8] = b"domain";

const FORWARDED_FOR: &str = "x-forwarded-for";

/// A check whose domain is known.
#[derive(Debug)]
pub struct Check<'a> {
    /// The domain whose rules apply.
    pub domain: &'a [u8],
    http: &'a HttpMessage,
    headers: MessageHeaders<'a>,
}

/// Reads a check. `default_domain` is the domain of checks that name none.
///
/// # Errors
///
/// If the message has no HTTP request, or no domain.
pub fn read<'a>(
    message: &'a CheckRequest,
    default_domain: Option<&'a str>,
) -> Result<Check<'a>, Mistake> {
    let CheckRequest { attributes } = message;
    let attributes = attributes.as_ref().ok_or(Mistake::NoRequest)?;
    let AttributeContext { source, request, context_extensions } = attributes;
    let Some(Request { http: Some(http) }) = request else { return Err(Mistake::NoRequest) };
    let mut domain = default_domain.map(str::as_bytes);
    for extension in context_extensions {
        if extension.key == DOMAIN {
            domain = Some(&extension.value);
        }
    }
    let domain = domain.filter(|domain| !domain.is_empty()).ok_or(Mistake::NoDomain)?;
    let headers = MessageHeaders::new(http, source.as_ref());
    Ok(Check { domain, http, headers })
}

impl Check<'_> {
    /// The request of the client.
    pub fn request(&self) -> HttpRequest<'_> {
        let HttpMessage { method, path, host, scheme, headers: _, header_map: _ } = self.http;
        HttpRequest {
            method: Some(method),
            target: Some(path),
            host: Some(host),
            scheme: Some(scheme),
            headers: &self.headers,
            // It is in the headers.
            peer: None,
        }
    }
}

/// The headers of a request.
#[derive(Debug)]
struct MessageHeaders<'a> {
    http: &'a HttpMessage,
    /// The other end of the proxy's connection, if it is missing in `X-Forwarded-For`.
    ///
    /// Envoy appends it only with `use_remote_address`. Without it, the list would end with
    /// an entry that any client can write.
    peer: Option<&'a [u8]>,
}

impl<'a> MessageHeaders<'a> {
    fn new(http: &'a HttpMessage, source: Option<&'a Peer>) -> Self {
        let mut headers = Self { http, peer: None };
        let Some(text) = address_text(source) else { return headers };
        let Some(peer) = address(text) else { return headers };
        let mut last = None;
        headers.visit(FORWARDED_FOR, &mut |line| last = Some(line));
        let last = last.and_then(|line| line.rsplit(|byte| *byte == b',').next());
        if last.and_then(address) != Some(peer) {
            headers.peer = Some(text);
        }
        headers
    }

    fn visit_lines<'h>(&'h self, name: &str, visit: &mut dyn FnMut(&'h [u8])) {
        for entry in &self.http.headers {
            if entry.key.eq_ignore_ascii_case(name.as_bytes()) {
                visit(&entry.value);
            }
        }
        let Some(HeaderMap { headers }) = &self.http.header_map else { return };
        for header in headers {
            if header.key.eq_ignore_ascii_case(name.as_bytes()) {
                visit(if header.raw_value.is_empty() { &header.value } else { &header.raw_value });
            }
        }
    }
}

impl Headers for MessageHeaders<'_> {
    fn visit<'h>(&'h self, name: &str, visit: &mut dyn FnMut(&'h [u8])) {
        self.visit_lines(name, visit);
        if let Some(peer) = self.peer
            && name == FORWARDED_FOR
        {
            visit(peer);
        }
    }
}

/// `None` for a Unix socket.
fn address_text(source: Option<&Peer>) -> Option<&[u8]> {
    let address = source?.address.as_ref()?.socket_address.as_ref()?;
    Some(&address.address)
}

fn address(text: &[u8]) -> Option<IpAddr> {
    let address: IpAddr = str::from_utf8(text).ok()?.trim().parse().ok()?;
    Some(address.to_canonical())
}
