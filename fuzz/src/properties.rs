//! Properties that several fuzz targets check.

use bytes::Bytes;
use serde_json::{Value, json};
use tollgate::{
    descriptor::{
        Descriptor, Request,
        invalid::{MOST_DESCRIPTORS, MOST_ENTRIES},
    },
    grpc::pb::envoy::{
        extensions::common::ratelimit::v3::{
            RateLimitDescriptor,
            rate_limit_descriptor::{Entry, RateLimitOverride},
        },
        service::ratelimit::v3::RateLimitRequest,
    },
    limit::{Hits, Limit, Unit},
};

/// Runs `function`. Returns its result and the largest number of bytes that it had allocated
/// at the same time.
pub(super) fn peak_bytes<T>(function: impl FnOnce() -> T) -> (T, u64) {
    let mut result = None;
    let info = allocation_counter::measure(|| result = Some(function()));
    (result.expect("`measure` runs the function"), info.bytes_max)
}

/// Panics if `peak` bytes are too many for an input of `length` bytes. `factor` is the number
/// of bytes allowed for each byte of the input.
pub(super) fn check_memory(peak: u64, length: usize, factor: u64) {
    let allowed = 64 * 1024 + factor * length as u64;
    assert!(peak <= allowed, "{length} bytes of input took {peak} bytes, expected <= {allowed}");
}

/// Panics if `text` could change the state of a terminal.
pub(super) fn check_printable(text: &str) {
    for character in text.chars() {
        assert!(
            !character.is_control() || character == '\n',
            "{character:?} is not printable: {text:?}"
        );
    }
}

/// True if the message has more elements than any request may have.
pub(super) fn is_too_large(message: &RateLimitRequest) -> bool {
    message.descriptors.len() > MOST_DESCRIPTORS
        || message.descriptors.iter().any(|descriptor| descriptor.entries.len() > MOST_ENTRIES)
}

/// The gRPC form of a request.
pub(super) fn to_message(request: &Request) -> RateLimitRequest {
    let mut descriptors = Vec::new();
    for descriptor in &request.descriptors {
        descriptors.push(to_descriptor(descriptor));
    }
    RateLimitRequest {
        domain: request.domain.clone(),
        descriptors,
        hits_addend: request.hits_addend,
    }
}

fn to_descriptor(descriptor: &Descriptor) -> RateLimitDescriptor {
    let mut entries = Vec::new();
    for entry in &descriptor.entries {
        entries.push(Entry { key: entry.key.clone(), value: entry.value.clone() });
    }
    let (hits, is_negative_hits) = match descriptor.hits {
        Hits::Add(hits) => (hits, false),
        Hits::Refund(hits) => (hits, true),
    };
    RateLimitDescriptor {
        entries,
        limit: descriptor.limit.as_ref().map(to_override),
        hits_addend: if descriptor.has_own_hits { Some(hits) } else { None },
        is_negative_hits,
    }
}

fn to_override(limit: &Limit) -> RateLimitOverride {
    RateLimitOverride {
        requests_per_unit: limit.requests,
        unit: match limit.window.unit() {
            Unit::Second => 1,
            Unit::Minute => 2,
            Unit::Hour => 3,
            Unit::Day => 4,
            Unit::Month => 5,
            Unit::Year => 6,
            Unit::Week => 7,
        },
        unit_multiplier: Some(limit.window.multiplier().get()),
    }
}

/// The JSON form of a message. `None` if a text of it is not UTF-8, which JSON cannot express.
pub(super) fn to_json(message: &RateLimitRequest) -> Option<String> {
    let mut descriptors = Vec::new();
    for descriptor in &message.descriptors {
        descriptors.push(descriptor_json(descriptor)?);
    }
    let request = json!({
        "domain": text(&message.domain)?,
        "descriptors": descriptors,
        "hitsAddend": message.hits_addend,
    });
    Some(request.to_string())
}

fn descriptor_json(descriptor: &RateLimitDescriptor) -> Option<Value> {
    let mut entries = Vec::new();
    for entry in &descriptor.entries {
        entries.push(json!({ "key": text(&entry.key)?, "value": text(&entry.value)? }));
    }
    let limit = descriptor.limit.as_ref().map(|limit| {
        json!({
            "requestsPerUnit": limit.requests_per_unit,
            "unit": limit.unit,
            "unitMultiplier": limit.unit_multiplier,
        })
    });
    Some(json!({
        "entries": entries,
        "limit": limit,
        // Protobuf's JSON mapping writes 64-bit numbers as strings.
        "hitsAddend": descriptor.hits_addend.map(|hits| hits.to_string()),
        "isNegativeHits": descriptor.is_negative_hits,
    }))
}

fn text(bytes: &Bytes) -> Option<&str> {
    str::from_utf8(bytes).ok()
}
