//! Descriptors in the terms of Envoy's API, which gRPC and JSON share.

use std::num::NonZeroU32;

use super::invalid::InvalidRequest;
use crate::limit::{Hits, Limit, Unit, Window};

/// An override in the terms of Envoy's `RateLimitOverride`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// Hits per window; 0 refuses every hit.
    pub requests_per_unit: u32,
    /// A number of `envoy.type.v3.RateLimitUnit`, or 7 for WEEK, which that
    /// enumeration lacks and responses use.
    pub unit: i32,
    /// Units per window; `None` and 0 mean 1.
    pub unit_multiplier: Option<u32>,
}

impl Override {
    /// The limit, a fixed window, of the descriptor at this index.
    ///
    /// # Errors
    ///
    /// If the unit is unknown, or if the window exceeds 100 years.
    pub fn limit(self, descriptor: usize) -> Result<Limit, InvalidRequest> {
        let Self { requests_per_unit, unit, unit_multiplier } = self;
        let unit = read_unit(unit).ok_or(InvalidRequest::OverrideUnit { descriptor, unit })?;
        let multiplier = NonZeroU32::new(unit_multiplier.unwrap_or(1)).unwrap_or(NonZeroU32::MIN);
        let Some(window) = Window::times(unit, multiplier) else {
            let multiplier = multiplier.get();
            return Err(InvalidRequest::OverrideMultiplier { descriptor, multiplier });
        };
        Ok(Limit::fixed(requests_per_unit, window))
    }
}

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

/// The hits of a descriptor, as a request states them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatedHits {
    /// The descriptor's `hits_addend`.
    pub own: Option<u64>,
    /// The request's `hits_addend`, for descriptors without their own. 0 means 1:
    /// protobuf cannot tell it from a missing field.
    pub request: u32,
    /// The descriptor's `is_negative_hits`: give the hits back.
    pub refund: bool,
}

impl StatedHits {
    /// The hits to charge or to give back, at most [`Hits::MAX`].
    pub fn hits(self) -> Hits {
        let hits = self.own.unwrap_or(u64::from(self.request.max(1)));
        let hits = if self.refund { Hits::Refund(hits) } else { Hits::Add(hits) };
        hits.capped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_hits(own: Option<u64>, request: u32, expected: u64) {
        let add = StatedHits { own, request, refund: false };
        assert_eq!(add.hits(), Hits::Add(expected));
        assert_eq!(StatedHits { refund: true, ..add }.hits(), Hits::Refund(expected));
    }

    #[test]
    fn the_descriptors_hits_come_before_the_requests() {
        check_hits(None, 0, 1);
        check_hits(None, 5, 5);
        check_hits(Some(0), 5, 0);
        check_hits(Some(7), 5, 7);
        check_hits(Some(u64::MAX), 5, Hits::MAX);
    }

    #[test]
    fn overrides_have_a_known_unit_and_a_bounded_window() {
        let limit = |unit, unit_multiplier| {
            Override { requests_per_unit: 1, unit, unit_multiplier }.limit(0)
        };
        let error = |unit, multiplier| limit(unit, multiplier).unwrap_err().to_string();
        assert!(
            error(0, None)
                .starts_with("descriptors[0].limit.unit is missing or UNKNOWN (0), expected")
        );
        assert!(error(8, None).starts_with("descriptors[0].limit.unit is 8, expected"));
        assert!(error(6, Some(101)).contains("at most 100 years"));
        assert!(error(3, Some(u32::MAX)).contains("at most 100 years"));
        assert_eq!(limit(7, Some(0)), Ok(Limit::fixed(1, Window::new(Unit::Week))));
    }
}
