//! The task that writes the decision log.

use std::{
    fmt,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task, time,
};
use tracing::info;

use super::DecisionLogTarget;
use crate::{
    metrics::{LostDecision, Metrics},
    printable::printable_path,
    warnings::WarningLimiter,
};

/// The most lines that are written at once.
const MAX_BATCH: usize = 256;

/// The time to write the last lines when the process ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Permissions of a new file: the lines contain names of users and addresses.
const FILE_MODE: u32 = 0o640;

/// Writes the lines of a [`DecisionLog`](super::DecisionLog).
///
/// The file is opened for each batch of lines, so that it can be renamed, truncated or
/// removed at any time. A batch that cannot be written is lost and counted.
#[derive(Debug)]
pub struct DecisionLogWriter {
    target: Arc<DecisionLogTarget>,
    lines: mpsc::Receiver<String>,
    /// Changes when the log is dropped.
    open: watch::Receiver<()>,
    metrics: Arc<Metrics>,
    failures: WarningLimiter,
    /// The file may end with a part of a line.
    is_line_broken: bool,
}

/// Why lines could not be written.
#[derive(Debug)]
struct WriteError {
    cause: io::Error,
    /// A part of the lines may have been written.
    is_partial: bool,
}

impl fmt::Display for DecisionLogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::File(path) => f.write_str(&printable_path(path)),
        }
    }
}

impl DecisionLogWriter {
    pub(super) fn new(
        target: DecisionLogTarget,
        lines: mpsc::Receiver<String>,
        open: watch::Receiver<()>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let failures = WarningLimiter::new(
            "the decision log cannot be written, and its lines are lost",
            "failures to write the decision log",
        );
        Self { target: Arc::new(target), lines, open, metrics, failures, is_line_broken: false }
    }

    /// Writes lines until the log is dropped, and then the remaining lines for at most 2 s.
    pub async fn run(mut self) {
        info!("decisions are logged to {}", self.target);
        let mut open = self.open.clone();
        let timed_out = async {
            while open.changed().await.is_ok() {}
            time::sleep(SHUTDOWN_TIMEOUT).await;
        };
        tokio::select! {
            () = self.write_until_closed() => {}
            () = timed_out => {}
        }
    }

    async fn write_until_closed(&mut self) {
        // An unusable file is logged at the start.
        self.write(Vec::new()).await;
        loop {
            let mut batch = Vec::new();
            if self.lines.recv_many(&mut batch, MAX_BATCH).await == 0 {
                return;
            }
            self.write(batch).await;
        }
    }

    async fn write(&mut self, batch: Vec<String>) {
        let lines = batch.len();
        let mut text = batch.concat();
        if self.is_line_broken && !text.is_empty() {
            text.insert(0, '\n');
        }
        let target = Arc::clone(&self.target);
        let written = task::spawn_blocking(move || append(&target, text.as_bytes()));
        let problem = match written.await {
            Ok(Ok(())) => {
                self.is_line_broken &= lines == 0;
                return;
            }
            Ok(Err(error)) => {
                self.is_line_broken |= error.is_partial;
                error.cause.to_string()
            }
            Err(panic) => panic.to_string(),
        };
        self.metrics.count_lost_decisions(LostDecision::WriteFailed, lines);
        self.failures.warn(&format_args!("{}: {problem}", self.target));
    }
}

fn append(target: &DecisionLogTarget, text: &[u8]) -> Result<(), WriteError> {
    let partial = |cause| WriteError { cause, is_partial: true };
    match target {
        DecisionLogTarget::Stdout => {
            let mut out = io::stdout().lock();
            out.write_all(text).and_then(|()| out.flush()).map_err(partial)
        }
        DecisionLogTarget::File(path) => {
            let mut options = OpenOptions::new();
            let opened = options.append(true).create(true).mode(FILE_MODE).open(path);
            let mut file = opened.map_err(|cause| WriteError { cause, is_partial: false })?;
            file.write_all(text).map_err(partial)
        }
    }
}
