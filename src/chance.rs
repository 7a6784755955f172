//! Numbers by chance, where it does no harm if they are guessed.

use std::hash::{BuildHasher, RandomState};

/// From 0 to 1. The standard library seeds its hashers by chance.
pub fn chance() -> f64 {
    #[cfg(test)]
    if let Some(number) = seeded() {
        return f64::from(number) / f64::from(u32::MAX);
    }
    let number = RandomState::new().hash_one(0);
    f64::from(u32::try_from(number >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
thread_local! {
    static SEED: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
}

/// From now on `seed` decides the numbers of this thread.
#[cfg(test)]
pub(crate) fn seed(seed: u64) {
    SEED.with(|it| it.set(Some(seed)));
}

#[cfg(test)]
fn seeded() -> Option<u32> {
    let seed = SEED.with(std::cell::Cell::get)?;
    let next = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    SEED.with(|it| it.set(Some(next)));
    u32::try_from(next >> 32).ok()
}
