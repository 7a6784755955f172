//! Detects changes of files by polling their metadata a few times per second.
//!
//! An edit in place, a rename, a replacement and the exchange of symbolic links
//! by which Kubernetes updates a volume all change the metadata.
//! `docs/decisions.md` explains why notifications are not used.

use std::{fs::Metadata, hash::Hash, os::unix::fs::MetadataExt, time::Duration};

use tokio::time::{self, Interval, MissedTickBehavior};

/// The time between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// The number of polls after which a change is reported although the files are
/// still changing.
const MAX_UNSETTLED_POLLS: u32 = 4;
/// The number of polls after which the files are read even if their metadata is
/// the same: two edits within one tick of the file system's clock can have the
/// same times.
const FORCED_READ_POLLS: u32 = 40;

/// Polls the fingerprint of some files.
#[derive(Debug)]
pub struct Watch {
    ticks: Interval,
    /// The fingerprint at the last reported change.
    reported: Option<u64>,
    /// The fingerprint of the last poll.
    latest: Option<u64>,
    /// The number of polls in a row that each found another fingerprint.
    unsettled_polls: u32,
    polls_since_report: u32,
}

impl Watch {
    /// Starts a watch without a fingerprint, so that the first call of
    /// [`Self::changed`] returns after two polls.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub fn start() -> Self {
        let mut ticks = time::interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, reported: None, latest: None, unsettled_polls: 0, polls_since_report: 0 }
    }

    /// Waits until the files have changed and then stayed the same for one
    /// poll. Also returns if they keep changing for a second, and 10 seconds
    /// after the last return in any case.
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

    /// Records the fingerprint of a poll. Returns true if the files should be
    /// read.
    fn poll(&mut self, fingerprint: u64) -> bool {
        let found = Some(fingerprint);
        if found == self.latest {
            self.unsettled_polls = 0;
        } else {
            self.unsettled_polls += 1;
        }
        self.latest = found;
        self.polls_since_report += 1;
        let is_settled = self.unsettled_polls == 0 || self.unsettled_polls >= MAX_UNSETTLED_POLLS;
        let is_due = found != self.reported && is_settled;
        if !is_due && self.polls_since_report < FORCED_READ_POLLS {
            return false;
        }
        self.reported = found;
        self.unsettled_polls = 0;
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
