//! Requests of Envoy's gRPC service: `grpc::codec` and `grpc::request`.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use tollgate::{
    descriptor::invalid::MOST_DESCRIPTORS,
    grpc::{codec::Checked, pb::envoy::service::ratelimit::v3::RateLimitRequest, request},
    json,
};
use tollgate_fuzz::{check_memory, is_too_large, peak_bytes, to_json, to_message};

fuzz_target!(|input: &[u8]| {
    let bytes = Bytes::copy_from_slice(input);
    let (checked, peak) = peak_bytes(|| RateLimitRequest::check(&bytes));
    assert!(peak == 0, "the check allocated {peak} bytes");
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
});

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
