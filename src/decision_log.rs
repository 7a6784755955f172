//! Decisions as lines for operators: in the log at the level `debug`, and in a log of
//! their own, as JSON.
//!
//! A line is bounded in length, whatever a client sends. A decision never waits for the
//! decision log: a bounded queue leads to the task that writes it, and a line without room
//! is counted as lost.

use std::{path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    counter::KeyFormat,
    descriptor::Request,
    engine::decision::Decision,
    metrics::{LostDecision, Metrics},
    warnings::WarningLimiter,
};

mod counter_audit;
mod debug_line;
mod reason;
mod record;
mod shown;
mod writer;

pub use self::{
    counter_audit::CounterAudit,
    debug_line::{log_decision, log_failure},
    reason::without_limit,
    writer::DecisionLogWriter,
};

/// The lines that may wait to be written. Those of hostile requests have up to 20 kB.
const MAX_WAITING: usize = 1_024;

/// The decision log.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionLogSettings {
    /// The place of the lines.
    pub target: DecisionLogTarget,
    /// The share of all requests whose decisions are logged even if they pass, from 0 to 1.
    pub passed_share: f64,
    /// The most lines per second.
    pub max_lines: u32,
}

/// The place of the decision log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecisionLogTarget {
    /// Standard output.
    Stdout,
    /// A file, to which lines are appended.
    File(PathBuf),
}

/// Writes a JSON line for each descriptor that is over its limit, and for all descriptors
/// of a sample of requests.
#[derive(Debug)]
pub struct DecisionLog {
    passed_share: f64,
    max_lines: u32,
    current: Mutex<CurrentSecond>,
    lines: mpsc::Sender<String>,
    metrics: Arc<Metrics>,
    losses: WarningLimiter,
    /// The writer ends soon after this is dropped.
    _open: watch::Sender<()>,
}

/// The lines of a second that began with its first line.
#[derive(Debug, Default)]
struct CurrentSecond {
    begin: Option<Instant>,
    lines: u32,
}

impl DecisionLog {
    /// A log, and the task that writes it.
    pub fn new(settings: DecisionLogSettings, metrics: Arc<Metrics>) -> (Self, DecisionLogWriter) {
        let DecisionLogSettings { target, passed_share, max_lines } = settings;
        let (lines, waiting) = mpsc::channel(MAX_WAITING);
        let (opened, open) = watch::channel(());
        let writer = DecisionLogWriter::new(target, waiting, open, Arc::clone(&metrics));
        let log = Self {
            passed_share,
            max_lines,
            current: Mutex::default(),
            lines,
            metrics,
            losses: WarningLimiter::new(
                "a line is missing in the decision log",
                "lines are missing in the decision log",
            ),
            _open: opened,
        };
        (log, writer)
    }

    /// Logs a decision if it belongs to those that are logged. `keys` is the format of the
    /// counters' names.
    pub fn record(&self, request: &Request, decision: &Decision, keys: &KeyFormat) {
        let in_sample = self.passed_share > 0.0 && fastrand::f64() < self.passed_share;
        for (index, verdict) in decision.verdicts.iter().enumerate() {
            if !in_sample && !verdict.is_over() {
                continue;
            }
            let Some(descriptor) = request.descriptors.get(index) else { continue };
            if !self.take_room() {
                self.lose(LostDecision::OverRate);
                continue;
            }
            let line = record::line(&request.domain, descriptor, verdict, decision, keys);
            if self.lines.try_send(line).is_err() {
                self.lose(LostDecision::QueueFull);
            }
        }
    }

    /// Returns whether one more line may be written in this second.
    fn take_room(&self) -> bool {
        let now = Instant::now();
        let mut current = self.current.lock();
        let is_over = |begin| Duration::from_secs(1) <= now.saturating_duration_since(begin);
        if current.begin.is_none_or(is_over) {
            *current = CurrentSecond { begin: Some(now), lines: 0 };
        }
        if self.max_lines <= current.lines {
            return false;
        }
        current.lines += 1;
        true
    }

    fn lose(&self, reason: LostDecision) {
        self.metrics.count_lost_decisions(reason, 1);
        match reason {
            LostDecision::OverRate => {
                let most = self.max_lines;
                let why = format_args!("DECISION_LOG_MAX_LINES allows {most} lines a second");
                self.losses.warn(&why);
            }
            LostDecision::QueueFull | LostDecision::WriteFailed => {
                let why =
                    format_args!("they are written too slowly, and {MAX_WAITING} wait already");
                self.losses.warn(&why);
            }
        }
    }
}

#[cfg(test)]
mod tests;
