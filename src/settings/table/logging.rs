use super::setting::{Group, Setting, ValueKind};

pub(super) const LOGGING: Group = Group {
    heading: "Logging",
    settings: &[
        Setting {
            name: "LOG_LEVEL",
            value: ValueKind::Text("LEVEL"),
            default: "info",
            help: "Least severe messages to log: `error`, `warn`, `info`, `debug` or `trace`. Also \
                   accepted: `panic` and `fatal` for `error`, `warning` for `warn`.",
        },
        Setting {
            name: "LOG_FORMAT",
            value: ValueKind::Text("FORMAT"),
            default: "text",
            help: "`text`, or `json` for one object per line, with the keys of \
                   envoyproxy/ratelimit. Set `json` if a log collector reads the lines.",
        },
    ],
};
