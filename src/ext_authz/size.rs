//! The size of a check before it is decoded: a header of two bytes on the wire takes 64 in
//! memory.

use std::convert::Infallible;

use super::pb::envoy::{
    config::core::v3::HeaderValue,
    service::auth::v3::{
        CheckRequest, CheckResponse,
        attribute_context::{ContextExtensionsEntry, http_request::HeadersEntry},
    },
};
use crate::{
    grpc::codec::{Checked, Fields},
    mapping::COPIES,
};

/// The most headers of a request, and the most context extensions. Envoy accepts 100 headers,
/// unless it is told to accept more.
pub const MOST_HEADERS: usize = 1_000;

const ATTRIBUTES: u32 = 1;
const REQUEST: u32 = 4;
const HTTP: u32 = 2;
const HEADERS: u32 = 3;
const PATH: u32 = 4;
const HEADER_MAP: u32 = 13;
const LINES: u32 = 1;
const CONTEXT_EXTENSIONS: u32 = 10;

/// A request has more elements than any may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a check has {0} headers and context extensions, expected at most {MOST_HEADERS}")]
pub struct TooManyHeaders(pub usize);

impl Checked for CheckResponse {
    type Invalid = Infallible;
}

impl Checked for CheckRequest {
    type Invalid = TooManyHeaders;

    fn check(message: &[u8]) -> Result<(), TooManyHeaders> {
        let count = Sizes::of(message).elements;
        if MOST_HEADERS < count { Err(TooManyHeaders(count)) } else { Ok(()) }
    }
}

/// The memory that a check takes once it has been decoded and its descriptors are made, about,
/// besides the encoded message. 0 if it has too many elements to be decoded.
pub(super) fn decoded_bytes(message: &[u8]) -> usize {
    let sizes = Sizes::of(message);
    if MOST_HEADERS < sizes.elements {
        0
    } else {
        sizes.elements * LARGEST_ELEMENT + COPIES * sizes.texts
    }
}

const LARGEST_ELEMENT: usize = {
    let (entry, header) = (size_of::<HeadersEntry>(), size_of::<HeaderValue>());
    let extension = size_of::<ContextExtensionsEntry>();
    let larger = if entry < header { header } else { entry };
    if larger < extension { extension } else { larger }
};

/// The sizes of an encoded check.
#[derive(Default)]
struct Sizes {
    /// Headers and context extensions.
    elements: usize,
    /// Bytes of the headers and of the path.
    texts: usize,
}

impl Sizes {
    fn of(message: &[u8]) -> Self {
        let mut sizes = Self::default();
        for attributes in fields(message, ATTRIBUTES) {
            sizes.elements += fields(attributes, CONTEXT_EXTENSIONS).count();
            for request in fields(attributes, REQUEST) {
                for http in fields(request, HTTP) {
                    sizes.add_request(http);
                }
            }
        }
        sizes
    }

    fn add_request(&mut self, http: &[u8]) {
        for path in fields(http, PATH) {
            self.texts += path.len();
        }
        for header in fields(http, HEADERS) {
            self.add_header(header);
        }
        for map in fields(http, HEADER_MAP) {
            for line in fields(map, LINES) {
                self.add_header(line);
            }
        }
    }

    fn add_header(&mut self, header: &[u8]) {
        self.elements += 1;
        self.texts += header.len();
    }
}

fn fields(bytes: &[u8], number: u32) -> Fields<'_> {
    Fields { bytes, number }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::ext_authz::pb::envoy::{
        config::core::v3::HeaderMap,
        service::auth::v3::{
            AttributeContext,
            attribute_context::{HttpRequest, Request},
        },
    };

    /// A check with so many headers, raw headers and context extensions.
    fn check(headers: usize, raw: usize, extensions: usize) -> Vec<u8> {
        let header = HeadersEntry { key: "k".into(), value: "v".into() };
        let line = HeaderValue { key: "k".into(), value: "".into(), raw_value: "v".into() };
        let extension = ContextExtensionsEntry { key: "k".into(), value: "v".into() };
        let http = HttpRequest {
            path: "/path".into(),
            headers: vec![header; headers],
            header_map: Some(HeaderMap { headers: vec![line; raw] }),
            ..HttpRequest::default()
        };
        let attributes = AttributeContext {
            source: None,
            request: Some(Request { http: Some(http) }),
            context_extensions: vec![extension; extensions],
        };
        CheckRequest { attributes: Some(attributes) }.encode_to_vec()
    }

    #[test]
    fn only_checks_with_too_many_headers_are_rejected() {
        assert_eq!(CheckRequest::check(&check(MOST_HEADERS - 2, 1, 1)), Ok(()));
        for (headers, raw, extensions) in
            [(MOST_HEADERS, 1, 0), (0, MOST_HEADERS + 1, 0), (1, 1, MOST_HEADERS - 1)]
        {
            let refused = CheckRequest::check(&check(headers, raw, extensions));
            assert_eq!(refused, Err(TooManyHeaders(MOST_HEADERS + 1)));
        }
        // A decoder merges the parts of a message that come twice.
        let half = check(MOST_HEADERS / 2 + 1, 0, 0);
        let refused = CheckRequest::check(&[half.clone(), half].concat());
        assert_eq!(refused, Err(TooManyHeaders(MOST_HEADERS + 2)));
    }

    #[test]
    fn a_decoded_check_counts_all_its_headers_and_texts() {
        assert_eq!(decoded_bytes(&[]), 0);
        // A header of two letters has six bytes on the wire, with the numbers of its fields.
        let expected = 6 * LARGEST_ELEMENT + COPIES * ("/path".len() + 5 * 6);
        assert_eq!(decoded_bytes(&check(2, 3, 1)), expected);
        assert_eq!(decoded_bytes(&check(MOST_HEADERS + 1, 0, 0)), 0);
    }
}
