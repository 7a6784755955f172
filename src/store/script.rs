//! The decisions of `redis/lua/decide.lua` and `redis/lua/settle.lua`, in Rust. Property tests
//! compare the two; change them together.
//!
//! The counters of one request may be on several servers, or be too many for one script run.
//! Then the request first *holds* its hits in each counter: a hold takes room as counted hits
//! do, but no request is refused because of it. Once the request is decided, each hold is
//! [settled](settle), else it expires. Hits that only fit if the holds of others are released
//! stay undecided, and are sent again.

use smallvec::{SmallVec, smallvec};

pub(crate) use self::{
    record::{HOLD_MEMORY, Hold, Holder, Record},
    settlement::{Settlement, settle},
};
use super::{Charge, enforced::Enforcement};
use crate::{
    counter::CounterKey,
    limit::{
        Hits, Outcome,
        hits::{Amount, LimitCheck},
        step::{self, Snapshot, Step, StepResult},
    },
    time::Timestamp,
};

mod record;
mod settlement;

/// The most calls that hold hits of one counter at the same time; others stay undecided.
const MAX_HOLDS: usize = 1_000;

/// The evaluation of one charge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evaluation {
    pub(crate) verdict: ChargeVerdict,
    /// The end of the ban that was active before the charge.
    pub(crate) banned_until: Timestamp,
    pub(crate) before: Snapshot,
    pub(crate) after: Snapshot,
    /// Set if the charge is made.
    pub(crate) applied: bool,
    /// Set if making the charge changes the state.
    pub(crate) changes_state: bool,
    /// Set if the hits are held, to be counted once the call is decided.
    pub(crate) held: bool,
}

/// The algorithm's verdict on the hits of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChargeVerdict {
    Passes,
    Refused,
    /// The verdict depends on hits that other calls hold, or the counter has no room for
    /// another hold. Nothing was made.
    Undecided,
}

impl Evaluation {
    /// Returns true if the charge is certainly over its limit.
    fn is_over(&self, charge: &Charge, now: Timestamp) -> bool {
        self.verdict == ChargeVerdict::Refused || !charge.is_refund() && now < self.banned_until
    }

    pub(crate) fn outcome(&self, charge: &Charge, now: Timestamp) -> Outcome {
        let step = StepResult {
            passes: self.verdict != ChargeVerdict::Refused,
            banned_until: self.banned_until,
            snapshot: if self.applied { self.after } else { self.before },
        };
        if self.applied { charge.outcome(step, now) } else { charge.skipped_outcome(step, now) }
    }
}

/// One evaluation for each charge of a call.
pub(crate) type Evaluations = SmallVec<[Evaluation; 4]>;

/// A new record for one counter. A later write of the same call replaces it.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    /// The position of the charge that writes the record.
    pub(crate) position: usize,
    pub(crate) record: Record,
    /// The snapshot of the state, if the state changes.
    pub(crate) snapshot: Option<Snapshot>,
}

pub(crate) type Writes = SmallVec<[Write; 4]>;

/// The evaluation of a call.
#[derive(Clone, Debug)]
pub(crate) struct CallEvaluation {
    pub(crate) evaluations: Evaluations,
    /// The evaluations if the call is refused elsewhere; only of a call that holds hits.
    #[cfg_attr(not(test), expect(dead_code, reason = "outside of tests only scripts hold"))]
    pub(crate) if_refused: Option<Evaluations>,
    pub(crate) writes: Writes,
}

/// Evaluates the charges of one call to the counters that `read` returns.
pub(crate) fn evaluate(
    charges: &[Charge],
    holder: Option<Holder>,
    now: Timestamp,
    read: impl FnMut(&CounterKey) -> Record,
) -> CallEvaluation {
    let mut call = Evaluator {
        read,
        holder,
        now,
        charges,
        firsts: firsts(charges),
        writes: SmallVec::new(),
        latest: smallvec![None; charges.len()],
    };
    let mut evaluations = Evaluations::new();
    let mut enforcement = Enforcement::default();
    let (mut dependent, mut undecided) = (false, false);
    for (position, charge) in charges.iter().enumerate() {
        let evaluation = call.evaluate(position, ChargeMode::APPLY);
        dependent |= charge.depends_on_others();
        undecided |= evaluation.verdict == ChargeVerdict::Undecided;
        enforcement.add(charge, Some(evaluation.is_over(charge, now)));
        evaluations.push(evaluation);
    }
    let refused = enforcement.refuses();
    if !dependent || !refused && !undecided && holder.is_none() {
        return CallEvaluation { evaluations, if_refused: None, writes: call.writes };
    }
    let bans = call.discard_writes();
    if undecided && !refused {
        call.evaluate_independent(&mut evaluations);
        return CallEvaluation { evaluations, if_refused: None, writes: call.writes };
    }
    // Again, without the charges that a refused call does not make.
    let mut if_refused = Evaluations::new();
    for (position, first) in evaluations.iter().enumerate() {
        if_refused.push(call.evaluate_refused(position, *first));
    }
    if refused {
        return CallEvaluation { evaluations: if_refused, if_refused: None, writes: call.writes };
    }
    call.hold_all(&mut evaluations, &mut if_refused, &bans);
    CallEvaluation { evaluations, if_refused: Some(if_refused), writes: call.writes }
}

/// Evaluates a call. Nothing is written until its outcome is known.
struct Evaluator<'a, R> {
    read: R,
    holder: Option<Holder>,
    now: Timestamp,
    charges: &'a [Charge],
    /// For each charge, the position of the first charge to the same counter.
    firsts: Positions,
    writes: Writes,
    /// For each charge that is a first, the last write to its counter.
    latest: SmallVec<[Option<usize>; 4]>,
}

type Positions = SmallVec<[usize; 4]>;
type Bans = SmallVec<[Option<Timestamp>; 4]>;

#[derive(Clone, Copy)]
struct ChargeMode {
    /// Makes the charge if its verdict allows that.
    apply: bool,
    /// Refuses the charge in any case.
    refuse: bool,
}

impl ChargeMode {
    const APPLY: Self = Self { apply: true, refuse: false };
}

/// For each charge, the position of the first charge to the same counter.
fn firsts(charges: &[Charge]) -> Positions {
    let key = |position: usize| charges[position].counter.key.as_bytes();
    let mut order: Positions = (0..charges.len()).collect();
    order.sort_unstable_by_key(|&position| (key(position), position));
    let mut firsts = order.clone();
    let mut first = None;
    for &position in &order {
        let of_counter = match first {
            Some(first) if key(first) == key(position) => first,
            _ => position,
        };
        first = Some(of_counter);
        firsts[position] = of_counter;
    }
    firsts
}

impl<R: FnMut(&CounterKey) -> Record> Evaluator<'_, R> {
    fn write(&mut self, write: Write) {
        self.latest[self.firsts[write.position]] = Some(self.writes.len());
        self.writes.push(write);
    }

    /// Discards the writes. Returns the starts of bans in the last write to each counter, by
    /// the position of its [first](Self::firsts) charge.
    fn discard_writes(&mut self) -> Bans {
        let mut bans = Bans::new();
        for latest in &mut self.latest {
            bans.push(latest.take().map(|write| self.writes[write].record.banned_since));
        }
        self.writes.clear();
        bans
    }

    /// Evaluates the independent charges of an undecided call again. The others are not made.
    fn evaluate_independent(&mut self, evaluations: &mut Evaluations) {
        for (position, charge) in self.charges.iter().enumerate() {
            if charge.depends_on_others() {
                evaluations[position].verdict = ChargeVerdict::Undecided;
                evaluations[position].applied = false;
            } else {
                evaluations[position] = self.evaluate(position, ChargeMode::APPLY);
            }
        }
    }

    /// Evaluates one charge of a refused call, after its `first` evaluation.
    fn evaluate_refused(&mut self, position: usize, first: Evaluation) -> Evaluation {
        let charge = &self.charges[position];
        let undecided = first.verdict == ChargeVerdict::Undecided;
        let refuse = first.verdict == ChargeVerdict::Refused;
        let apply = charge.is_applied_if_call_refused(!refuse) && !undecided;
        let last = self.evaluate(position, ChargeMode { apply, refuse });
        if first.is_over(charge, self.now) {
            let applied = first.applied && apply;
            Evaluation { applied, changes_state: last.changes_state, ..first }
        } else if !undecided {
            last
        } else if charge.depends_on_others() {
            Evaluation { verdict: ChargeVerdict::Passes, applied: false, ..first }
        } else {
            first
        }
    }

    /// Leaves every counter unchanged whose change depends on other locations, except for a
    /// hold of all hits that the call adds. Refunds make room only once the call is granted.
    /// `bans` are those of the call if it is granted.
    fn hold_all(
        &mut self,
        if_granted: &mut Evaluations,
        if_refused: &mut Evaluations,
        bans: &Bans,
    ) {
        let Some(holder) = self.holder else { return };
        let charges = self.charges;
        // For each charge that is a first, the hits to hold.
        let mut sums: SmallVec<[Option<u64>; 4]> = smallvec![None; charges.len()];
        let mut held = Positions::new();
        for (position, charge) in charges.iter().enumerate() {
            let sum = &mut sums[self.firsts[position]];
            let differs = if_granted[position].changes_state && !if_refused[position].applied;
            if sum.is_none() && charge.depends_on_others() && differs {
                *sum = Some(0);
                held.push(position);
            }
        }
        for (position, charge) in charges.iter().enumerate() {
            let Some(sum) = &mut sums[self.firsts[position]] else { continue };
            if_granted[position].held = if_granted[position].changes_state;
            if_refused[position].held = if_refused[position].changes_state;
            if if_granted[position].changes_state {
                *sum = (*sum + charge.hits.capped().requested()).min(Hits::MAX);
            }
        }
        let mut bans_if_refused = SmallVec::<[Timestamp; 4]>::new();
        for &position in &held {
            bans_if_refused.push(self.record(position).banned_since);
        }
        self.writes.retain(|write| sums[self.firsts[write.position]].is_none());
        for (position, banned_since) in held.into_iter().zip(bans_if_refused) {
            let first = self.firsts[position];
            let mut record = (self.read)(&charges[position].counter.key);
            // Only a ban that both outcomes of the call have begins now.
            if bans[first] == Some(banned_since) {
                record.banned_since = banned_since;
            }
            let hits = sums[first].unwrap_or_default();
            record.holds.push(Hold { id: holder.id, hits, expires_at: holder.expires_at });
            record.drop_old_holds(self.now);
            self.writes.push(Write { position, record, snapshot: None });
        }
    }

    fn evaluate(&mut self, position: usize, mode: ChargeMode) -> Evaluation {
        let charge = &self.charges[position];
        let (limit, now) = (&charge.limit, self.now);
        let mut record = self.record(position);
        let banned_until = step::ban_end(limit, record.banned_since, now);
        let banned = !charge.is_refund() && now < banned_until;
        let state = record.state.clone();
        let step = step::step(limit, charge.counter.span, state, charge.hits, now);
        let CheckedCharge { mut verdict, before, after } = self.check_holds(charge, &record, &step);
        if verdict == ChargeVerdict::Passes && self.lacks_room_for_hold(charge, &record) {
            verdict = ChargeVerdict::Undecided;
        }
        if mode.refuse {
            verdict = ChargeVerdict::Refused;
        } else if banned && verdict == ChargeVerdict::Undecided {
            // The ban decides.
            verdict = ChargeVerdict::Passes;
        }
        let makes = match verdict {
            ChargeVerdict::Passes => true,
            ChargeVerdict::Refused => charge.counts_denied(),
            ChargeVerdict::Undecided => false,
        };
        let applied = mode.apply && !banned && makes;
        let changes_state = applied && step.state.is_some();
        let requested = charge.hits.capped().requested();
        let starts_ban = !limit.penalty.is_zero()
            && verdict == ChargeVerdict::Refused
            && requested > 0
            && banned_until <= now;
        if changes_state {
            record.state = step.state;
        }
        if starts_ban {
            record.banned_since = now;
        }
        if changes_state || starts_ban {
            record.drop_ended(limit, now);
            let snapshot = if changes_state { Some(after) } else { None };
            self.write(Write { position, record, snapshot });
        }
        Evaluation { verdict, banned_until, before, after, applied, changes_state, held: false }
    }

    /// Returns true if the call has to hold hits of a counter that has too many holds.
    fn lacks_room_for_hold(&self, charge: &Charge, record: &Record) -> bool {
        let holds = self.holder.is_some() && charge.depends_on_others();
        holds && MAX_HOLDS <= record.active_holds(self.now)
    }

    /// Takes the holds of other calls into account, which take room as counted hits do. `step`
    /// is the step without them.
    fn check_holds(&self, charge: &Charge, record: &Record, step: &Step) -> CheckedCharge {
        let verdict = if step.passes { ChargeVerdict::Passes } else { ChargeVerdict::Refused };
        let held = record.held_by_others(self.holder, self.now);
        if held == 0 || !charge.is_refund() && !step.passes {
            // A certain refusal is reported without the holds.
            return CheckedCharge { verdict, before: step.before, after: step.after };
        }
        let (limit, span) = (&charge.limit, charge.counter.span);
        let amount = Amount { hits: Hits::Add(held), check: LimitCheck::Skip };
        let counted = step::step_with(limit, span, record.state.clone(), amount, self.now);
        let state = counted.state.or_else(|| record.state.clone());
        let with_holds = step::step(limit, span, state, charge.hits, self.now);
        let undecided = step.passes && !with_holds.passes && !charge.is_refund();
        CheckedCharge {
            verdict: if undecided { ChargeVerdict::Undecided } else { verdict },
            before: with_holds.before,
            after: with_holds.after,
        }
    }

    /// The record of the counter of a charge, as this call sees it.
    fn record(&mut self, position: usize) -> Record {
        match self.latest[self.firsts[position]] {
            Some(write) => self.writes[write].record.clone(),
            None => (self.read)(&self.charges[position].counter.key),
        }
    }
}

/// A verdict, and the snapshots to return.
struct CheckedCharge {
    verdict: ChargeVerdict,
    before: Snapshot,
    after: Snapshot,
}

#[cfg(test)]
mod tests;
