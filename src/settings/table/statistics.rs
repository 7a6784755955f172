use super::setting::{DURATION, Group, HOST, PORT, Setting, ValueKind};

pub(in crate::settings) const STATISTICS: Group = Group {
    heading: "Statistics",
    settings: &[
        Setting {
            name: "DISABLE_STATS",
            value: ValueKind::Switch,
            default: "false",
            help: "Whether statistics are neither sent nor served on a port of their own, \
                   whatever the following say. `/metrics` of PORT and `/stats` of DEBUG_PORT \
                   stay.",
        },
        Setting {
            name: "EXTRA_TAGS",
            value: ValueKind::Text("TAGS"),
            default: "",
            help: "Tags of all statistics: `key:value,key:value`. In statsd they are part of \
                   the names, for Prometheus they are labels. Those without a value are left \
                   out.",
        },
        Setting {
            name: "STATS_FLUSH_INTERVAL",
            value: DURATION,
            default: "10s",
            help: "How often statistics are sent, at least 100ms.",
        },
        Setting {
            name: "USE_STATSD",
            value: ValueKind::Switch,
            default: "",
            help: "Whether statistics are sent to a server of statsd. If not set, they are where \
                   STATSD_HOST, STATSD_PORT or STATSD_PROTOCOL is set and USE_DOG_STATSD is not \
                   true.",
        },
        Setting {
            name: "STATSD_HOST",
            value: HOST,
            default: "localhost",
            help: "Where the server of statsd or DogStatsD is. If it is not there, that is \
                   logged, and tried again.",
        },
        Setting { name: "STATSD_PORT", value: PORT, default: "8125", help: "Its port, not 0." },
        Setting {
            name: "STATSD_PROTOCOL",
            value: ValueKind::Text("PROTOCOL"),
            default: "tcp",
            help: "How the server of statsd is reached: `tcp` or `udp`. DogStatsD always is by \
                   UDP.",
        },
        Setting {
            name: "USE_DOG_STATSD",
            value: ValueKind::Switch,
            default: "false",
            help: "Whether statistics are sent to a server of DogStatsD.",
        },
        Setting {
            name: "USE_DOG_STATSD_MOGRIFIERS",
            value: ValueKind::Text("NAMES"),
            default: "",
            help: "Names of rules, with commas, that turn parts of names into tags for \
                   DogStatsD; the first that matches counts. For each name there are the \
                   variables DOG_STATSD_MOGRIFIER_*NAME*_PATTERN, a regular expression, \
                   DOG_STATSD_MOGRIFIER_*NAME*_NAME, what becomes of the name, and perhaps \
                   DOG_STATSD_MOGRIFIER_*NAME*_TAGS, such as `key:$1`.",
        },
        Setting {
            name: "USE_PROMETHEUS",
            value: ValueKind::Switch,
            default: "false",
            help: "Whether Prometheus has a port of its own. `/metrics` of PORT is there in any \
                   case.",
        },
        Setting {
            name: "PROMETHEUS_ADDR",
            value: ValueKind::Text("ADDRESS"),
            default: ":9090",
            help: "Where: `host:port`, or `:port` for all addresses.",
        },
        Setting {
            name: "PROMETHEUS_PATH",
            value: ValueKind::Text("PATH"),
            default: "/metrics",
            help: "Under which path of it.",
        },
        Setting {
            name: "PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS",
            value: ValueKind::Switch,
            default: "false",
            help: "Whether Prometheus is told response times in milliseconds, under the name \
                   that says seconds.",
        },
    ],
};
