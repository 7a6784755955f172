use super::{Group, Setting, Value};

pub(super) const DECISIONS: Group = Group {
    heading: "Decisions",
    settings: &[
        Setting {
            name: "SHADOW_MODE",
            value: Value::Switch,
            default: "false",
            help: "Count and report everything, but refuse no request.",
        },
        Setting {
            name: "QUOTA_MODE",
            value: Value::Switch,
            default: "false",
            help: "Treat every rule as if it said `quota_mode`: a request is refused only \
                   when all its quotas are used up.",
        },
        Setting {
            name: "NEAR_LIMIT_RATIO",
            value: Value::Text("RATIO"),
            default: "0.8",
            help: "From which part of its limit on a counter is reported as near the limit: \
                   more than 0, at most 1.",
        },
    ],
};
