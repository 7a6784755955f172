//! The limit of the system on open files, which includes connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::settings::Settings;

/// Files besides the connections of clients: listeners, rule files, certificates,
/// connections to Redis, and the runtime's own.
const OTHER_FILES: u64 = 200;

/// Raises the limit on open files as far as the system allows. Logs a warning if it is
/// still too low for the settings.
pub(super) fn raise_limit(settings: &Settings) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, ..limit };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => {
                info!(from = limit.current, to = limit.maximum, "raised the limit of open files")
            }
            Err(error) => warn!("cannot raise the limit of open files: {error}"),
        }
    }
    // Without a current limit, any number of files can be open.
    let Some(allowed) = getrlimit(Resource::Nofile).current else { return };
    let needed = needed(settings);
    if allowed < needed {
        let most = settings.listeners.bounds.most;
        warn!(
            allowed,
            needed,
            "the limit of open files (`ulimit -n`) is too low for MAX_CONNECTIONS={most} on each \
             listener: before that many connections are open, health checks and Redis may fail; \
             raise the limit or lower MAX_CONNECTIONS"
        );
    }
}

/// The number of files that are open if each listener has as many connections as it may.
fn needed(settings: &Settings) -> u64 {
    // gRPC, HTTP and the pages for operators.
    let listeners = 3
        + u64::from(settings.statistics.prometheus.is_some())
        + u64::from(settings.listeners.probes.is_some())
        + u64::from(settings.admin.is_open());
    let bounds = settings.listeners.bounds;
    let most = bounds.most.saturating_add(bounds.most_handshakes());
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    most.saturating_mul(listeners).saturating_add(OTHER_FILES)
}
