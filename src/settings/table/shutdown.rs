use super::setting::{DURATION, Group, Setting};

pub(super) const SHUTDOWN: Group = Group {
    heading: "Shutdown",
    settings: &[
        Setting {
            name: "DRAIN_DELAY",
            value: DURATION,
            default: "3s",
            help: "How long to go on serving after SIGTERM while the health checks already \
                   say no, so that clients turn elsewhere first. SIGINT skips it, and a second \
                   signal cuts it short.",
        },
        Setting {
            name: "DRAIN_TIMEOUT",
            value: DURATION,
            default: "20s",
            help: "How long the calls in flight may take after that. A further signal ends the \
                   process at once.",
        },
    ],
};
