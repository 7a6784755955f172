use super::setting::{DURATION, Group, Setting};

pub(super) const SHUTDOWN: Group = Group {
    heading: "Shutdown",
    settings: &[
        Setting {
            name: "DRAIN_DELAY",
            value: DURATION,
            default: "3s",
            help: "Time after SIGTERM in which the service still accepts requests while the health \
                   check already reports unhealthy and HTTP answers end with `Connection: close`, \
                   so that clients move away first. SIGINT skips it, and a second signal ends it. \
                   Raise it if your load balancer is slow to notice, or above the time between two \
                   requests of your HTTP clients.",
        },
        Setting {
            name: "DRAIN_TIMEOUT",
            value: DURATION,
            default: "20s",
            help: "Time that running calls have after `DRAIN_DELAY`, if they wait for a decision; those \
                   that their client has not finished have a second. A further signal ends it. The \
                   process then takes up to 4 s to give unused hits back to Redis and to send the \
                   last statistics. Keep the sum of all three below \
                   `terminationGracePeriodSeconds`.",
        },
    ],
};
