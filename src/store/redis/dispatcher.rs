//! Calls whose counters may be in several places: on two servers, or in several slots of
//! a cluster.
//!
//! Each place is asked by itself and until the deadline, and takes nothing from the
//! others: what is known decides, whatever becomes of the rest. Only charges that depend
//! on each other and are not made by one script need more than that: see [`Reservation`].

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use foldhash::fast::RandomState;
use smallvec::{SmallVec, smallvec};
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, sleep},
};

use super::{
    call::{Call, CallResult, CallerStatus, ChargeReplies, ChargeReply, cost},
    caller_guard::CallerGuard,
    groups::{Group, different, of_each},
    limits::{FULL_BATCH_COST, MAX_DEPENDENT_CHARGES, MAX_REQUEST_COST_IN_FLIGHT, QUEUE_CAPACITY},
    reservation::Reservation,
    run_clock::RunClock,
    settler::{SettlementQueue, Settles},
};
use crate::{
    limit::{Hits, Outcome},
    store::{
        Charge, Deadline, Results, StoreError, all_failed,
        enforced::{Enforcement, is_served},
    },
    time::Timestamp,
};

/// Where a counter is. Charges to the same place can be made by one script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Location {
    /// Whether it is on the server for limits per second.
    pub(super) per_second: bool,
    /// The slot, in a cluster.
    pub(super) slot: u16,
}

/// The servers that have the counters.
pub(super) trait Servers: Send + Sync + 'static {
    /// Where the counter of `charge` is.
    fn locate(&self, charge: &Charge) -> Location;

    /// The number of the server that currently owns `place`. May be out of date.
    fn owner(&self, place: Location) -> u32;

    /// Whether charges to different counters at `place` go apart unless they depend on
    /// each other: so they share round trips with all others of their server.
    fn splits_by_counter(&self, place: Location) -> bool;

    /// Makes a call, all charges of which are at `place`, and waits for the answer until
    /// then.
    fn send(
        &self,
        place: Location,
        call: &Arc<Call>,
        until: Instant,
    ) -> impl Future<Output = CallResult> + Send;

    /// The longest that a call may take.
    fn timeout(&self) -> Duration;

    /// Measures the time in which this process ran.
    fn run_clock(&self) -> &RunClock;

    /// The most that one request may have in flight on a server, in units of [`cost`].
    fn max_cost_in_flight(&self) -> usize {
        MAX_REQUEST_COST_IN_FLIGHT
    }

    /// The most dependent charges that one script makes.
    fn max_dependent_charges(&self) -> usize {
        MAX_DEPENDENT_CHARGES
    }
}

impl<S: Servers> Settles for S {
    async fn settle(&self, call: &Arc<Call>, until: Instant) -> CallResult {
        let Some(charge) = call.charges.first() else { return Ok(SmallVec::new()) };
        let until = until.min(Instant::now() + self.timeout());
        self.send(self.locate(charge), call, until).await
    }
}

/// Makes calls.
#[derive(Debug)]
pub(super) struct Dispatcher<S> {
    pub(super) servers: Arc<S>,
    pub(super) late: SettlementQueue,
    /// The number of the next call that holds hits.
    next: AtomicU64,
    /// One permit for each group that is reserved.
    reservations: Arc<Semaphore>,
}

/// When a call is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    /// By the clock of the counters.
    pub(super) now: Timestamp,
    /// When that was.
    pub(super) started_at: Instant,
    /// The [run_clock](RunClock::now) at that moment.
    pub(super) run_time_at_start: Duration,
    /// How long the answer is waited for.
    pub(super) until: Instant,
}

/// The most groups of charges that may be reserved at the same time, until they are settled.
const RESERVED: usize = QUEUE_CAPACITY;
/// What a request costs at most that is not large.
const LARGE: usize = 100;

/// Whose charges they are.
#[derive(Clone, Copy, Debug)]
struct Whose<'a> {
    caller: &'a Arc<CallerStatus>,
    /// Whether there are others.
    several: bool,
    /// Whether all of them together are many.
    large: bool,
}

impl<S: Servers> Dispatcher<S> {
    pub(super) fn new(servers: Arc<S>, late: SettlementQueue) -> Self {
        // Other instances number theirs as well.
        let first = u64::from(fastrand::u32(..)) | 1;
        let next = AtomicU64::new(first << 20);
        Self { servers, late, next, reservations: Arc::new(Semaphore::new(RESERVED)) }
    }

    /// A number that no other call has.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Relaxed) % Hits::MAX + 1
    }

    /// Makes every charge: see [`Store::charge`](crate::store::Store::charge).
    pub(super) async fn charge(
        self: &Arc<Self>,
        charges: &[Charge],
        now: Timestamp,
        deadline: Deadline,
    ) -> Results {
        let started_at = Instant::now();
        let until = started_at + self.servers.timeout();
        let until = deadline.map_or(until, |it| it.min(until));
        let time =
            Time { now, started_at, run_time_at_start: self.servers.run_clock().now(), until };
        if let [charge] = charges {
            let caller = CallerGuard::new(&self.late);
            let place = self.servers.locate(charge);
            let whose = Whose { caller: &caller.status, several: false, large: false };
            let results = self.make(place, charges, time, whose).await;
            return tell(caller, charges, results, now);
        }
        let depends = charges.iter().any(|it| it.depends_on_others() && !it.refused);
        let groups = self.groups(charges, depends);
        if depends
            && MAX_DEPENDENT_CHARGES < charges.len()
            && MAX_DEPENDENT_CHARGES < different(charges)
        {
            let why = format!(
                "the request has more than {MAX_DEPENDENT_CHARGES} different charges to one counter, and its \
                 limits depend on each other"
            );
            return all_failed(charges.len(), &StoreError::Failed(why));
        }
        if depends && groups.len() > 1 {
            return self.reserve(charges, groups, time).await;
        }
        let caller = CallerGuard::new(&self.late);
        let large = LARGE < groups.iter().map(|it| it.cost).sum();
        let whose = Whose { caller: &caller.status, several: groups.len() > 1, large };
        let results = match groups.as_slice() {
            [group] => self.make(group.place, charges, time, whose).await,
            groups => self.apart(charges, groups, time, whose).await,
        };
        tell(caller, charges, results, now)
    }

    /// Divides `charges` into groups, each for one script. A group of independent charges costs
    /// at most as much as a batch.
    fn groups(&self, charges: &[Charge], depends: bool) -> SmallVec<[Group; 4]> {
        if depends {
            return self.dependent_groups(charges);
        }
        let mut groups = SmallVec::<[Group; 4]>::new();
        // The last group of each kind.
        let mut last: HashMap<_, usize, RandomState> = HashMap::default();
        for (at, charge) in charges.iter().enumerate() {
            let place = self.servers.locate(charge);
            let kind =
                (place, self.servers.splits_by_counter(place).then_some(&charge.counter.key));
            let cost = cost(charge);
            match last.get(&kind).map(|it| &mut groups[*it]) {
                Some(group) if group.cost + cost <= FULL_BATCH_COST => group.add(at, cost),
                _ => {
                    last.insert(kind, groups.len());
                    groups.push(Group { place, at: smallvec![at], cost });
                }
            }
        }
        groups
    }

    /// Divides charges that depend on each other: one group for each place, and several by
    /// counter where one group would cost too much. All calls reserve groups in the same
    /// order, by place and then by counter, so that no two wait for each other.
    fn dependent_groups(&self, charges: &[Charge]) -> SmallVec<[Group; 4]> {
        let places = charges.iter().map(|it| self.servers.locate(it));
        let mut order: SmallVec<[(Location, usize); 4]> =
            places.enumerate().map(|(at, place)| (place, at)).collect();
        order.sort_unstable();
        let mut groups = SmallVec::<[Group; 4]>::new();
        for own in order.chunk_by(|one, next| one.0 == next.0) {
            let mut group = Group { place: own[0].0, at: SmallVec::new(), cost: 0 };
            for &(_, at) in own {
                group.add(at, cost(&charges[at]));
            }
            groups.extend(group.divided(charges, self.servers.max_dependent_charges()));
        }
        groups
    }

    /// Makes each group with a script of its own.
    async fn apart(
        &self,
        charges: &[Charge],
        groups: &[Group],
        time: Time,
        whose: Whose<'_>,
    ) -> Results {
        let make = async |at: usize| {
            let Group { place, at, .. } = &groups[at];
            let own: SmallVec<[Charge; 4]> = at.iter().map(|it| charges[*it].clone()).collect();
            self.make(*place, &own, time, whose).await
        };
        let mut results: SmallVec<[Option<_>; 4]> = smallvec![None; charges.len()];
        for (at, found) in of_each(&*self.servers, groups, make).await {
            for (at, result) in groups[at].at.iter().zip(found) {
                results[*at] = Some(result);
            }
        }
        let missing = || Err(StoreError::Failed("an answer is missing".into()));
        results.into_iter().map(|it| it.unwrap_or_else(missing)).collect()
    }

    /// Makes charges at one place, which are all of a call unless it is `several`. Where
    /// others hold hits on which the answer depends, asks again.
    async fn make(
        &self,
        place: Location,
        charges: &[Charge],
        Time { now, started_at, run_time_at_start, until }: Time,
        whose: Whose<'_>,
    ) -> Results {
        let Whose { caller, several, large } = whose;
        let caller = Some(Arc::clone(caller));
        let call = Call {
            started_at,
            run_time_at_start: Some(run_time_at_start),
            caller,
            large,
            ..Call::new(charges, now)
        };
        let call = Arc::new(call);
        let answers = match self.servers.send(place, &call, until).await {
            Err(error) => return all_failed(charges.len(), &error.into()),
            Ok(answers) => answers,
        };
        let open = answers.iter().any(Option::is_none);
        // The only answer is told at once.
        if open || several {
            whose.caller.on_reply(&call, &answers);
        }
        if open {
            return Box::pin(self.again(place, &call, answers, until)).await;
        }
        let both = charges.iter().zip(answers);
        both.map(|(charge, answered)| {
            answered.map(|answered| outcome(charge, answered, now)).ok_or_else(still_held)
        })
        .collect()
    }

    /// The same again, for the charges that have no answer yet.
    async fn again(
        &self,
        place: Location,
        call: &Arc<Call>,
        mut answers: ChargeReplies,
        until: Instant,
    ) -> Results {
        let mut error = still_held();
        loop {
            let open: SmallVec<[usize; 4]> =
                (0..answers.len()).filter(|it| answers[*it].is_none()).collect();
            if open.is_empty() || until <= Instant::now() + RETRY {
                break;
            }
            sleep(a_moment()).await;
            let part = Arc::new(rest(call, &open, &answers));
            match self.servers.send(place, &part, until).await {
                Ok(found) => {
                    if let Some(caller) = &call.caller {
                        caller.on_reply(&part, &found);
                    }
                    for (at, answered) in open.into_iter().zip(found) {
                        answers[at] = answered;
                    }
                }
                Err(why) => {
                    error = why.into();
                    break;
                }
            }
        }
        let both = call.charges.iter().zip(answers);
        both.map(|(charge, answered)| match answered {
            Some(answered) => Ok(outcome(charge, answered, call.now)),
            None => Err(error.clone()),
        })
        .collect()
    }

    /// Reserves what depends on each other, in a task that ends in good order whatever
    /// becomes of the caller.
    async fn reserve(
        self: &Arc<Self>,
        charges: &[Charge],
        groups: SmallVec<[Group; 4]>,
        time: Time,
    ) -> Results {
        let count = u32::try_from(groups.len()).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(&self.reservations).try_acquire_many_owned(count) else {
            let why = format!("{RESERVED} groups of limits that depend on each other are reserved");
            return all_failed(charges.len(), &StoreError::Failed(why));
        };
        let (tell, told) = oneshot::channel();
        let permit = Arc::new(permit);
        let reservation = Reservation::new(Arc::clone(self), charges, (groups, permit), time);
        tokio::spawn(reservation.run(tell));
        let died = |_| all_failed(charges.len(), &StoreError::Failed("the task has died".into()));
        told.await.unwrap_or_else(died)
    }
}

/// Tells the caller, and those who hear of late answers whether it was served.
fn tell(caller: CallerGuard<'_>, charges: &[Charge], results: Results, now: Timestamp) -> Results {
    let over = |it: &Result<Outcome, StoreError>| it.as_ref().ok().map(|it| it.over);
    let over = charges.iter().zip(&results).map(|(charge, it)| (charge, over(it)));
    caller.finish(is_served(over, now));
    results
}

/// The charges of `call` that are `open`. Those that have an answer may have decided what
/// becomes of it.
fn rest(call: &Call, open: &[usize], answers: &ChargeReplies) -> Call {
    let over = |charge, it: &Option<ChargeReply>| it.map(|it| outcome(charge, it, call.now).over);
    let over = call.charges.iter().zip(answers).map(|(it, answer)| (it, over(it, answer)));
    let all = Enforcement::of(over);
    let mut part = call.part(open.iter().copied());
    for charge in &mut part.charges {
        charge.refused |= all.refuses() && charge.depends_on_others();
        charge.enforced = all.left(charge.enforced);
    }
    part
}

/// The shortest time after which to ask again where others hold hits.
pub(super) const RETRY: Duration = Duration::from_millis(1);

/// From once to twice that, by chance.
pub(super) fn a_moment() -> Duration {
    RETRY.mul_f64(1.0 + fastrand::f64())
}

/// Why there is no answer where others hold hits for too long.
pub(super) fn still_held() -> StoreError {
    StoreError::Failed("the last hits of the limit are held by calls that are not decided".into())
}

/// What an answer means.
pub(super) fn outcome(charge: &Charge, answered: ChargeReply, now: Timestamp) -> Outcome {
    if answered.made {
        charge.outcome(answered.answer, now)
    } else {
        charge.skipped_outcome(answered.answer, now)
    }
}
