//! The map of one limit.

use super::super::{source::Location, yaml::Map};

/// The value of `rate_limit`, or an element of `rate_limits`.
#[derive(Clone, Copy, Debug)]
pub(super) struct LimitBlock<'m, 'a> {
    pub(super) map: &'m Map<'a>,
    pub(super) location: Location,
    /// True for `rate_limit`, which may be `unlimited`.
    pub(super) is_single: bool,
}
