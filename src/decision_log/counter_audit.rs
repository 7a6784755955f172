//! Changes of counters by operators, in the log of the process.

use std::fmt::Write;

use tracing::{info, warn};

use super::shown::{self, Shown};
use crate::{
    descriptor::{Descriptor, Request},
    engine::counters::{ChangeOrder, CounterReport, CounterStatus},
    store::CounterChange,
};

/// A change of counters in progress. If it is dropped before its end is known, the log tells so.
#[derive(Debug)]
pub struct CounterAudit<'a> {
    request: &'a Request,
    order: ChangeOrder<'a>,
    is_logged: bool,
}

impl<'a> CounterAudit<'a> {
    /// A change of counters of `request`.
    pub fn new(request: &'a Request, order: ChangeOrder<'a>) -> Self {
        Self { request, order, is_logged: false }
    }

    /// Logs nothing: no counter was changed.
    pub fn rejected(mut self) {
        self.is_logged = true;
    }

    /// Logs a line for each counter that was to be changed.
    pub fn finish(mut self, report: &CounterReport) {
        self.is_logged = true;
        for (descriptor, counters) in self.request.descriptors.iter().zip(&report.descriptors) {
            for status in &counters.counters {
                match &status.changed {
                    None => {}
                    Some(Ok(())) => info!("{}", self.line(descriptor, status)),
                    Some(Err(_)) => warn!("{}", self.line(descriptor, status)),
                }
            }
        }
    }

    pub(super) fn line(&self, descriptor: &Descriptor, status: &CounterStatus) -> String {
        let mut line = match &status.changed {
            Some(Err(_)) => "counter not ".to_owned(),
            Some(Ok(())) | None => "counter ".to_owned(),
        };
        let _ = match self.order.change {
            CounterChange::Reset => write!(line, "reset"),
            CounterChange::Set(used) => write!(line, "set to {used}"),
        };
        let _ = write!(line, " by {}", Shown(self.order.who.as_bytes()));
        if let Some(Err(error)) = &status.changed {
            let _ = write!(line, ": {}", Shown(error.to_string().as_bytes()));
        }
        if let Ok(found) = &status.found {
            let _ = write!(line, ", {} used before", found.used);
            if !found.banned.is_zero() {
                line += " and a penalty";
            }
        }
        let _ = write!(line, ": domain {}: ", Shown(&self.request.domain));
        line += &shown::entries(&descriptor.entries);
        let _ = write!(line, ", {}", status.limit);
        if !status.name.is_empty() {
            let _ = write!(line, " ({})", Shown(status.name.as_bytes()));
        }
        let _ = write!(line, ", counter {}", Shown(status.counter.key.as_bytes()));
        line
    }
}

impl Drop for CounterAudit<'_> {
    fn drop(&mut self) {
        if self.is_logged {
            return;
        }
        let (who, domain) = (Shown(self.order.who.as_bytes()), Shown(&self.request.domain));
        let change = match self.order.change {
            CounterChange::Reset => "reset",
            CounterChange::Set(_) => "set",
        };
        for descriptor in &self.request.descriptors {
            let entries = shown::entries(&descriptor.entries);
            warn!(
                "counters may have been {change} by {who}, who left before the answer: domain \
                 {domain}: {entries}"
            );
        }
    }
}
