//! Variables that are not set, and whose defaults differ.

use super::{
    Case,
    finding::{Finding, Grade},
    variables::{holds_hits, setting, uses_redis},
};

/// A default that is not that of the reference service.
struct Default {
    name: &'static str,
    /// Whether it makes a difference here.
    matters: fn(&Case<'_>) -> bool,
    there: &'static str,
    here: &'static str,
    remedy: &'static str,
}

const DEFAULTS: &[Default] = &[
    Default {
        name: "REDIS_URL",
        matters: |case| case.env.text("BACKEND_TYPE").is_none(),
        there: "counts in Redis, behind the socket /var/run/nutcracker/ratelimit.sock",
        here: "counts in the memory of each instance",
        remedy: "set REDIS_URL to a Redis to share counters; \
                 REDIS_URL=/var/run/nutcracker/ratelimit.sock keeps it if the twemproxy \
                 there has one server, and is refused if it has several",
    },
    Default {
        name: "REDIS_SOCKET_TYPE",
        matters: |case| {
            let single =
                case.env.text("REDIS_TYPE").is_none_or(|it| it.eq_ignore_ascii_case("single"));
            uses_redis(case)
                && single
                && case.env.text("REDIS_URL").is_some_and(|it| !it.contains('/'))
        },
        there: "looks for a socket of the name that is in REDIS_URL",
        here: "sees in REDIS_URL that it is a host",
        remedy: "",
    },
    Default {
        name: "REDIS_TIMEOUT",
        matters: uses_redis,
        there: "connecting may take 10s, and a command as long as the caller waits",
        here: "500ms for connecting, and for the answer to each command",
        remedy: "see that commands take less, or set REDIS_TIMEOUT",
    },
    Default {
        name: "REDIS_PERSECOND_TIMEOUT",
        matters: |case| uses_redis(case) && case.env.is_true("REDIS_PERSECOND"),
        there: "connecting may take 10s, and a command as long as the caller waits",
        here: "500ms for connecting, and for the answer to each command",
        remedy: "see that commands take less, or set REDIS_PERSECOND_TIMEOUT",
    },
    Default {
        name: "COUNTER_KEYS",
        matters: |case| uses_redis(case) && !holds_hits(case),
        there: "joins key, value and window with underscores to name a counter",
        here: "uses names that cannot be taken for one another, so that counters begin anew",
        remedy: "set COUNTER_KEYS=reference while both services count in the same Redis",
    },
    Default {
        name: "COUNTER_KEYS",
        matters: |case| uses_redis(case) && holds_hits(case),
        there: "joins key, value and window with underscores to name a counter",
        here: "uses names that cannot be taken for one another, so that counters begin anew",
        remedy: "change over at once: with STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT in a cluster \
                 or with REDIS_PERSECOND hits are held, so the two services cannot share \
                 counters. COUNTER_KEYS=reference lets counters go on once the last instance \
                 there has ended",
    },
    Default {
        name: "EXPIRATION_JITTER_MAX_SECONDS",
        matters: uses_redis,
        there: "300: counters stay in Redis for up to five minutes longer than their window",
        here: "0: counters leave Redis with their window",
        remedy: "set EXPIRATION_JITTER_MAX_SECONDS=300 if many windows end at one moment",
    },
    Default {
        name: "RESPONSE_DYNAMIC_METADATA",
        matters: |_| true,
        there: "answers carry no dynamic metadata",
        here: "answers that refuse say by which rule, as dynamic metadata",
        remedy: "set RESPONSE_DYNAMIC_METADATA=false to keep it",
    },
    Default {
        name: "USE_STATSD",
        matters: |case| {
            let set = ["STATSD_HOST", "STATSD_PORT", "STATSD_PROTOCOL"];
            let other = ["DISABLE_STATS", "USE_DOG_STATSD", "USE_PROMETHEUS"];
            !set.iter().any(|it| case.env.has(it)) && !other.iter().any(|it| case.env.is_true(it))
        },
        there: "sends statistics to localhost:8125 by StatsD, over TCP",
        here: "sends none; /metrics on the HTTP port has them for Prometheus",
        remedy: "set USE_STATSD=true if somebody listens there, else USE_STATSD=false",
    },
    Default {
        name: "LOG_LEVEL",
        matters: |_| true,
        there: "WARN",
        here: "info",
        remedy: "set LOG_LEVEL=warn to keep it",
    },
];

/// Where the environment relies on a default that is another here.
pub(super) fn defaults(case: &Case<'_>, findings: &mut Vec<Finding>) {
    for it in DEFAULTS {
        // What both know nothing of differs in nothing.
        let is_known = setting(it.name).is_some() || it.name == "USE_STATSD";
        if is_known && case.env.get(it.name).is_none() && (it.matters)(case) {
            findings.push(
                Finding::new(Grade::Differs, format!("{} is not set", it.name))
                    .of(case.env, it.name)
                    .there(it.there)
                    .here(it.here)
                    .remedy(it.remedy)
                    .unless(case.env, &[it.name]),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::migrate::reference::VARIABLES, duration};

    /// Whether two defaults mean the same, although they are written otherwise.
    fn same(there: &str, here: &str) -> bool {
        let durations = (duration::parse(there), duration::parse(here));
        there.eq_ignore_ascii_case(here)
            || matches!(durations, (Some(there), Some(here)) if there == here)
            // Nothing is a switch that is off, and a number that is 0.
            || matches!((there, here), ("false" | "0", "") | ("", "false" | "0"))
    }

    #[test]
    fn every_default_that_differs_is_explained() {
        // Where the first is not set the second says what happens.
        let elsewhere = [
            ("RUNTIME_ROOT", "RUNTIME_SUBDIRECTORY"),
            ("BACKEND_TYPE", "REDIS_URL"),
            ("REDIS_PERSECOND_URL", "REDIS_PERSECOND"),
            ("REDIS_PERSECOND_SOCKET_TYPE", "REDIS_PERSECOND_URL"),
        ];
        for it in VARIABLES {
            let Some(setting) = setting(it.name) else { continue };
            let explained = DEFAULTS.iter().any(|default| default.name == it.name)
                || elsewhere.iter().any(|(name, _)| *name == it.name);
            assert!(
                explained || same(it.default, setting.default),
                "{}: there {:?}, here {:?}",
                it.name,
                it.default,
                setting.default
            );
        }
    }
}
