//! A message becomes a [`Request`], or says why it cannot.

use std::num::NonZeroU32;

use crate::{
    descriptor::{Descriptor, Entry, Request},
    limit::{Hits, Limit, Unit, Window},
    wire::pb::envoy::{
        extensions::common::ratelimit::v3::{
            RateLimitDescriptor, rate_limit_descriptor as wire,
            rate_limit_descriptor::RateLimitOverride,
        },
        service::ratelimit::v3::RateLimitRequest,
    },
};

/// How many descriptors one request may have whatever the settings say. Proxies send
/// a handful; each costs a counter, and a reply that is larger than the question.
pub const MOST_DESCRIPTORS: usize = 1_000;

/// How many entries one descriptor may have: three times what rules can match.
pub const MOST_ENTRIES: usize = 100;

/// Why a message is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// The domain says whose rules apply.
    #[error("rate limit domain must not be empty")]
    EmptyDomain,
    /// There is nothing to decide.
    #[error("rate limit descriptor list must not be empty")]
    NoDescriptors,
    /// More than the settings say.
    #[error(
        "rate limit descriptor list has {count} elements, expected at most {most}, as \
         MAX_DESCRIPTORS allows; it can be set to {MOST_DESCRIPTORS} at most"
    )]
    TooManyDescriptors {
        /// How many it has.
        count: usize,
        /// How many it may have.
        most: usize,
    },
    /// More than [`MOST_ENTRIES`].
    #[error(
        "descriptors[{descriptor}].entries has {entries} elements, expected at most {MOST_ENTRIES}"
    )]
    TooManyEntries {
        /// The position of the descriptor.
        descriptor: usize,
        /// How many it has.
        entries: usize,
    },
    /// An override with a unit that is no unit of time.
    #[error(
        "descriptors[{descriptor}].limit.unit is {unit}, expected SECOND (1), MINUTE (2), \
         HOUR (3), DAY (4), MONTH (5), YEAR (6) or WEEK (7)"
    )]
    OverrideUnit {
        /// The position of the descriptor.
        descriptor: usize,
        /// The number that was sent; 0 is UNKNOWN, or nothing at all.
        unit: i32,
    },
    /// An override with a window that is too long.
    #[error(
        "descriptors[{descriptor}].limit.unit_multiplier is {multiplier}, expected a window of \
         at most 100 years"
    )]
    OverrideMultiplier {
        /// The position of the descriptor.
        descriptor: usize,
        /// The number that was sent.
        multiplier: u32,
    },
}

/// Reads a request of at most `most` descriptors.
///
/// # Errors
///
/// If it has more, or makes no sense.
pub fn read(message: RateLimitRequest, most: usize) -> Result<Request, InvalidRequest> {
    let RateLimitRequest { domain, descriptors, hits_addend } = message;
    if domain.is_empty() {
        return Err(InvalidRequest::EmptyDomain);
    }
    if descriptors.is_empty() {
        return Err(InvalidRequest::NoDescriptors);
    }
    let count = descriptors.len();
    if most < count {
        return Err(InvalidRequest::TooManyDescriptors { count, most });
    }
    let descriptors = descriptors.into_iter().enumerate();
    let descriptors = descriptors.map(|(i, it)| read_descriptor(i, it, hits_addend));
    Ok(Request { domain, descriptors: descriptors.collect::<Result<_, _>>()?, hits_addend })
}

fn read_descriptor(
    position: usize,
    message: RateLimitDescriptor,
    request_hits: u32,
) -> Result<Descriptor, InvalidRequest> {
    let RateLimitDescriptor { entries, limit, hits_addend, is_negative_hits } = message;
    if entries.len() > MOST_ENTRIES {
        let (descriptor, entries) = (position, entries.len());
        return Err(InvalidRequest::TooManyEntries { descriptor, entries });
    }
    let entry = |it: wire::Entry| Entry { key: it.key, value: it.value };
    // The request's own number cannot tell 0 from absent, and absent is meant.
    let hits = hits_addend.unwrap_or(u64::from(request_hits.max(1)));
    let hits = if is_negative_hits { Hits::Refund(hits) } else { Hits::Add(hits) };
    Ok(Descriptor {
        entries: entries.into_iter().map(entry).collect(),
        hits: hits.capped(),
        has_own_hits: hits_addend.is_some(),
        limit: limit.map(|it| read_override(position, it)).transpose()?,
    })
}

fn read_override(descriptor: usize, message: RateLimitOverride) -> Result<Limit, InvalidRequest> {
    let RateLimitOverride { requests_per_unit, unit, unit_multiplier } = message;
    let unit = read_unit(unit).ok_or(InvalidRequest::OverrideUnit { descriptor, unit })?;
    let multiplier = unit_multiplier.unwrap_or(1).max(1);
    let window = NonZeroU32::new(multiplier)
        .and_then(|it| Window::times(unit, it))
        .ok_or(InvalidRequest::OverrideMultiplier { descriptor, multiplier })?;
    Ok(Limit::fixed(requests_per_unit, window))
}

/// The unit with this number. Envoy's enumeration for overrides ends before
/// WEEK; the number that the reply uses for it is understood all the same.
fn read_unit(number: i32) -> Option<Unit> {
    Some(match number {
        1 => Unit::Second,
        2 => Unit::Minute,
        3 => Unit::Hour,
        4 => Unit::Day,
        5 => Unit::Month,
        6 => Unit::Year,
        7 => Unit::Week,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(descriptor: RateLimitDescriptor, hits_addend: u32) -> Result<Request, InvalidRequest> {
        let domain = "shop".into();
        read(RateLimitRequest { domain, descriptors: vec![descriptor], hits_addend }, 1)
    }

    #[track_caller]
    fn check_hits(own: Option<u64>, request: u32, expected: Hits) {
        let descriptor = RateLimitDescriptor { hits_addend: own, ..Default::default() };
        assert_eq!(ask(descriptor, request).unwrap().descriptors[0].hits, expected);
    }

    #[test]
    fn the_descriptors_hits_come_before_the_requests() {
        check_hits(None, 0, Hits::Add(1));
        check_hits(None, 5, Hits::Add(5));
        check_hits(Some(0), 5, Hits::Add(0));
        check_hits(Some(7), 5, Hits::Add(7));
        check_hits(Some(u64::MAX), 5, Hits::Add(Hits::MAX));
    }

    #[test]
    fn negative_hits_are_a_refund() {
        let descriptor = |hits_addend| RateLimitDescriptor {
            hits_addend,
            is_negative_hits: true,
            ..Default::default()
        };
        let hits = |own, request| ask(descriptor(own), request).unwrap().descriptors[0].hits;
        assert_eq!(hits(Some(3), 0), Hits::Refund(3));
        assert_eq!(hits(None, 2), Hits::Refund(2));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        let limited = |unit, unit_multiplier| RateLimitDescriptor {
            limit: Some(RateLimitOverride { requests_per_unit: 1, unit, unit_multiplier }),
            ..Default::default()
        };
        let error = |descriptor| ask(descriptor, 0).unwrap_err().to_string();
        assert!(error(limited(0, None)).starts_with("descriptors[0].limit.unit is 0, expected"));
        assert!(error(limited(8, None)).starts_with("descriptors[0].limit.unit is 8, expected"));
        assert!(error(limited(6, Some(101))).contains("at most 100 years"));
        assert!(error(limited(3, Some(u32::MAX))).contains("at most 100 years"));
        assert_eq!(
            ask(limited(7, Some(0)), 0).unwrap().descriptors[0].limit,
            Some(Limit::fixed(1, Window::new(Unit::Week)))
        );

        let empty = RateLimitRequest { domain: "shop".into(), ..Default::default() };
        assert_eq!(read(empty, 1), Err(InvalidRequest::NoDescriptors));
        assert_eq!(read(RateLimitRequest::default(), 1), Err(InvalidRequest::EmptyDomain));
    }
}
