//! Whether the caller of a request was served, for answers that come when nobody waits for
//! them any more: what they grant stays counted if it was, and else is given back.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    call::{Call, ChargeReplies},
    settler::SettlementQueue,
};

/// What has become of the caller of a request, which may be several calls.
#[derive(Debug, Default)]
pub(super) struct Fate(Mutex<State>);

#[derive(Debug)]
enum State {
    /// It waits, and has not been told of these answers yet.
    Waits(Vec<Untold>),
    Served,
    /// It was refused, was told of an error, or has left.
    NotServed,
}

impl Default for State {
    fn default() -> Self {
        Self::Waits(Vec::new())
    }
}

/// An answer to a call.
#[derive(Debug)]
struct Untold {
    call: Arc<Call>,
    answers: ChargeReplies,
    /// Whether the caller is told of something else in its place.
    late: bool,
}

impl Fate {
    /// An answer came in time, to one of several calls.
    pub(super) fn came(&self, call: &Arc<Call>, answers: &ChargeReplies) {
        if let State::Waits(untold) = &mut *self.0.lock() {
            let (call, answers) = (Arc::clone(call), answers.clone());
            untold.push(Untold { call, answers, late: false });
        }
    }

    /// An answer came too late. Says whether to give back now what it grants.
    pub(super) fn came_late(&self, call: &Arc<Call>, answers: &ChargeReplies) -> bool {
        match &mut *self.0.lock() {
            State::Waits(untold) => {
                let (call, answers) = (Arc::clone(call), answers.clone());
                untold.push(Untold { call, answers, late: true });
                false
            }
            State::Served => false,
            State::NotServed => true,
        }
    }

    /// The caller was told, and `served` or not.
    pub(super) fn told(&self, served: bool, late: &SettlementQueue) {
        self.end(served, |it| it.late && !served, late);
    }

    /// The caller has left.
    pub(super) fn left(&self, late: &SettlementQueue) {
        self.end(false, |_| true, late);
    }

    fn end(&self, served: bool, lost: impl Fn(&Untold) -> bool, late: &SettlementQueue) {
        let end = if served { State::Served } else { State::NotServed };
        let before = std::mem::replace(&mut *self.0.lock(), end);
        let State::Waits(untold) = before else { return };
        for it in untold.iter().filter(|it| lost(it)) {
            late.refund_replies(&it.call, &it.answers);
        }
    }
}

/// A caller that waits. Dropped, it has left.
#[derive(Debug)]
pub(super) struct Caller<'a> {
    pub(super) fate: Arc<Fate>,
    late: &'a SettlementQueue,
    told: bool,
}

impl<'a> Caller<'a> {
    pub(super) fn new(late: &'a SettlementQueue) -> Self {
        Self { fate: Arc::default(), late, told: false }
    }

    /// It is told, and `served` or not.
    pub(super) fn told(mut self, served: bool) {
        self.fate.told(served, self.late);
        self.told = true;
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.fate.left(self.late);
        }
    }
}
