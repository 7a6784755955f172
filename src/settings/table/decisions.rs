use super::setting::{Group, NUMBER, Setting, ValueKind};

pub(super) const DECISIONS: Group = Group {
    heading: "Decisions",
    settings: &[
        Setting {
            name: "SHADOW_MODE",
            value: ValueKind::Switch,
            default: "false",
            help: "Count and report everything, but refuse no request. Set it to try out a new \
                   installation.",
        },
        Setting {
            name: "QUOTA_MODE",
            value: ValueKind::Switch,
            default: "false",
            help: "Treat every rule as if it had `quota_mode`: a request is refused only when \
                   all its quotas are used up. Set it if the limits of a request are \
                   alternatives instead of conditions.",
        },
        Setting {
            name: "MAX_DESCRIPTORS",
            value: NUMBER,
            default: "100",
            help: "Most descriptors in one request, from 1 to 1000. A request with more is an \
                   error of the caller (INVALID_ARGUMENT or 400) and is not counted; Envoy lets it \
                   pass unless `failure_mode_deny` is true. Each descriptor costs a counter for \
                   each of its limits. Raise it if the log reports such requests; Redis then works \
                   longer for each of them.",
        },
        Setting {
            name: "EXT_AUTHZ_DOMAIN",
            value: ValueKind::Text("DOMAIN"),
            default: "",
            help: "Domain of the checks by Envoy's filter `ext_authz` over gRPC whose route names \
                   none in `context_extensions`. Without it, their requests are refused. Set it if \
                   the configuration of the proxy cannot name a domain: with Istio, and with the \
                   filter `ExternalAuth` of Gateway API.",
        },
        Setting {
            name: "NEAR_LIMIT_RATIO",
            value: ValueKind::Text("RATIO"),
            default: "0.8",
            help: "Fraction of a limit above which statistics report a hit as near the limit: \
                   above 0, at most 1. Lower it for earlier warnings.",
        },
    ],
};
