use super::setting::{Group, HEADER, Setting, ValueKind};

pub(super) const ANSWERS: Group = Group {
    heading: "Answers",
    settings: &[
        Setting {
            name: "LIMIT_RESPONSE_HEADERS_ENABLED",
            value: ValueKind::Switch,
            default: "false",
            help: "Add rate-limit headers to gRPC answers; Envoy passes them to the client. Not \
                   needed if Envoy sets `enable_x_ratelimit_headers`. Set it if clients should \
                   see how much they have left.",
        },
        Setting {
            name: "LIMIT_LIMIT_HEADER",
            value: HEADER,
            default: "RateLimit-Limit",
            help: "Name of the header with the limit. Change it if your clients read another \
                   name.",
        },
        Setting {
            name: "LIMIT_REMAINING_HEADER",
            value: HEADER,
            default: "RateLimit-Remaining",
            help: "Name of the header with the number of hits that the limit still allows. \
                   Change it if your clients read another name.",
        },
        Setting {
            name: "LIMIT_RESET_HEADER",
            value: HEADER,
            default: "RateLimit-Reset",
            help: "Name of the header with the seconds until the limit resets. Change it if \
                   your clients read another name.",
        },
        Setting {
            name: "RESPONSE_DYNAMIC_METADATA",
            value: ValueKind::Text("WHEN"),
            default: "refused",
            help: "Answers with dynamic metadata, for example for Envoy's access log: `refused` \
                   (those that refuse, and those that `ON_ERROR` or `on_error` decided), `always` \
                   (or `true`), `never` (or `false`). The metadata names the rule that decided. \
                   Set `never` to save the bytes if nothing reads it. Answers of `/json` have it \
                   only with `always`.",
        },
    ],
};
