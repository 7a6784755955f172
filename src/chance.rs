//! Numbers by chance, where it does no harm if they are guessed.

use std::hash::{BuildHasher, RandomState};

/// From 0 to 1. The standard library seeds its hashers by chance.
pub fn chance() -> f64 {
    let number = RandomState::new().hash_one(0);
    f64::from(u32::try_from(number >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}
