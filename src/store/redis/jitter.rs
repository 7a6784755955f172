//! Random additions to the expiry of counters, so that counters created together do not
//! expire together.

/// A random number of whole seconds below a bound, drawn again for each counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jitter {
    bound: u64,
}

impl Jitter {
    /// Draws from 0 to `seconds - 1`. A bound of 0 or 1 disables jitter.
    pub fn below(seconds: u32) -> Self {
        Self { bound: seconds.into() }
    }

    /// Returns a random number of milliseconds, or `None` if jitter is disabled.
    pub(super) fn draw(self) -> Option<u64> {
        if self.bound > 1 { Some(fastrand::u64(..self.bound) * 1_000) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_whole_second_below_the_bound_is_drawn_and_no_other() {
        let mut counts = [0_u32; 5];
        for _ in 0..1_000 {
            let millis = usize::try_from(Jitter::below(5).draw().unwrap()).unwrap();
            assert_eq!(millis % 1_000, 0);
            counts[millis / 1_000] += 1;
        }
        // The mean is 200, with a standard deviation of 13.
        assert!(counts.iter().all(|count| (60..340).contains(count)), "{counts:?}");
        assert_eq!(Jitter::below(0).draw(), None);
        assert_eq!(Jitter::below(1).draw(), None);
    }
}
