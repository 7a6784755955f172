//! Hits taken ahead: a rule may say that an instance takes a part of its limit at
//! once, and spends it without asking, so that a busy counter costs few calls.
//!
//! What is spent has been counted, within the limit, so never more passes than
//! the limit says. What an instance has taken and does not spend is lost at the
//! end of the window: at most [`Limit::ahead`](crate::limit::Limit) hits for each
//! instance. Less is taken by an instance that is less busy, and nothing near the
//! limit.

use std::{collections::HashMap, future::Future, time::Duration};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::{Charge, Counters, Deadline, Results, Store, StoreError, name};
use crate::{
    limit::{
        Algorithm, Hits, Limit, Outcome,
        fixed_window::State,
        step::{Answer, Told},
    },
    rules::counter_key::{CounterKey, Named},
    time::Timestamp,
};

/// What was taken ahead and lasts longer was more than needed.
const BUSY: Duration = Duration::from_millis(100);
/// Nothing is taken ahead when no more than this many times as much is left.
const NEAR: u64 = 10;
/// Of how many counters hits are taken ahead at most; the others are exact.
const MOST: usize = 10_000;

/// A store around a store: it takes hits ahead where a limit says so.
#[derive(Debug)]
pub struct Ahead<S> {
    store: S,
    leases: Mutex<HashMap<Box<[u8]>, Lease, RandomState>>,
}

/// What is known of one counter.
#[derive(Clone, Debug)]
struct Lease {
    /// When its window ends.
    end: Timestamp,
    /// How much has been taken and not been spent.
    left: u64,
    /// The counter when that was taken.
    count: u64,
    /// How much was taken last.
    size: u64,
    /// When.
    taken: Timestamp,
    /// Somebody takes more just now.
    taking: bool,
}

impl<S> Ahead<S> {
    /// A store around `store`.
    pub fn new(store: S) -> Self {
        Self { store, leases: Mutex::default() }
    }

    /// What becomes of `charge` if enough has been taken ahead.
    fn spend(&self, name: &[u8], charge: &Charge, hits: u64, now: Timestamp) -> Option<Outcome> {
        let mut leases = self.leases.lock();
        let lease = leases.get_mut(name).filter(|it| now < it.end && hits <= it.left)?;
        lease.left -= hits;
        let told = told(lease.count - lease.left);
        drop(leases);
        let answer = Answer { passes: true, banned: Timestamp::default(), told };
        Some(charge.outcome(answer, true, now))
    }

    /// Forgets what this instance has taken ahead.
    fn forget(&self, counter: &CounterKey) {
        self.leases.lock().remove(&*name(counter));
    }

    /// How much to take ahead now; nothing if others do so already.
    fn begin(&self, name: &[u8], charge: &Charge, now: Timestamp) -> Taking<'_, S> {
        let mut leases = self.leases.lock();
        if MOST <= leases.len() && !leases.contains_key(name) {
            leases.retain(|_, it| now < it.end);
        }
        if MOST <= leases.len() && !leases.contains_key(name) {
            return Taking { ahead: self, name: None, size: 0 };
        }
        let lease = leases.entry(name.into()).or_insert_with(|| Lease {
            end: charge.counter.span.end,
            left: 0,
            count: 0,
            size: 0,
            taken: Timestamp::default(),
            taking: false,
        });
        if lease.taking {
            return Taking { ahead: self, name: None, size: 0 };
        }
        let most = u64::from(charge.limit.ahead);
        let busy = now.since(lease.taken) < BUSY;
        lease.size = if busy { (2 * lease.size).clamp(1, most) } else { lease.size / 2 };
        lease.taking = true;
        lease.taken = now;
        let room = u64::from(charge.limit.requests).saturating_sub(lease.count);
        let size = if room <= NEAR * most { 0 } else { lease.size };
        Taking { ahead: self, name: Some(name.into()), size }
    }
}

/// Somebody who takes hits ahead. If the answer never comes, they are lost.
struct Taking<'a, S> {
    ahead: &'a Ahead<S>,
    /// None if others do.
    name: Option<Box<[u8]>>,
    size: u64,
}

impl<S> Taking<'_, S> {
    /// The counter is at `count`, and so many of what was taken are good.
    fn taken(&self, count: u64, good: u64) {
        let Some(name) = &self.name else { return };
        if let Some(lease) = self.ahead.leases.lock().get_mut(name) {
            lease.left += good;
            lease.count = lease.count.max(count);
        }
    }
}

impl<S> Drop for Taking<'_, S> {
    fn drop(&mut self) {
        let Some(name) = &self.name else { return };
        if let Some(lease) = self.ahead.leases.lock().get_mut(name) {
            lease.taking = false;
        }
    }
}

/// The hits of a call for which some may be taken ahead.
fn asked(charges: &[Charge]) -> Option<(&Charge, u64)> {
    let [charge] = charges else { return None };
    let Limit { ahead, penalty, algorithm, .. } = &charge.limit;
    let counts = *algorithm == Algorithm::FixedWindow { count_denied: true };
    let hits = charge.hits.capped().asked();
    let fits = 0 < *ahead && counts && penalty.is_zero() && !charge.depends() && 0 < hits;
    fits.then_some((charge, hits))
}

fn told(count: u64) -> Told {
    Told::Count(State { start: Timestamp::default(), count })
}

impl<S: Store> Store for Ahead<S> {
    async fn charge(&self, charges: &[Charge], now: Timestamp, deadline: Deadline) -> Results {
        let Some((charge, hits)) = asked(charges) else {
            return self.store.charge(charges, now, deadline).await;
        };
        let name = name(&charge.counter.key);
        if let Some(outcome) = self.spend(&name, charge, hits, now) {
            return [Ok(outcome)].into_iter().collect();
        }
        let taking = self.begin(&name, charge, now);
        let more = Charge { hits: Hits::Add(hits.saturating_add(taking.size)), ..charge.clone() };
        let results = self.store.charge(&[more], now, deadline).await;
        let Some(Ok(Outcome { used: count, .. })) = results.first() else { return results };
        // The hits of the call come first.
        let own = count.saturating_sub(taking.size);
        let limit = u64::from(charge.limit.requests);
        taking.taken(*count, limit.saturating_sub(own).min(taking.size));
        if taking.size == 0 {
            return results;
        }
        let told = told(own);
        let answer = Answer { passes: own <= limit, banned: Timestamp::default(), told };
        [Ok(charge.outcome(answer, true, now))].into_iter().collect()
    }

    fn ready(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.store.ready()
    }

    fn died(&self) -> impl Future<Output = ()> + Send {
        self.store.died()
    }
}

impl<S: Store + Counters> Counters for Ahead<S> {
    async fn look(
        &self,
        counter: &Named,
        limit: &Limit,
        now: Timestamp,
    ) -> Result<Outcome, StoreError> {
        self.store.look(counter, limit, now).await
    }

    async fn reset(&self, counter: &CounterKey) -> Result<bool, StoreError> {
        let found = self.store.reset(counter).await;
        self.forget(counter);
        found
    }

    async fn set(
        &self,
        counter: &Named,
        limit: &Limit,
        used: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let set = self.store.set(counter, limit, used, now).await;
        self.forget(&counter.key);
        set
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    };

    use futures_util::FutureExt;
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        limit::{Unit, Window},
        rules::counter_key::KeyFormat,
        store::{Consume, memory::Memory, only},
    };

    /// A store that several instances share.
    #[derive(Clone)]
    struct Shared(Arc<(Memory, AtomicU64)>);

    impl Store for Shared {
        async fn charge(&self, charges: &[Charge], now: Timestamp, deadline: Deadline) -> Results {
            self.0.1.fetch_add(1, Relaxed);
            self.0.0.charge(charges, now, deadline).await
        }

        async fn ready(&self) -> Result<(), StoreError> {
            Ok(())
        }
    }

    fn shared() -> Shared {
        Shared(Arc::new((Memory::new(256), AtomicU64::new(0))))
    }

    fn charge(limit: &Limit, hits: Hits, now: Timestamp) -> Charge {
        let counter = KeyFormat::default().key(b"a", [].into_iter(), limit, now);
        Charge {
            counter,
            limit: limit.clone(),
            hits,
            consume: Consume::Independent,
            enforced: true,
            refused: false,
            passes_late: false,
        }
    }

    fn call(store: &impl Store, charge: Charge, now: Timestamp) -> Outcome {
        let results = store.charge(&[charge], now, None).now_or_never();
        only(results.expect("memory answers at once")).expect("it answers")
    }

    fn hourly(requests: u32, ahead: u32) -> Limit {
        Limit { ahead, ..Limit::fixed(requests, Window::of(Unit::Hour)) }
    }

    #[test]
    fn a_busy_counter_costs_few_calls_and_a_quiet_one_is_exact() {
        let shared = shared();
        let ahead = Ahead::new(shared.clone());
        let limit = hourly(100_000, 1_000);
        for hit in 1..=50_000_u64 {
            let now = Timestamp::from_micros(hit * 100);
            let outcome = call(&ahead, charge(&limit, Hits::Add(1), now), now);
            assert_eq!((outcome.over, outcome.used), (false, hit));
        }
        assert!(shared.0.1.load(Relaxed) < 100, "{:?}", shared.0.1);
        let look = charge(&limit, Hits::Add(0), Timestamp::from_secs(5));
        assert!(call(&shared, look, Timestamp::from_secs(5)).used <= 51_000);
        for second in 100..130 {
            let now = Timestamp::from_secs(second);
            call(&ahead, charge(&limit, Hits::Add(900), now), now);
        }
        let now = Timestamp::from_secs(200);
        let before = call(&shared, charge(&limit, Hits::Add(0), now), now).used;
        call(&ahead, charge(&limit, Hits::Add(1_000), now), now);
        assert_eq!(call(&shared, charge(&limit, Hits::Add(0), now), now).used, before + 1_000);
    }

    #[test]
    fn what_a_caller_that_gives_up_was_taking_is_lost_and_no_more() {
        let shared = shared();
        let ahead = Ahead::new(shared.clone());
        let limit = hourly(1_000, 10);
        let now = Timestamp::from_secs(1);
        let taking = ahead.begin(b"x", &charge(&limit, Hits::Add(1), now), now);
        assert_eq!(ahead.begin(b"x", &charge(&limit, Hits::Add(1), now), now).size, 0);
        drop(taking);
        assert_eq!(ahead.begin(b"x", &charge(&limit, Hits::Add(1), now), now).size, 1);
    }

    #[test]
    fn what_was_taken_ahead_is_gone_with_the_counter_that_it_was_taken_from() {
        let ahead = Ahead::new(Memory::new(256));
        let limit = hourly(1_000, 10);
        let now = Timestamp::from_secs(1);
        let hit = || call(&ahead, charge(&limit, Hits::Add(1), now), now);
        let named = charge(&limit, Hits::Add(1), now).counter;
        let take_ahead = || {
            for _ in 0..5 {
                hit();
            }
        };
        let left = || ahead.leases.lock().values().map(|it| it.left).sum::<u64>();
        take_ahead();
        assert!(left() > 0);
        ahead.set(&named, &limit, 1_000, now).now_or_never().unwrap().unwrap();
        assert!(hit().over);
        assert!(ahead.reset(&named.key).now_or_never().unwrap().unwrap());
        take_ahead();
        assert!(left() > 0);
        assert!(ahead.reset(&named.key).now_or_never().unwrap().unwrap());
        assert_eq!(hit().used, 1);
    }

    proptest! {
        /// Hits of 3 instances within one window.
        #[test]
        fn never_more_passes_than_the_limit_and_hardly_less(
            ahead in 0..40_u32,
            calls in vec((0..3_usize, 1..4_u64, 0..30_000_u64), 300..900),
        ) {
            let limit = hourly(400, ahead);
            let shared = shared();
            let instances = [(); 3].map(|()| Ahead::new(shared.clone()));
            let (mut passed, mut refused, mut now) = (0, false, Timestamp::from_secs(3_600));
            for (instance, hits, pause) in calls {
                now = now.plus(Duration::from_micros(pause));
                let outcome = call(&instances[instance], charge(&limit, Hits::Add(hits), now), now);
                if outcome.over {
                    refused = true;
                } else {
                    passed += hits;
                }
                prop_assert!(u64::from(outcome.remaining) <= 400);
            }
            prop_assert!(passed <= 400, "{passed}");
            // What is refused at the edge counts as well.
            let lost = 3 * u64::from(ahead) + 3;
            prop_assert!(!refused || 400 <= passed + lost, "{passed}");
        }
    }
}
