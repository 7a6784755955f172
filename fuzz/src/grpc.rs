//! Requests of Envoy's gRPC services: `grpc::codec` and `grpc::request`; and the same bytes as a
//! check, see [`ext_authz`].

use super::ext_authz;
use super::properties::{check_memory, is_too_large, peak_bytes, to_json, to_message};
use bytes::Bytes;
use prost::Message;
use tollgate::{
    descriptor::invalid::MOST_DESCRIPTORS,
    grpc::{codec::Checked, pb::envoy::service::ratelimit::v3::RateLimitRequest, request},
    json,
};

/// The bytes of the error for a malformed field, which prost allocates.
const ERROR_BYTES: u64 = 128;

/// Runs the target.
///
/// # Panics
///
/// If a property does not hold.
pub fn check(input: &[u8]) {
    ext_authz::check(input);
    let bytes = Bytes::copy_from_slice(input);
    let (checked, peak) = peak_bytes(|| RateLimitRequest::check(&bytes));
    assert!(peak <= ERROR_BYTES, "the check allocated {peak} bytes");
    if checked.is_err() {
        if let Ok(message) = RateLimitRequest::decode(bytes) {
            assert!(is_too_large(&message), "the check rejected a valid message");
        }
        return;
    }
    let (decoded, peak) = peak_bytes(|| RateLimitRequest::decode(bytes));
    check_memory(peak, input.len(), 256);
    if let Ok(message) = decoded {
        check_message(message);
    }
}

fn check_message(message: RateLimitRequest) {
    assert!(!is_too_large(&message), "the check accepted a message that is too large");
    let encoded = message.encode_to_vec();
    assert_eq!(RateLimitRequest::decode(&encoded[..]).as_ref(), Ok(&message));
    let text = to_json(&message);
    let request = request::read(message);
    if let Some(text) = text {
        let expected = request.clone().map_err(|error| error.to_string());
        assert_eq!(json::decode(text.as_bytes()), expected, "{text}");
    }
    let Ok(request) = request else { return };
    let _ = request.validate(MOST_DESCRIPTORS);
    assert_eq!(request::read(to_message(&request)).as_ref(), Ok(&request));
}
