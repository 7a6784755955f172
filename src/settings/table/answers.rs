use super::setting::{Group, HEADER, Setting, ValueKind};

pub(super) const ANSWERS: Group = Group {
    heading: "Answers",
    settings: &[
        Setting {
            name: "LIMIT_RESPONSE_HEADERS_ENABLED",
            value: ValueKind::Switch,
            default: "false",
            help: "Whether answers carry headers, which Envoy passes on to the client.",
        },
        Setting {
            name: "LIMIT_LIMIT_HEADER",
            value: HEADER,
            default: "RateLimit-Limit",
            help: "The header for the limit.",
        },
        Setting {
            name: "LIMIT_REMAINING_HEADER",
            value: HEADER,
            default: "RateLimit-Remaining",
            help: "The header for the number of hits that the limit has room for.",
        },
        Setting {
            name: "LIMIT_RESET_HEADER",
            value: HEADER,
            default: "RateLimit-Reset",
            help: "The header for the number of seconds until the counter starts anew.",
        },
        Setting {
            name: "RESPONSE_DYNAMIC_METADATA",
            value: ValueKind::Text("WHEN"),
            default: "refused",
            help: "Which answers carry metadata, for Envoy's access log for example: \
                   `refused` for those that refuse, `always` (or `true`), `never` (or \
                   `false`).",
        },
    ],
};
