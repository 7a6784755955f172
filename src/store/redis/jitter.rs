//! Expiry at random, so that counters that come together do not go together.

/// How much longer than they mean anything counters are kept: a number of whole
/// seconds, each time another one, below a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jitter {
    bound: u64,
}

impl Jitter {
    /// Numbers from 0 up to, but not including, so many seconds; none if that is 0.
    pub fn below(seconds: u32) -> Self {
        Self { bound: seconds.into() }
    }

    /// The next one, in milliseconds; none if there is no choice but 0.
    pub(super) fn draw(self) -> Option<u64> {
        (self.bound > 1).then(|| fastrand::u64(..self.bound) * 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_whole_second_below_the_bound_comes_and_no_other() {
        let mut seen = [0_u32; 5];
        for _ in 0..1_000 {
            let millis = usize::try_from(Jitter::below(5).draw().unwrap()).unwrap();
            assert_eq!(millis % 1_000, 0);
            seen[millis / 1_000] += 1;
        }
        // 200 each, with a standard deviation of 13.
        assert!(seen.iter().all(|it| (60..340).contains(it)), "{seen:?}");
        assert_eq!([Jitter::below(0).draw(), Jitter::below(1).draw()], [None, None]);
    }
}
