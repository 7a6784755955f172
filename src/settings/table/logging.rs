use super::setting::{Group, Setting, ValueKind};

pub(super) const LOGGING: Group = Group {
    heading: "Logging",
    settings: &[
        Setting {
            name: "LOG_LEVEL",
            value: ValueKind::Text("LEVEL"),
            default: "info",
            help: "The least that is logged: `error`, `warn`, `info`, `debug` or `trace`. \
                   `panic` and `fatal` mean `error`, `warning` means `warn`.",
        },
        Setting {
            name: "LOG_FORMAT",
            value: ValueKind::Text("FORMAT"),
            default: "text",
            help: "`text`, or `json` for one object per line, with the keys of envoyproxy/ratelimit.",
        },
    ],
};
