use super::setting::{Group, NUMBER, Setting, ValueKind};

pub(super) const DECISIONS: Group = Group {
    heading: "Decisions",
    settings: &[
        Setting {
            name: "SHADOW_MODE",
            value: ValueKind::Switch,
            default: "false",
            help: "Count and report everything, but refuse no request.",
        },
        Setting {
            name: "QUOTA_MODE",
            value: ValueKind::Switch,
            default: "false",
            help: "Treat every rule as if it said `quota_mode`: a request is refused only \
                   when all its quotas are used up.",
        },
        Setting {
            name: "MAX_DESCRIPTORS",
            value: NUMBER,
            default: "100",
            help: "How many descriptors one request may have: 1 to 1000. One with more is the \
                   caller's mistake (INVALID_ARGUMENT, or 400), and nothing of it is counted; \
                   Envoy lets it pass unless failure_mode_deny is true. Each descriptor costs a \
                   counter of each of its limits, and its part of the answer. Raise it if the log \
                   shows such requests; Redis then works longer for one of them.",
        },
        Setting {
            name: "NEAR_LIMIT_RATIO",
            value: ValueKind::Text("RATIO"),
            default: "0.8",
            help: "From which part of its limit on a counter is reported as near the limit: \
                   more than 0, at most 1.",
        },
    ],
};
