//! The environment of this process.

use tracing::{info, warn};

use super::{
    hints::{self, Hint},
    model::{Settings, StoreSettings, Unused},
};

/// Looks up a variable of this process. Bytes that are not UTF-8 become
/// replacement characters, so that parsing the value fails visibly.
pub fn variable(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?;
    Some(value.to_string_lossy().into_owned())
}

/// Logs every variable of this process that looks like a setting and has no
/// effect, the settings that others make useless, then where the counters are, and whether limits are enforced.
pub fn report(settings: &Settings) {
    for (name, value) in std::env::vars_os() {
        let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
        match hints::hint(&name, &value, &settings.statistics.mogrifier_names) {
            Some(Hint::Ignored(reason)) => info!("{name} is ignored: {reason}"),
            Some(Hint::Unknown(Some(similar))) => {
                warn!("{name} is not a setting and has no effect; did you mean {similar}?");
            }
            Some(Hint::Unknown(None)) => warn!("{name} is not a setting and has no effect"),
            Some(Hint::UnlistedMogrifier) => {
                warn!("{name} has no effect: USE_DOG_STATSD_MOGRIFIERS does not list it");
            }
            None => {}
        }
    }
    if let Some(list) = unused_list(&settings.unused) {
        info!("these settings are given and have no effect: {list}");
    }
    match settings.store {
        StoreSettings::Memory { .. } => {
            info!("each instance counts in its own memory; set REDIS_URL to share the counters");
        }
        StoreSettings::Redis { .. } => info!("counters are shared through Redis"),
    }
    if settings.mode.shadow {
        warn!("SHADOW_MODE is true: no request is refused, whatever the limits are");
    }
}

/// The names and reasons in one line; `None` if there are none.
fn unused_list(unused: &[Unused]) -> Option<String> {
    let mut parts = Vec::new();
    for Unused { names, reason } in unused {
        parts.push(format!("{} ({reason})", names.join(", ")));
    }
    if parts.is_empty() { None } else { Some(parts.join("; ")) }
}
