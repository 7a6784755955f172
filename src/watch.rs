//! When files are worth reading again.
//!
//! Their metadata is asked for a few times a second (see `docs/decisions.md`
//! for why not by notifications). So an edit in place, a rename, a delete and
//! create, and the exchange of symlinks by which Kubernetes updates a volume all
//! look alike.

use std::{fs::Metadata, hash::Hash, os::unix::fs::MetadataExt, time::Duration};

use tokio::{
    task::{self, JoinError},
    time::{self, Interval, MissedTickBehavior},
};

/// How often the metadata is looked at.
const INTERVAL: Duration = Duration::from_millis(250);
/// After so many looks a change is taken up even if it is still going on.
const PATIENCE: u32 = 4;
/// After so many looks the files are read whatever the metadata says: two
/// changes within one tick of the file system's clock may look like one.
const READ_ANYWAY: u32 = 40;

/// Looks at files, and remembers how they looked.
#[derive(Debug)]
pub struct Watch {
    ticks: Interval,
    /// What was seen when the files were last read.
    settled: Option<u64>,
    seen: Option<u64>,
    /// How many looks in a row found a change.
    restless: u32,
    since_read: u32,
}

impl Watch {
    /// Nothing seen yet, so that the files are soon read. Only within a runtime.
    pub fn start() -> Self {
        let mut ticks = time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, settled: None, seen: None, restless: 0, since_read: 0 }
    }

    /// Waits until the files have changed and stayed the same for one look, or
    /// have changed for a second, or have not been read for ten. `look` gives a
    /// number that changes with them, and may block.
    ///
    /// If this is dropped, nothing is lost.
    ///
    /// # Errors
    ///
    /// If a look panics.
    pub async fn changed<F>(&mut self, look: impl Fn() -> F) -> Result<(), JoinError>
    where
        F: FnOnce() -> u64 + Send + 'static,
    {
        loop {
            self.ticks.tick().await;
            let found = Some(task::spawn_blocking(look()).await?);
            // Files that are being written change from one look to the next.
            self.restless = if found == self.seen { 0 } else { self.restless + 1 };
            self.seen = found;
            self.since_read += 1;
            let quiet = self.restless == 0 || PATIENCE <= self.restless;
            if found != self.settled && quiet || READ_ANYWAY <= self.since_read {
                (self.settled, self.restless, self.since_read) = (found, 0, 0);
                return Ok(());
            }
        }
    }
}

/// Feeds what changes, as good as always, when the contents of a file do.
pub fn hash_identity(of: &Metadata, hasher: &mut impl std::hash::Hasher) {
    (of.dev(), of.ino(), of.size()).hash(hasher);
    (of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()).hash(hasher);
}
