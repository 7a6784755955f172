//! The state of the charges of a reservation.

use super::{
    call::{CallResult, ChargeReply},
    dispatch_context::still_held,
};
use crate::{
    store::{Charge, Enforced, Results, StoreError, enforced::Enforcement},
    time::Timestamp,
};

#[derive(Clone, Debug)]
pub(super) enum ChargeStatus {
    NotSent,
    /// The outcome depends on hits that other calls hold.
    Undecided,
    Replied(ChargeReply),
    /// There is no reply. If the charge was `sent` it may have been made.
    Failed {
        error: StoreError,
        sent: bool,
    },
}

impl ChargeStatus {
    /// Returns true if another attempt would count the charge again: it does not depend on
    /// others, or its hits are counted because they were refused.
    fn is_counted(&self, charge: &Charge) -> bool {
        match self {
            Self::Replied(reply) => {
                let counted = !charge.depends_on_others() || reply.if_refused.applied;
                counted && !reply.held.any()
            }
            Self::NotSent | Self::Undecided | Self::Failed { .. } => false,
        }
    }

    /// Returns true if the limit refuses the hits, and bans, only if the request is refused:
    /// it has room unless the other hits of the request are not counted.
    fn bans_if_refused(&self, charge: &Charge) -> bool {
        match self {
            Self::Replied(ChargeReply { if_granted, if_refused, .. }) => {
                let refuses = if_granted.step.passes && !if_refused.step.passes;
                refuses && !if_refused.applied && !charge.limit.penalty.is_zero()
            }
            Self::NotSent | Self::Undecided | Self::Failed { .. } => false,
        }
    }

    const fn is_open(&self) -> bool {
        matches!(self, Self::NotSent | Self::Undecided)
    }
}

#[derive(Debug)]
pub(super) struct Progress {
    pub(super) charges: Vec<Charge>,
    /// In the order of the charges.
    pub(super) statuses: Vec<ChargeStatus>,
    now: Timestamp,
}

impl Progress {
    pub(super) fn new(charges: &[Charge], now: Timestamp) -> Self {
        let statuses = vec![ChargeStatus::NotSent; charges.len()];
        Self { charges: charges.to_vec(), statuses, now }
    }

    fn both(&self) -> impl Iterator<Item = (&Charge, &ChargeStatus)> {
        self.charges.iter().zip(&self.statuses)
    }

    /// Records the result of a call for the charges at `positions`.
    pub(super) fn record(&mut self, positions: &[usize], result: CallResult) {
        match result {
            Ok(replies) => {
                for (position, reply) in positions.iter().zip(replies) {
                    self.statuses[*position] = match reply {
                        Some(reply) => ChargeStatus::Replied(reply),
                        None => ChargeStatus::Undecided,
                    };
                }
            }
            Err(error) => {
                let sent = error.may_be_made();
                let error = StoreError::from(error);
                for position in positions {
                    let error = error.clone();
                    self.statuses[*position] = ChargeStatus::Failed { error, sent };
                }
            }
        }
    }

    pub(super) fn enforcement(&self) -> Enforcement {
        let mut enforcement = Enforcement::default();
        for (charge, status) in self.both() {
            let over = match status {
                ChargeStatus::Replied(reply) => Some(reply.is_over(charge, self.now)),
                _ => None,
            };
            enforcement.add(charge, over);
        }
        enforcement
    }

    /// Returns true if the replies so far refuse the request.
    pub(super) fn is_refused(&self) -> bool {
        self.enforcement().refuses()
    }

    /// Returns true if the caller is let through, now that no more replies are awaited.
    pub(super) fn lets_through(&self) -> bool {
        let mut enforcement = Enforcement::default();
        for (charge, status) in self.both() {
            match status {
                ChargeStatus::Replied(reply) => {
                    enforcement.add(charge, Some(reply.is_over(charge, self.now)));
                }
                _ => enforcement.add_unanswered(charge, self.now),
            }
        }
        enforcement.lets_through()
    }

    /// Returns true if only hits that other calls hold keep the request from being decided.
    pub(super) fn depends_on_holds(&self) -> bool {
        let mut undecided = false;
        for status in &self.statuses {
            match status {
                ChargeStatus::NotSent | ChargeStatus::Failed { .. } => return false,
                ChargeStatus::Undecided => undecided = true,
                ChargeStatus::Replied(_) => {}
            }
        }
        undecided && !self.is_refused()
    }

    /// Returns true if the request itself holds hits.
    pub(super) fn holds_any(&self) -> bool {
        self.statuses.iter().any(|status| match status {
            ChargeStatus::Replied(reply) => reply.held.any(),
            _ => false,
        })
    }

    pub(super) fn is_undecided(&self, positions: &[usize]) -> bool {
        positions.iter().any(|&position| matches!(self.statuses[position], ChargeStatus::Undecided))
    }

    pub(super) fn is_open(&self, position: usize) -> bool {
        self.statuses[position].is_open()
    }

    /// Reopens all charges but those that another attempt would count again.
    pub(super) fn restart(&mut self) {
        for (charge, status) in self.charges.iter().zip(&mut self.statuses) {
            if !status.is_counted(charge) {
                *status = ChargeStatus::NotSent;
            }
        }
    }

    /// The positions of charges whose limits ban if the refused request sends them again.
    pub(super) fn bans_if_refused(&self) -> Vec<usize> {
        let mut positions = Vec::new();
        for (position, (charge, status)) in self.both().enumerate() {
            if status.bans_if_refused(charge) {
                positions.push(position);
            }
        }
        positions
    }

    /// Reopens the charges at `positions`, and returns all statuses from before.
    pub(super) fn reopen(&mut self, positions: &[usize]) -> Vec<ChargeStatus> {
        let before = self.statuses.clone();
        for position in positions {
            self.statuses[*position] = ChargeStatus::NotSent;
        }
        before
    }

    /// Restores the statuses of charges that have no reply.
    pub(super) fn restore(&mut self, before: Vec<ChargeStatus>) {
        for (status, before) in self.statuses.iter_mut().zip(before) {
            if !matches!(status, ChargeStatus::Replied(_)) {
                *status = before;
            }
        }
    }

    /// Clones the charges at `positions` for a call, and adapts their enforcement to the replies
    /// so far.
    pub(super) fn charges_at(&self, positions: &[usize]) -> Vec<Charge> {
        let enforcement = self.enforcement();
        let refused = enforcement.refuses();
        let quota_elsewhere = self.has_open_quota_elsewhere(&enforcement, positions);
        let mut charges = Vec::with_capacity(positions.len());
        for position in positions {
            let charge = &self.charges[*position];
            let enforced = match enforcement.remaining(charge.enforced) {
                // The script does not see if the other quotas are exhausted.
                Enforced::Quota(_) if quota_elsewhere => Enforced::No,
                enforced => enforced,
            };
            charges.push(Charge { refused, enforced, ..charge.clone() });
        }
        charges
    }

    fn has_open_quota_elsewhere(&self, enforcement: &Enforcement, positions: &[usize]) -> bool {
        for (position, (charge, status)) in self.both().enumerate() {
            let is_open = !matches!(status, ChargeStatus::Replied(_));
            let is_quota = matches!(enforcement.remaining(charge.enforced), Enforced::Quota(_));
            if is_open && is_quota && !positions.contains(&position) {
                return true;
            }
        }
        false
    }

    /// One result per charge; `granted` is set if the caller is let through.
    pub(super) fn results(&self, granted: bool) -> Results {
        let mut results = Results::new();
        for (charge, status) in self.both() {
            results.push(match status {
                ChargeStatus::Replied(reply) if granted => {
                    Ok(reply.if_granted.outcome(charge, self.now))
                }
                ChargeStatus::Replied(reply) => Ok(reply.if_refused.outcome(charge, self.now)),
                ChargeStatus::Failed { error, .. } => Err(error.clone()),
                ChargeStatus::Undecided | ChargeStatus::NotSent => Err(still_held()),
            });
        }
        results
    }
}
