//! Reads requests.

use super::pb::envoy::{
    extensions::common::ratelimit::v3::{
        RateLimitDescriptor, rate_limit_descriptor::RateLimitOverride,
    },
    service::ratelimit::v3::RateLimitRequest,
};
use crate::descriptor::{
    Descriptor, Entry, Request,
    envoy::{Override, StatedHits},
    invalid::InvalidRequest,
};

/// Reads a request; [`Request::validate`] checks its sizes.
///
/// # Errors
///
/// If an override is invalid.
pub fn read(message: RateLimitRequest) -> Result<Request, InvalidRequest> {
    let RateLimitRequest { domain, descriptors, hits_addend } = message;
    let mut read = Vec::with_capacity(descriptors.len());
    for (position, descriptor) in descriptors.into_iter().enumerate() {
        read.push(read_descriptor(position, descriptor, hits_addend)?);
    }
    Ok(Request { domain, descriptors: read, hits_addend })
}

fn read_descriptor(
    position: usize,
    message: RateLimitDescriptor,
    request_hits: u32,
) -> Result<Descriptor, InvalidRequest> {
    let RateLimitDescriptor { entries, limit, hits_addend, is_negative_hits } = message;
    let limit = match limit {
        Some(limit) => Some(read_override(limit).limit(position)?),
        None => None,
    };
    let mut read = Vec::with_capacity(entries.len());
    for entry in entries {
        read.push(Entry { key: entry.key, value: entry.value });
    }
    let hits = StatedHits { own: hits_addend, request: request_hits, refund: is_negative_hits };
    Ok(Descriptor { entries: read, hits: hits.hits(), has_own_hits: hits_addend.is_some(), limit })
}

fn read_override(message: RateLimitOverride) -> Override {
    let RateLimitOverride { requests_per_unit, unit, unit_multiplier } = message;
    Override { requests_per_unit, unit, unit_multiplier }
}
