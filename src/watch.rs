//! Detects changes of files by polling their metadata a few times per second.
//!
//! An edit in place, a rename, a replacement and the exchange of symbolic links
//! by which Kubernetes updates a volume all change the metadata.
//! `docs/decisions.md` explains why notifications are not used.

use std::{fs::Metadata, hash::Hash, os::unix::fs::MetadataExt, time::Duration};

use tokio::time::{self, Interval, MissedTickBehavior};

use crate::warnings::WarningLimiter;

/// The time between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// The number of polls in a row with the same metadata after which nobody writes the files
/// any more.
const QUIET_POLLS: u32 = 4;
/// The number of polls for which files may change before a warning.
const MAX_BUSY_POLLS: u32 = 240;
/// The number of polls after which the files are read even if their metadata is
/// the same: two edits within one tick of the file system's clock can have the
/// same times.
const FORCED_READ_POLLS: u32 = 40;

/// The time without a change after which files are complete.
pub const QUIET_TIME: Duration = POLL_INTERVAL.saturating_mul(QUIET_POLLS);

/// Polls the fingerprint of some files.
#[derive(Debug)]
pub struct Watch {
    ticks: Interval,
    /// The fingerprint at the last reported change.
    reported: Option<u64>,
    /// The fingerprint of the last poll.
    latest: Option<u64>,
    /// The number of polls in a row that found `latest` again.
    quiet_polls: u32,
    /// The number of polls in a row before the files were quiet.
    busy_polls: u32,
    polls_since_report: u32,
    busy: WarningLimiter,
}

impl Watch {
    /// Starts a watch without a fingerprint, so that the first call of
    /// [`Self::changed`] returns once the files are quiet. `busy` describes files that keep
    /// changing, in the log.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub fn start(busy: &'static str) -> Self {
        let mut ticks = time::interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            ticks,
            reported: None,
            latest: None,
            quiet_polls: 0,
            busy_polls: 0,
            polls_since_report: 0,
            busy: WarningLimiter::new(busy, busy),
        }
    }

    /// Waits until the files have changed and then stayed the same for [`QUIET_TIME`], so
    /// that a file that is being written is not reported. Also returns 10 seconds after the
    /// last return, unless they are changing.
    ///
    /// Each poll calls `fingerprint`. Its result must change with the files.
    ///
    /// The future can be dropped at any time without the loss of a change.
    ///
    /// # Errors
    ///
    /// Those of `fingerprint`.
    pub async fn changed<F, E>(&mut self, fingerprint: impl Fn() -> F) -> Result<(), E>
    where
        F: Future<Output = Result<u64, E>>,
    {
        loop {
            self.ticks.tick().await;
            if self.poll(fingerprint().await?) {
                return Ok(());
            }
        }
    }

    /// Makes [`Self::changed`] return as soon as the files are quiet.
    pub fn request(&mut self) {
        self.reported = None;
    }

    /// Whether the files with this fingerprint are those of the last return of
    /// [`Self::changed`].
    pub fn has_reported(&self, fingerprint: u64) -> bool {
        self.reported == Some(fingerprint)
    }

    /// Records the fingerprint of a poll. Returns true if the files should be
    /// read.
    fn poll(&mut self, fingerprint: u64) -> bool {
        let found = Some(fingerprint);
        self.polls_since_report = self.polls_since_report.saturating_add(1);
        self.quiet_polls =
            if found == self.latest { self.quiet_polls.saturating_add(1) } else { 0 };
        self.latest = found;
        if self.quiet_polls < QUIET_POLLS {
            self.busy_polls = self.busy_polls.saturating_add(1);
            if MAX_BUSY_POLLS <= self.busy_polls {
                self.busy.warn(&"they are read once they have not changed for a second");
            }
            return false;
        }
        self.busy_polls = 0;
        if found == self.reported && self.polls_since_report < FORCED_READ_POLLS {
            return false;
        }
        self.reported = found;
        self.polls_since_report = 0;
        true
    }
}

/// Hashes the device, inode, size and times of a file. The hash changes when
/// the contents change, except if an edit keeps all of them.
pub fn hash_metadata(metadata: &Metadata, hasher: &mut impl std::hash::Hasher) {
    (metadata.dev(), metadata.ino(), metadata.size()).hash(hasher);
    (metadata.mtime(), metadata.mtime_nsec()).hash(hasher);
    (metadata.ctime(), metadata.ctime_nsec()).hash(hasher);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The polls, counted from 1, that report a change.
    fn reports(watch: &mut Watch, fingerprints: impl IntoIterator<Item = u64>) -> Vec<usize> {
        let mut reports = Vec::new();
        for (number, fingerprint) in fingerprints.into_iter().enumerate() {
            if watch.poll(fingerprint) {
                reports.push(number + 1);
            }
        }
        reports
    }

    #[tokio::test]
    async fn files_are_reported_once_they_are_quiet() {
        let mut watch = Watch::start("files keep changing");
        assert_eq!(reports(&mut watch, [1; 20]), [5]);
        // A writer that pauses for less than a second, for more than a minute.
        let writing = (2..200).flat_map(|size| [size; 3]);
        assert_eq!(reports(&mut watch, writing), [0; 0]);
        assert_eq!(reports(&mut watch, [199; 20]), [2]);
        assert_eq!(reports(&mut watch, [200, 201, 201, 201, 201, 201, 201]), [6]);
    }

    #[tokio::test]
    async fn quiet_files_are_read_on_request_and_every_ten_seconds() {
        let mut watch = Watch::start("files keep changing");
        assert_eq!(reports(&mut watch, [1; 100]), [5, 45, 85]);
        watch.request();
        assert_eq!(reports(&mut watch, [1; 3]), [1]);
        watch.request();
        assert_eq!(reports(&mut watch, [2, 2, 2, 2, 2]), [5]);
    }
}
