//! The latest refusals.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::name::{Name, ReadName, StoredName};
use crate::{
    limit::Limit,
    rules::{Rule, spec::OnError},
    time::Timestamp,
};

/// The refusals that are kept.
pub const KEPT: usize = 1_000;

/// The most refusals that are recorded in one second.
pub const MOST_PER_SECOND: u32 = 100;

/// The refusals that are kept.
#[derive(Debug)]
pub(super) struct Refusals(Mutex<Ring>);

#[derive(Debug)]
struct Ring {
    /// The oldest first. Has memory for all from the start.
    kept: VecDeque<Refusal>,
    /// The number of the next one.
    next: u64,
    second: u64,
    in_second: u32,
    not_recorded: u64,
}

/// A refused request, by the limit that decided.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) number: u64,
    pub(super) at: Timestamp,
    pub(super) name: StoredName,
    pub(super) cause: Cause,
}

/// The cause of a refusal.
#[derive(Clone, Debug)]
pub struct Cause {
    /// The rule; `None` if the request brought its own limit.
    pub rule: Option<Arc<Rule>>,
    /// The limit.
    pub limit: Limit,
    /// Its name; may be empty.
    pub limit_name: Arc<str>,
    /// The hits that the request asked for.
    pub hits: u64,
    /// The hits that the limit still had room for.
    pub remaining: u32,
    /// The time until the same request passes; `None` if it never does.
    pub wait: Option<Duration>,
    /// The policy that decided because the store did not answer.
    pub policy: Option<OnError>,
}

/// A refusal that is read.
#[derive(Clone, Debug)]
pub struct RecentRefusal {
    /// Grows by 1 with each recorded refusal of this process; the first is 0.
    pub number: u64,
    /// The time of the decision.
    pub at: Timestamp,
    /// The domain, and the descriptor that decided.
    pub name: ReadName,
    /// The cause.
    pub cause: Cause,
}

/// Some of the latest refusals.
#[derive(Clone, Debug)]
pub struct RecentRefusals {
    /// The oldest first.
    pub list: Vec<RecentRefusal>,
    /// The number after the last of them.
    pub next: u64,
    /// Refusals since the start that were not recorded, because there were more than
    /// [`MOST_PER_SECOND`].
    pub not_recorded: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        Self(Mutex::new(Ring {
            kept: VecDeque::with_capacity(KEPT),
            next: 0,
            second: 0,
            in_second: 0,
            not_recorded: 0,
        }))
    }
}

impl Refusals {
    /// Records a refusal, or counts it if there are too many. Does not allocate.
    pub(super) fn record(&self, at: Timestamp, name: Name<'_>, cause: impl FnOnce() -> Cause) {
        let mut ring = self.0.lock();
        let second = at.as_secs();
        if ring.second != second {
            (ring.second, ring.in_second) = (second, 0);
        }
        if MOST_PER_SECOND <= ring.in_second {
            ring.not_recorded = ring.not_recorded.saturating_add(1);
            return;
        }
        ring.in_second += 1;
        let number = ring.next;
        ring.next += 1;
        let oldest = if ring.kept.len() == KEPT { ring.kept.pop_front() } else { None };
        ring.kept.push_back(Refusal { number, at, name: StoredName::new(name), cause: cause() });
        drop(ring);
        // It may be the last holder of a rule.
        drop(oldest);
    }

    /// The first `most` refusals with the number `from` or a higher one that `is_wanted`;
    /// without `from` the last ones.
    pub(super) fn read(
        &self,
        from: Option<u64>,
        most: usize,
        is_wanted: impl Fn(&RecentRefusal) -> bool,
    ) -> RecentRefusals {
        let (kept, end, not_recorded) = {
            let ring = self.0.lock();
            let first = ring.next - ring.kept.len() as u64;
            let skipped = from.map_or(0, |from| from.saturating_sub(first));
            let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
            let kept: Vec<Refusal> = ring.kept.iter().skip(skipped).cloned().collect();
            (kept, ring.next, ring.not_recorded)
        };
        let mut list = Vec::new();
        let mut next = from.unwrap_or_default().max(end);
        for Refusal { number, at, name, cause } in kept {
            let refusal = RecentRefusal { number, at, name: name.read(), cause };
            if !is_wanted(&refusal) {
                continue;
            }
            if list.len() == most && from.is_some() {
                next = number;
                break;
            }
            list.push(refusal);
        }
        let surplus = list.len().saturating_sub(most);
        list.drain(..surplus);
        RecentRefusals { list, next, not_recorded }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Unit, Window};

    fn record(refusals: &Refusals, at: Timestamp, domain: &str) {
        let name = Name { domain: domain.as_bytes(), entries: &[] };
        refusals.record(at, name, || Cause {
            rule: None,
            limit: Limit::fixed(1, Window::new(Unit::Second)),
            limit_name: "".into(),
            hits: 1,
            remaining: 0,
            wait: None,
            policy: None,
        });
    }

    fn numbers(read: &RecentRefusals) -> Vec<u64> {
        read.list.iter().map(|refusal| refusal.number).collect()
    }

    #[test]
    fn a_hundred_of_each_second_are_recorded_and_the_others_counted() {
        let refusals = Refusals::default();
        for hit in 0..30_000 {
            record(&refusals, Timestamp::from_micros(hit * 1_000), "a");
        }
        let read = refusals.read(None, usize::MAX, |_| true);
        assert_eq!(read.list.len(), KEPT);
        assert_eq!(read.not_recorded, 30_000 - 30 * u64::from(MOST_PER_SECOND));
        assert_eq!((read.list[0].number, read.next), (2_000, 3_000));
        assert_eq!(read.list[0].at.as_secs(), 20);
    }

    #[test]
    fn refusals_are_read_page_by_page() {
        let refusals = Refusals::default();
        for hit in 0..10 {
            let domain = if hit % 2 == 0 { "even" } else { "odd" };
            record(&refusals, Timestamp::from_secs(hit), domain);
        }
        let odd = |refusal: &RecentRefusal| refusal.name.domain == b"odd";
        let last = refusals.read(None, 3, |_| true);
        assert_eq!((numbers(&last), last.next), (vec![7, 8, 9], 10));
        let first = refusals.read(Some(0), 2, odd);
        assert_eq!((numbers(&first), first.next), (vec![1, 3], 5));
        let second = refusals.read(Some(5), 3, odd);
        assert_eq!((numbers(&second), second.next), (vec![5, 7, 9], 10));
        let none = refusals.read(Some(10), 2, |_| true);
        assert_eq!((numbers(&none), none.next), (vec![], 10));
    }
}
