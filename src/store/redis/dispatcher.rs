//! Divides requests into calls for the locations of their counters: servers, or slots of a
//! cluster.
//!
//! Each location is asked independently of the others and until the deadline. One that fails
//! does not affect the results from the others. Only charges that depend on each other and
//! cannot be made by one script run need more: a [`Reservation`].

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use smallvec::{SmallVec, smallvec};
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, sleep, timeout_at},
};

use super::{
    call::{Call, CallerStatus, ChargeReplies, Moment},
    caller_guard::CallerGuard,
    dispatch_context::{
        DispatchContext, HolderIds, MIN_RETRY_DELAY, Timing, retry_delay, still_held,
    },
    groups::{
        ChargeGroup, Groups, call_each, dependent_groups, independent_groups, max_distinct_changes,
    },
    limits::{MAX_DEPENDENT_CHARGES, QUEUE_CAPACITY},
    reservation::Reservation,
    servers::{CounterLocation, Servers},
    settler::SettlementQueue,
};
use crate::{
    store::{Charge, Deadline, Results, StoreError, all_failed, enforced::Enforcement},
    time::Timestamp,
};

/// The most groups of charges that are reserved and not settled yet, over all requests.
const MAX_RESERVED_GROUPS: usize = QUEUE_CAPACITY;
/// Requests that cost more are large, and take the lane of expensive calls.
const MAX_SMALL_REQUEST_COST: usize = 100;

#[derive(Debug)]
pub(super) struct Dispatcher<S> {
    context: Arc<DispatchContext<S>>,
    reservation_permits: Arc<Semaphore>,
    /// Set once [`settle_pending`](Self::settle_pending) has been called.
    is_ending: AtomicBool,
}

/// The request to which the charges of a call belong.
#[derive(Clone, Copy, Debug)]
struct CallOrigin<'a> {
    caller: &'a Arc<CallerStatus>,
    /// Set if the request has several calls.
    divided: bool,
    large: bool,
}

impl<S: Servers> Dispatcher<S> {
    pub(super) fn new(servers: Arc<S>, settlements: SettlementQueue) -> Self {
        let holder_ids = HolderIds::new();
        Self {
            context: Arc::new(DispatchContext { servers, settlements, holder_ids }),
            reservation_permits: Arc::new(Semaphore::new(MAX_RESERVED_GROUPS)),
            is_ending: AtomicBool::new(false),
        }
    }

    pub(super) fn servers(&self) -> &S {
        &self.context.servers
    }

    pub(super) fn settlements(&self) -> &SettlementQueue {
        &self.context.settlements
    }

    /// Waits until all reservations are settled and all refunds are made, or until `deadline`.
    pub(super) async fn settle_pending(&self, deadline: Instant) {
        self.is_ending.store(true, Relaxed);
        // A reservation keeps its permits until it is settled, also after its caller has left.
        let all = u32::try_from(MAX_RESERVED_GROUPS).unwrap_or(u32::MAX);
        let settled = self.reservation_permits.acquire_many(all);
        let _ = timeout_at(deadline, settled).await;
        self.settlements().drain(deadline).await;
    }

    /// Makes all `charges`: see [`Store::charge`](crate::store::Store::charge).
    pub(super) async fn charge(
        &self,
        charges: &[Charge],
        now: Timestamp,
        deadline: Deadline,
    ) -> Results {
        let timing = self.timing(now, deadline);
        if let [charge] = charges {
            let caller = CallerGuard::new(self.settlements());
            let location = self.servers().locate(charge);
            let origin = CallOrigin { caller: &caller.status, divided: false, large: false };
            let results = self.call_location(location, charges, timing, origin).await;
            return report(caller, charges, results, now);
        }
        if charges.iter().any(|charge| charge.depends_on_others() && !charge.refused) {
            self.charge_dependent(charges, timing).await
        } else {
            let groups = independent_groups(self.servers(), charges);
            self.charge_groups(charges, &groups, timing).await
        }
    }

    fn timing(&self, now: Timestamp, deadline: Deadline) -> Timing {
        let start = Moment { timestamp: now, instant: Instant::now() };
        let timeout = start.instant + self.servers().timeout();
        Timing {
            start,
            run_time_at_start: self.servers().run_clock().now(),
            deadline: deadline.map_or(timeout, |deadline| deadline.min(timeout)),
        }
    }

    async fn charge_dependent(&self, charges: &[Charge], timing: Timing) -> Results {
        if MAX_DEPENDENT_CHARGES < charges.len()
            && MAX_DEPENDENT_CHARGES < max_distinct_changes(charges)
        {
            let reason = format!(
                "the request has more than {MAX_DEPENDENT_CHARGES} different charges to one \
                 counter, and its limits depend on each other"
            );
            return all_failed(charges.len(), &StoreError::Failed(reason));
        }
        let groups = dependent_groups(self.servers(), charges);
        if groups.len() > 1 {
            return self.reserve(charges, groups, timing).await;
        }
        self.charge_groups(charges, &groups, timing).await
    }

    /// Makes each group by a call of its own.
    async fn charge_groups(
        &self,
        charges: &[Charge],
        groups: &[ChargeGroup],
        timing: Timing,
    ) -> Results {
        let mut cost = 0;
        for group in groups {
            cost += group.cost;
        }
        let caller = CallerGuard::new(self.settlements());
        let origin = CallOrigin {
            caller: &caller.status,
            divided: groups.len() > 1,
            large: MAX_SMALL_REQUEST_COST < cost,
        };
        let results = if let [group] = groups {
            self.call_location(group.location, charges, timing, origin).await
        } else {
            self.call_groups(charges, groups, timing, origin).await
        };
        report(caller, charges, results, timing.start.timestamp)
    }

    async fn call_groups(
        &self,
        charges: &[Charge],
        groups: &[ChargeGroup],
        timing: Timing,
        origin: CallOrigin<'_>,
    ) -> Results {
        let call = async |group: usize| {
            let group = &groups[group];
            self.call_location(group.location, &group.charges(charges), timing, origin).await
        };
        let mut results: SmallVec<[Option<_>; 4]> = smallvec![None; charges.len()];
        for found in call_each(self.servers(), groups, call).await {
            let positions = &groups[found.group].positions;
            for (position, result) in positions.iter().zip(found.result) {
                results[*position] = Some(result);
            }
        }
        let mut all = Results::new();
        for result in results {
            all.push(match result {
                Some(result) => result,
                None => Err(StoreError::Failed("a reply is missing".into())),
            });
        }
        all
    }

    /// Makes charges at one location. Retries those whose outcome depends on hits that other
    /// calls hold.
    async fn call_location(
        &self,
        location: CounterLocation,
        charges: &[Charge],
        timing: Timing,
        origin: CallOrigin<'_>,
    ) -> Results {
        let now = timing.start.timestamp;
        let call = Arc::new(Call {
            started_at: timing.start.instant,
            run_time_at_start: Some(timing.run_time_at_start),
            caller: Some(Arc::clone(origin.caller)),
            large: origin.large,
            ..Call::new(charges, now)
        });
        let replies = match self.servers().send(location, &call, timing.deadline).await {
            Ok(replies) => replies,
            Err(error) => return all_failed(charges.len(), &error.into()),
        };
        let undecided = replies.iter().any(Option::is_none);
        // The complete reply to the only call of a request reaches the caller at once.
        if undecided || origin.divided {
            origin.caller.on_reply(&call, &replies);
        }
        if undecided {
            return Box::pin(self.retry_undecided(location, &call, replies, timing.deadline)).await;
        }
        results(&call, &replies, None)
    }

    async fn retry_undecided(
        &self,
        location: CounterLocation,
        call: &Arc<Call>,
        mut replies: ChargeReplies,
        deadline: Instant,
    ) -> Results {
        loop {
            let undecided = undecided_positions(&replies);
            if undecided.is_empty() || deadline <= Instant::now() + MIN_RETRY_DELAY {
                return results(call, &replies, None);
            }
            sleep(retry_delay()).await;
            let retry = Arc::new(retry_call(call, &undecided, &replies));
            let found = match self.servers().send(location, &retry, deadline).await {
                Ok(found) => found,
                Err(error) => return results(call, &replies, Some(&error.into())),
            };
            if let Some(caller) = &call.caller {
                caller.on_reply(&retry, &found);
            }
            for (position, reply) in undecided.into_iter().zip(found) {
                replies[position] = reply;
            }
        }
    }

    /// Makes groups that depend on each other, in a task that settles them even if the caller
    /// is cancelled.
    async fn reserve(&self, charges: &[Charge], groups: Groups, timing: Timing) -> Results {
        let count = u32::try_from(groups.len()).unwrap_or(u32::MAX);
        let permits = Arc::clone(&self.reservation_permits);
        let Ok(permits) = permits.try_acquire_many_owned(count) else {
            let reason = if self.is_ending.load(Relaxed) {
                "the process is shutting down".into()
            } else {
                format!("{MAX_RESERVED_GROUPS} groups of dependent limits are reserved")
            };
            return all_failed(charges.len(), &StoreError::Failed(reason));
        };
        let context = Arc::clone(&self.context);
        let reservation = Reservation::new(context, charges, groups, Arc::new(permits), timing);
        let (results, receiver) = oneshot::channel();
        tokio::spawn(reservation.run(results));
        match receiver.await {
            Ok(results) => results,
            Err(_) => {
                let reason = "the task of the request has failed".into();
                all_failed(charges.len(), &StoreError::Failed(reason))
            }
        }
    }
}

/// Returns the results to the caller, and records if they let it through.
fn report(
    caller: CallerGuard<'_>,
    charges: &[Charge],
    results: Results,
    now: Timestamp,
) -> Results {
    let mut enforcement = Enforcement::default();
    for (charge, result) in charges.iter().zip(&results) {
        match result {
            Ok(outcome) => enforcement.add(charge, Some(outcome.over)),
            Err(_) => enforcement.add_unanswered(charge, now),
        }
    }
    caller.finish(enforcement.lets_through());
    results
}

fn undecided_positions(replies: &ChargeReplies) -> SmallVec<[usize; 4]> {
    let mut undecided = SmallVec::new();
    for (position, reply) in replies.iter().enumerate() {
        if reply.is_none() {
            undecided.push(position);
        }
    }
    undecided
}

/// A call for the `undecided` charges of `call`. The replies to the others may have decided the
/// request already.
fn retry_call(call: &Call, undecided: &[usize], replies: &ChargeReplies) -> Call {
    let mut enforcement = Enforcement::default();
    for (charge, reply) in call.charges.iter().zip(replies) {
        enforcement.add(charge, reply.map(|reply| reply.is_over(charge, call.now)));
    }
    let mut retry = call.subset(undecided.iter().copied());
    for charge in &mut retry.charges {
        charge.refused |= enforcement.refuses() && charge.depends_on_others();
        charge.enforced = enforcement.remaining(charge.enforced);
    }
    retry
}

/// One result per charge of `call`. Undecided charges get `error`, or else that hits are held.
fn results(call: &Call, replies: &ChargeReplies, error: Option<&StoreError>) -> Results {
    let mut results = Results::new();
    for (charge, reply) in call.charges.iter().zip(replies) {
        results.push(match reply {
            Some(reply) => Ok(reply.if_granted.outcome(charge, call.now)),
            None => Err(error.cloned().unwrap_or_else(still_held)),
        });
    }
    results
}
