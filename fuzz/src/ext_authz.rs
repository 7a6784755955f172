//! Checks of Envoy's external authorization: `ext_authz::size` and `ext_authz::request`, and the
//! descriptors that a mapping with all sources makes of them.

use std::sync::LazyLock;

use super::properties::{check_memory, peak_bytes};
use bytes::Bytes;
use prost::Message;
use tollgate::{
    config::{self, CompileOptions, SourceFile},
    descriptor::invalid::MOST_DESCRIPTORS,
    ext_authz::{
        pb::envoy::service::auth::v3::{
            AttributeContext, CheckRequest, attribute_context::Request,
        },
        request,
        size::MOST_HEADERS,
    },
    grpc::codec::Checked,
    mapping::Mapped,
    rules::RuleTree,
};

/// The bytes of the error for a malformed field, which prost allocates.
const ERROR_BYTES: u64 = 128;

const RULES: &[u8] = b"
domain: edge
http:
  trusted_hops: 2
  skip: [{ method: OPTIONS }]
  descriptors:
  - [remote_address]
  - [host, path, method, scheme]
  - [raw_path, { remote_address: { ipv4: 24, ipv6: 48 }, key: network }]
  - [{ header: a, key: a }, { header: b, key: b, default: c }]
  - [{ query: a, key: a }, { cookie: a, key: c }, { header: c, claim: a.b, key: d }]
";

static TREE: LazyLock<RuleTree> = LazyLock::new(|| {
    let file = SourceFile { name: "rules.yaml".into(), bytes: RULES.to_vec() };
    config::compile(&[file], CompileOptions::default()).expect("the rules are valid").rules
});

/// Runs the target.
///
/// # Panics
///
/// If a property does not hold.
pub fn check(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let (checked, peak) = peak_bytes(|| CheckRequest::check(&bytes));
    assert!(peak <= ERROR_BYTES, "the check allocated {peak} bytes");
    if checked.is_err() {
        if let Ok(message) = CheckRequest::decode(bytes) {
            assert!(MOST_HEADERS < elements(&message), "the check rejected a valid message");
        }
        return;
    }
    let (decoded, peak) = peak_bytes(|| CheckRequest::decode(bytes));
    check_memory(peak, input.len(), 256);
    let Ok(message) = decoded else { return };
    assert!(elements(&message) <= MOST_HEADERS, "the check accepted a message that is too large");
    assert_eq!(CheckRequest::decode(&*message.encode_to_vec()).as_ref(), Ok(&message));
    let Ok(check) = request::read(&message, Some("edge")) else { return };
    let (_, mapping) = TREE.mapping(b"edge").expect("the rules have a mapping");
    let (mapped, peak) = peak_bytes(|| mapping.map(&check.request()));
    check_memory(peak, input.len(), 64);
    if let Ok(Mapped::Request(request)) = mapped {
        assert_eq!(request.validate(MOST_DESCRIPTORS), Ok(()));
    }
}

/// The number of headers and context extensions.
fn elements(message: &CheckRequest) -> usize {
    let Some(AttributeContext { source: _, request, context_extensions }) = &message.attributes
    else {
        return 0;
    };
    let mut count = context_extensions.len();
    if let Some(Request { http: Some(http) }) = request {
        count += http.headers.len();
        count += http.header_map.as_ref().map_or(0, |map| map.headers.len());
    }
    count
}
