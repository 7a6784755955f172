//! Variables that are not set, and have another default in tollgate.

use super::{
    environment::Environment,
    finding::{Finding, Grade},
};
use crate::settings::table;

struct DifferingDefault {
    name: &'static str,
    /// Returns true if the default makes a difference in this environment.
    matters: fn(&Environment) -> bool,
    reference: &'static str,
    tollgate: &'static str,
    remedy: &'static str,
}

const DEFAULTS: &[DifferingDefault] = &[
    DifferingDefault {
        name: "REDIS_URL",
        matters: has_no_backend,
        reference: "counts in Redis, through the socket /var/run/nutcracker/ratelimit.sock",
        tollgate: "counts in the memory of each instance",
        remedy: "set REDIS_URL to a Redis to share counters; \
                 REDIS_URL=/var/run/nutcracker/ratelimit.sock keeps the twemproxy if it has one \
                 server, and is rejected if it has several",
    },
    DifferingDefault {
        name: "REDIS_SOCKET_TYPE",
        matters: has_host_of_redis,
        reference: "connects to a unix socket with the name in REDIS_URL",
        tollgate: "detects that REDIS_URL is a host",
        remedy: "",
    },
    DifferingDefault {
        name: "REDIS_TIMEOUT",
        matters: Environment::uses_redis,
        reference: "connecting may take 10s, and a command as long as the caller waits",
        tollgate: "1s to connect, and 500ms for the reply to each command",
        remedy: "make sure that commands take less, or set REDIS_TIMEOUT",
    },
    DifferingDefault {
        name: "REDIS_PERSECOND_TIMEOUT",
        matters: has_per_second_redis,
        reference: "connecting may take 10s, and a command as long as the caller waits",
        tollgate: "1s to connect, and 500ms for the reply to each command",
        remedy: "make sure that commands take less, or set REDIS_PERSECOND_TIMEOUT",
    },
    DifferingDefault {
        name: "COUNTER_KEYS",
        matters: can_share_counters,
        reference: "joins key, value and window with underscores to name a counter",
        tollgate: "uses unambiguous names, so counters start again from zero",
        remedy: "set COUNTER_KEYS=reference while both services count in the same Redis",
    },
    DifferingDefault {
        name: "COUNTER_KEYS",
        matters: reserves_hits_in_redis,
        reference: "joins key, value and window with underscores to name a counter",
        tollgate: "uses unambiguous names, so counters start again from zero",
        remedy: "switch all instances at once: with STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT in a \
                 cluster or with REDIS_PERSECOND, tollgate reserves hits, so the two services \
                 cannot share counters. COUNTER_KEYS=reference lets tollgate continue the \
                 counters once the last instance of the reference has stopped",
    },
    DifferingDefault {
        name: "EXPIRATION_JITTER_MAX_SECONDS",
        matters: Environment::uses_redis,
        reference: "300: counters stay in Redis for up to five minutes after their window",
        tollgate: "0: counters expire with their window",
        remedy: "set EXPIRATION_JITTER_MAX_SECONDS=300 if many windows end at the same time",
    },
    DifferingDefault {
        name: "RESPONSE_DYNAMIC_METADATA",
        matters: always,
        reference: "responses have no dynamic metadata",
        tollgate: "a response over the limit names the rule in its dynamic metadata",
        remedy: "set RESPONSE_DYNAMIC_METADATA=false to keep the old behaviour",
    },
    DifferingDefault {
        name: "USE_STATSD",
        matters: sends_to_default_statsd,
        reference: "sends statistics to localhost:8125 by StatsD, over TCP",
        tollgate: "sends none; /metrics on the HTTP port serves them for Prometheus",
        remedy: "set USE_STATSD=true if a StatsD server listens on that port, else \
                 USE_STATSD=false",
    },
    DifferingDefault {
        name: "LOG_LEVEL",
        matters: always,
        reference: "WARN",
        tollgate: "info",
        remedy: "set LOG_LEVEL=warn to keep the old level",
    },
];

fn always(_: &Environment) -> bool {
    true
}

fn has_no_backend(env: &Environment) -> bool {
    env.text("BACKEND_TYPE").is_none()
}

fn has_host_of_redis(env: &Environment) -> bool {
    let is_single = env.text("REDIS_TYPE").is_none() || env.is_word("REDIS_TYPE", "single");
    let Some(url) = env.text("REDIS_URL") else { return false };
    env.uses_redis() && is_single && !url.contains('/')
}

fn has_per_second_redis(env: &Environment) -> bool {
    env.uses_redis() && env.is_true("REDIS_PERSECOND")
}

fn can_share_counters(env: &Environment) -> bool {
    env.uses_redis() && !env.reserves_hits()
}

fn reserves_hits_in_redis(env: &Environment) -> bool {
    env.uses_redis() && env.reserves_hits()
}

/// Returns true if the reference sends statistics by StatsD only because that
/// is its default.
fn sends_to_default_statsd(env: &Environment) -> bool {
    for name in ["STATSD_HOST", "STATSD_PORT", "STATSD_PROTOCOL"] {
        if env.is_set(name) {
            return false;
        }
    }
    for name in ["DISABLE_STATS", "USE_DOG_STATSD", "USE_PROMETHEUS"] {
        if env.is_true(name) {
            return false;
        }
    }
    true
}

/// Finds variables that are not set although their defaults differ.
pub(super) fn defaults(env: &Environment, findings: &mut Vec<Finding>) {
    for default in DEFAULTS {
        // A variable that neither service reads makes no difference.
        let is_known = table::find(default.name).is_some() || default.name == "USE_STATSD";
        if !is_known || env.get(default.name).is_some() || !(default.matters)(env) {
            continue;
        }
        findings.push(
            Finding::new(Grade::Differs, format!("{} is not set", default.name))
                .about(env, default.name)
                .reference(default.reference)
                .tollgate(default.tollgate)
                .remedy(default.remedy)
                .unless_set(env, &[default.name]),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::migrate::reference::VARIABLES, duration};

    /// Compares the meaning of two defaults, which may be written differently.
    fn have_same_meaning(reference: &str, tollgate: &str) -> bool {
        let durations = (duration::parse(reference), duration::parse(tollgate));
        reference.eq_ignore_ascii_case(tollgate)
            || matches!(durations, (Some(reference), Some(tollgate)) if reference == tollgate)
            // An empty default is false for a switch, and 0 for a number.
            || matches!((reference, tollgate), ("false" | "0", "") | ("", "false" | "0"))
    }

    #[test]
    fn every_differing_default_has_an_explanation() {
        // If the first is not set, the finding is about the second.
        let explained_elsewhere = [
            ("RUNTIME_ROOT", "RUNTIME_SUBDIRECTORY"),
            ("BACKEND_TYPE", "REDIS_URL"),
            ("REDIS_PERSECOND_URL", "REDIS_PERSECOND"),
            ("REDIS_PERSECOND_SOCKET_TYPE", "REDIS_PERSECOND_URL"),
        ];
        for variable in VARIABLES {
            let Some(setting) = table::find(variable.name) else { continue };
            let explained = DEFAULTS.iter().any(|default| default.name == variable.name)
                || explained_elsewhere.iter().any(|(name, _)| *name == variable.name);
            assert!(
                explained || have_same_meaning(variable.default, setting.default),
                "{}: reference {:?}, tollgate {:?}",
                variable.name,
                variable.default,
                setting.default
            );
        }
    }
}
