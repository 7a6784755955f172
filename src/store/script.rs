//! What one call does to counters: the twin of `redis/lua/charge.lua`. tests/store
//! holds the two to the same answers; change them together.
//!
//! Counters of one call may be on several servers, or too many for one script.
//! Then hits are *held* first, in the counter and with an end: a hold takes room as
//! hits do, but is neither counted nor a reason to refuse. Once it is known what
//! becomes of the call, each hold is [settled](settle). Whoever would be refused only
//! because of what others hold is not decided, and asks again.

use std::time::Duration;

use smallvec::{SmallVec, smallvec};

use super::{Charge, enforced::Enforcement};
use crate::{
    counter::CounterKey,
    limit::{
        Hits, Limit, Outcome,
        hits::{Amount, LimitCheck},
        step::{self, Grant, Snapshot, State, Step, StepResult},
    },
    time::Timestamp,
};

/// How many calls may hold hits of one counter; more wait.
const MOST_HOLDS: usize = 1_000;

/// What is kept under a counter's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) state: Option<State>,
    /// Since when everything is refused; the epoch if nothing is.
    pub(crate) banned: Timestamp,
    pub(crate) holds: Vec<Hold>,
}

/// Hits that a call holds until it is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    /// Of the call; never 0.
    pub(crate) id: u64,
    pub(crate) hits: u64,
    /// When it takes no room any more, whatever has become of the call.
    pub(crate) until: Timestamp,
}

/// How long a hold that has ended is still known: its hits can be counted.
pub(crate) const KNOWN: Duration = Duration::from_secs(50);

impl Hold {
    /// Whether it takes room.
    fn is_valid(&self, now: Timestamp) -> bool {
        now < self.until
    }

    fn is_known(&self, now: Timestamp) -> bool {
        now < self.until.plus(KNOWN)
    }
}

/// For whom a call holds what depends on charges elsewhere, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) id: u64,
    pub(crate) until: Timestamp,
}

/// One charge, worked out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) verdict: Verdict,
    /// When the ban ends that there was before.
    pub(crate) banned: Timestamp,
    pub(crate) before: Snapshot,
    pub(crate) after: Snapshot,
    pub(crate) made: bool,
    /// Whether that changes the state.
    pub(crate) counts: bool,
    /// Whether its hits wait to be counted.
    pub(crate) waits: bool,
}

/// Whether the algorithm lets hits pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passes,
    Refused,
    /// That depends on what others hold. Nothing was made.
    Unsure,
}

impl Attempt {
    /// Whether the charge is over its limit, for sure.
    fn over(&self, charge: &Charge, now: Timestamp) -> bool {
        self.verdict == Verdict::Refused || !charge.is_refund() && now < self.banned
    }

    pub(crate) fn outcome(&self, charge: &Charge, now: Timestamp) -> Outcome {
        let &Self { verdict, banned, before, after, made, .. } = self;
        let told = if made { after } else { before };
        let answer = StepResult {
            passes: verdict != Verdict::Refused,
            banned_until: banned,
            snapshot: told,
        };
        if made { charge.outcome(answer, now) } else { charge.skipped_outcome(answer, now) }
    }
}

/// A call while it is worked out. Nothing is written before it is known what becomes of
/// the call.
struct Call<'a, R> {
    read: R,
    holder: Option<Holder>,
    now: Timestamp,
    charges: &'a [Charge],
    /// For each charge, the first to the same counter.
    firsts: Positions,
    written: SmallVec<[Written; 4]>,
    /// For each charge that is a first, the last that is written to its counter.
    latest: SmallVec<[Option<usize>; 4]>,
}

/// Positions of charges.
type Positions = SmallVec<[usize; 4]>;

/// For each charge, the position of the first to the same counter.
fn firsts(charges: &[Charge]) -> Positions {
    let name = |at: usize| charges[at].counter.key.as_bytes();
    let mut order: Positions = (0..charges.len()).collect();
    order.sort_unstable_by_key(|&at| (name(at), at));
    let mut firsts = order.clone();
    let mut first = 0;
    for (place, &at) in order.iter().enumerate() {
        if place == 0 || name(at) != name(first) {
            first = at;
        }
        firsts[at] = first;
    }
    firsts
}

/// What a call writes to one counter. What comes later counts.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// The position of the charge that writes it.
    pub(crate) at: usize,
    pub(crate) record: Record,
    /// What is told of the state, if that changes.
    pub(crate) told: Option<Snapshot>,
}

/// One attempt for each charge.
pub(crate) type Attempts = SmallVec<[Attempt; 4]>;

/// A call, worked out.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// What each charge comes to.
    pub(crate) attempts: Attempts,
    /// What it would come to if the call were refused elsewhere; only of one that holds.
    #[cfg_attr(not(test), expect(dead_code, reason = "outside of tests only scripts hold"))]
    pub(crate) refused: Option<Attempts>,
    pub(crate) written: SmallVec<[Written; 4]>,
}

/// Works out the charges of one call to the counters that `read` finds.
pub(crate) fn make(
    charges: &[Charge],
    holder: Option<Holder>,
    now: Timestamp,
    read: impl FnMut(&CounterKey) -> Record,
) -> Made {
    let mut call = Call {
        read,
        holder,
        now,
        charges,
        firsts: firsts(charges),
        written: SmallVec::new(),
        latest: smallvec![None; charges.len()],
    };
    let mut attempts = Attempts::new();
    let (mut together, mut unsure) = (false, false);
    for (at, charge) in charges.iter().enumerate() {
        let attempt = call.attempt(at, true, false);
        together |= charge.depends_on_others();
        unsure |= attempt.verdict == Verdict::Unsure;
        attempts.push(attempt);
    }
    let over = charges.iter().zip(&attempts).map(|(it, attempt)| (it, Some(attempt.over(it, now))));
    let refused = Enforcement::of(over).refuses();
    if !together || !refused && !unsure && holder.is_none() {
        return Made { attempts, refused: None, written: call.written };
    }
    let tried = call.start_again();
    if unsure && !refused {
        // Once more, without those that depend on the others.
        for (at, charge) in charges.iter().enumerate() {
            attempts[at] = match charge.depends_on_others() {
                true => Attempt { verdict: Verdict::Unsure, made: false, ..attempts[at] },
                false => call.attempt(at, true, false),
            };
        }
        return Made { attempts, refused: None, written: call.written };
    }
    // Once more, without the charges that are not made now.
    let mut finals = Attempts::new();
    for (at, trial) in attempts.iter().enumerate() {
        finals.push(call.again(at, *trial));
    }
    if refused {
        return Made { attempts: finals, refused: None, written: call.written };
    }
    call.hold_all(&mut attempts, &mut finals, &tried);
    Made { attempts, refused: Some(finals), written: call.written }
}

impl<R: FnMut(&CounterKey) -> Record> Call<'_, R> {
    fn write(&mut self, written: Written) {
        self.latest[self.firsts[written.at]] = Some(self.written.len());
        self.written.push(written);
    }

    /// Takes back what was written. Gives what the last to write to the counter of each
    /// [first](Self::firsts) had left there as its ban.
    fn start_again(&mut self) -> SmallVec<[Option<Timestamp>; 4]> {
        let banned = |it: &Option<usize>| it.map(|at| self.written[at].record.banned);
        let bans = self.latest.iter().map(banned).collect();
        self.latest.fill(None);
        self.written.clear();
        bans
    }

    /// Works out one charge of a call that is refused, of which this was tried.
    fn again(&mut self, at: usize, trial: Attempt) -> Attempt {
        let charge = &self.charges[at];
        let unsure = trial.verdict == Verdict::Unsure;
        let refused = trial.verdict == Verdict::Refused;
        let make = charge.is_applied_if_call_refused(!refused) && !unsure;
        let last = self.attempt(at, make, refused);
        if trial.over(charge, self.now) {
            Attempt { made: trial.made && make, counts: last.counts, ..trial }
        } else if !unsure {
            last
        } else if charge.depends_on_others() {
            Attempt { verdict: Verdict::Passes, made: false, ..trial }
        } else {
            trial
        }
    }

    /// Counters of which it depends on other places what the call counts there are left as
    /// they are, but for a hold of all that is added. What is given back makes room only
    /// then. `tried` tells the bans that the call leaves if it is not refused.
    fn hold_all(
        &mut self,
        attempts: &mut Attempts,
        finals: &mut Attempts,
        tried: &[Option<Timestamp>],
    ) {
        let Some(holder) = self.holder else { return };
        let charges = self.charges;
        // For each charge that is a first, the hits that its counter holds.
        let mut sums: SmallVec<[Option<u64>; 4]> = smallvec![None; charges.len()];
        let mut held = Positions::new();
        for (at, charge) in charges.iter().enumerate() {
            let sum = &mut sums[self.firsts[at]];
            if sum.is_none()
                && charge.depends_on_others()
                && attempts[at].counts
                && !finals[at].made
            {
                *sum = Some(0);
                held.push(at);
            }
        }
        for (at, charge) in charges.iter().enumerate() {
            let Some(sum) = &mut sums[self.firsts[at]] else { continue };
            (attempts[at].waits, finals[at].waits) = (attempts[at].counts, finals[at].counts);
            if attempts[at].counts {
                *sum = (*sum + charge.hits.capped().requested()).min(Hits::MAX);
            }
        }
        let bans: SmallVec<[Timestamp; 4]> = held.iter().map(|&at| self.get(at).banned).collect();
        self.written.retain(|it| sums[self.firsts[it.at]].is_none());
        for (at, banned) in held.into_iter().zip(bans) {
            let first = self.firsts[at];
            let mut record = (self.read)(&charges[at].counter.key);
            // A ban that both ends agree on.
            if tried[first] == Some(banned) {
                record.banned = banned;
            }
            let hits = sums[first].unwrap_or_default();
            record.holds.push(Hold { id: holder.id, hits, until: holder.until });
            record.holds.retain(|it| it.is_known(self.now));
            self.written.push(Written { at, record, told: None });
        }
    }

    /// Works out one charge, and makes it if `make`. It is refused in any case if
    /// `refuse`.
    fn attempt(&mut self, at: usize, make: bool, refuse: bool) -> Attempt {
        let charge = &self.charges[at];
        let (counter, limit, now) = (&charge.counter, &charge.limit, self.now);
        let mut record = self.get(at);
        let banned = step::ban_end(limit, record.banned, now);
        let state = record.state.clone();
        let alone = step::step(limit, counter.span, state, charge.hits, now);
        let (mut verdict, before, after) = self.weigh_holds(charge, &record, &alone);
        let full = MOST_HOLDS <= record.holds.iter().filter(|it| it.is_valid(now)).count();
        if verdict == Verdict::Passes && self.holder.is_some() && charge.depends_on_others() && full
        {
            verdict = Verdict::Unsure;
        }
        if refuse {
            verdict = Verdict::Refused;
        }
        let shut = !charge.is_refund() && now < banned;
        if shut && verdict == Verdict::Unsure {
            verdict = Verdict::Passes;
        }
        let counts = match verdict {
            Verdict::Passes => true,
            Verdict::Refused => charge.counts_denied(),
            Verdict::Unsure => false,
        };
        let made = make && !shut && counts;
        let asked = charge.hits.capped().requested();
        let mut told = None;
        let mut changed = false;
        let counts = made && alone.state.is_some();
        if counts {
            record.state = alone.state;
            told = Some(after);
            changed = true;
        }
        if !limit.penalty.is_zero() && verdict == Verdict::Refused && asked > 0 && banned <= now {
            record.banned = now;
            changed = true;
        }
        if changed {
            record.drop_ended(limit, now);
            self.write(Written { at, record, told });
        }
        Attempt { verdict, banned, before, after, made, counts, waits: false }
    }

    /// What is held in `record` takes room as well: whether hits pass that do `alone`, and
    /// what to tell of the states before and after.
    fn weigh_holds(
        &self,
        charge: &Charge,
        record: &Record,
        alone: &Step,
    ) -> (Verdict, Snapshot, Snapshot) {
        let passes = if alone.passes { Verdict::Passes } else { Verdict::Refused };
        let held = record.held(self.holder, self.now);
        if held == 0 || !charge.is_refund() && !alone.passes {
            // What is refused for sure is told of without it.
            return (passes, alone.before, alone.after);
        }
        let (limit, span) = (&charge.limit, charge.counter.span);
        let held = Amount { hits: Hits::Add(held), check: LimitCheck::Skip };
        let counted = step::step_with(limit, span, record.state.clone(), held, self.now).state;
        let state = counted.or_else(|| record.state.clone());
        let Step { passes: fits, before, after, .. } =
            step::step(limit, span, state, charge.hits, self.now);
        let unsure = alone.passes && !fits && !charge.is_refund();
        (if unsure { Verdict::Unsure } else { passes }, before, after)
    }

    /// What is kept of the counter of the charge at `at`, as this call sees it.
    fn get(&mut self, at: usize) -> Record {
        match self.latest[self.firsts[at]] {
            Some(written) => self.written[written].record.clone(),
            None => (self.read)(&self.charges[at].counter.key),
        }
    }
}

impl Record {
    /// How many hits other calls hold than that of `holder`.
    fn held(&self, holder: Option<Holder>, now: Timestamp) -> u64 {
        let own = holder.map(|it| it.id);
        let others = self.holds.iter().filter(|it| it.is_valid(now) && Some(it.id) != own);
        others.fold(0_u64, |sum, it| sum.saturating_add(it.hits)).min(Hits::MAX)
    }

    /// Drops what has ended before it is written.
    fn drop_ended(&mut self, limit: &Limit, now: Timestamp) {
        self.holds.retain(|it| it.is_known(now));
        if self.banned.plus(limit.penalty) <= now {
            self.banned = Timestamp::default();
        }
    }
}

/// What ends a charge that has been made before: the twin of `redis/lua/settle.lua`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Settlement {
    /// What the call of this number holds is let go, and these hits are counted, or given
    /// back, in its place.
    Count(u64, Hits),
    /// More hits are counted, if the last that was settled there was held.
    More(Hits),
    /// What the call of this number holds is let go.
    Release(u64),
    /// So many hits are given back that were granted when this was told.
    GiveBack(u64, Snapshot),
    /// So many hits take the place of all that is kept.
    Set(u64),
}

/// Settles one charge in `record`, and says whether that changed anything. `taken` says
/// whether the call that was settled last had held hits there: what it counts besides
/// follows.
pub(crate) fn settle(
    record: &mut Record,
    charge: &Charge,
    settlement: Settlement,
    now: Timestamp,
    taken: &mut bool,
) -> bool {
    let (limit, span) = (&charge.limit, charge.counter.span);
    let count = |record: &mut Record, hits: Hits| {
        let state = record.state.clone();
        let step =
            step::step_with(limit, span, state, Amount { hits, check: LimitCheck::Skip }, now);
        if let Some(state) = step.state {
            record.state = Some(state);
            record.drop_ended(limit, now);
        }
    };
    match settlement {
        Settlement::Count(id, _) | Settlement::Release(id) => {
            let before = record.holds.len();
            record.holds.retain(|it| it.id != id);
            *taken = record.holds.len() < before;
            if !*taken {
                return false;
            }
            if let Settlement::Count(_, hits) = settlement {
                count(record, hits);
            }
        }
        Settlement::More(hits) => {
            if !*taken {
                return false;
            }
            count(record, hits);
        }
        Settlement::GiveBack(hits, told) => {
            let Some(state) = &record.state else { return false };
            let grant = Grant { hits, snapshot: told };
            let Some(state) = step::undo(limit, span, state, grant, now) else {
                return false;
            };
            record.state = Some(state);
            record.drop_ended(limit, now);
        }
        Settlement::Set(hits) => {
            *record = Record::default();
            count(record, Hits::Add(hits));
        }
    }
    record.holds.retain(|it| it.is_known(now));
    true
}

#[cfg(test)]
mod tests;
