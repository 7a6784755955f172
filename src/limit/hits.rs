//! Hits: the amount of a charge.

/// The amount by which one charge changes a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hits {
    /// Adds hits. 0 reads the counter and changes nothing.
    Add(u64),
    /// Gives hits back. A counter never falls below zero.
    Refund(u64),
}

impl Hits {
    /// The most hits that one charge can add or give back, and the highest value of a
    /// counter: 2⁵³ − 1, the last integer that Lua counts exactly.
    pub const MAX: u64 = (1 << 53) - 1;

    /// The same hits, at most [`Self::MAX`].
    pub fn capped(self) -> Self {
        match self {
            Self::Add(hits) => Self::Add(hits.min(Self::MAX)),
            Self::Refund(hits) => Self::Refund(hits.min(Self::MAX)),
        }
    }

    /// The hits as one number, [capped](Self::capped): refunds are negative.
    pub fn signed(self) -> i64 {
        match self.capped() {
            Self::Add(hits) => hits.cast_signed(),
            Self::Refund(hits) => -hits.cast_signed(),
        }
    }

    /// The number of hits that the limit has to have room for: 0 for a refund.
    pub const fn requested(self) -> u64 {
        match self {
            Self::Add(hits) => hits,
            Self::Refund(_) => 0,
        }
    }
}

/// Controls how a step treats the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitCheck {
    /// Hits pass only if the limit has room for them.
    Enforce,
    /// Hits always pass, because the decision to count them was made earlier.
    Skip,
}

/// Hits to apply to a counter, and the treatment of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// The hits to add or give back.
    pub hits: Hits,
    /// [`LimitCheck::Skip`] adds the hits even if they exceed the limit.
    pub check: LimitCheck,
}

impl Amount {
    /// The amount of a charge that only reads the counter.
    pub(super) const NONE: Self = Self { hits: Hits::Add(0), check: LimitCheck::Enforce };

    /// True if the hits pass even if they exceed the limit.
    pub(super) fn is_forced(self) -> bool {
        self.check == LimitCheck::Skip
    }
}

/// The hits of a charge, and the algorithm's decision about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DecidedHits {
    pub(super) hits: Hits,
    /// False if the hits were refused.
    pub(super) passed: bool,
}

/// The state after a charge, and the algorithm's decision about its hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stepped<S> {
    /// The state after the charge.
    pub(super) state: S,
    /// False if the hits were refused.
    pub(super) passes: bool,
}
