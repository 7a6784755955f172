use super::setting::{DURATION, Group, HOST, PORT, Setting, ValueKind};

pub(in crate::settings) const STATISTICS: Group = Group {
    heading: "Statistics",
    settings: &[
        Setting {
            name: "DISABLE_STATS",
            value: ValueKind::Switch,
            default: "false",
            help: "Send no statistics, and open no separate port for them, whatever the other \
                   settings are. `/metrics` on `PORT` and `/stats` on `DEBUG_PORT` remain. Set \
                   it if Prometheus scrapes `PORT` and nothing else collects statistics.",
        },
        Setting {
            name: "EXTRA_TAGS",
            value: ValueKind::Text("TAGS"),
            default: "",
            help: "Tags for all statistics: `key:value,key:value`. They are part of the names in \
                   StatsD and labels in Prometheus. Tags without a value are ignored. Set it to \
                   tell installations apart.",
        },
        Setting {
            name: "STATS_FLUSH_INTERVAL",
            value: DURATION,
            default: "10s",
            help: "Time between two deliveries of statistics, at least 100ms. Raise it to send \
                   less, lower it for finer graphs.",
        },
        Setting {
            name: "USE_STATSD",
            value: ValueKind::Switch,
            default: "",
            help: "Send statistics to a StatsD server. Without it, statistics are sent if \
                   `STATSD_HOST`, `STATSD_PORT` or `STATSD_PROTOCOL` is set and `USE_DOG_STATSD` \
                   is not true.",
        },
        Setting {
            name: "STATSD_HOST",
            value: HOST,
            default: "localhost",
            help: "Host of the StatsD or DogStatsD server. A server that cannot be reached is \
                   logged and tried again.",
        },
        Setting {
            name: "STATSD_PORT",
            value: PORT,
            default: "8125",
            help: "Port of the StatsD or DogStatsD server, from 1 to 65535. Set it to the port \
                   of your agent.",
        },
        Setting {
            name: "STATSD_PROTOCOL",
            value: ValueKind::Text("PROTOCOL"),
            default: "tcp",
            help: "Protocol of the StatsD server: `tcp` or `udp`. DogStatsD always uses UDP. \
                   Set it to what the server listens for: most agents use UDP.",
        },
        Setting {
            name: "USE_DOG_STATSD",
            value: ValueKind::Switch,
            default: "false",
            help: "Send statistics to a DogStatsD server, with tags.",
        },
        Setting {
            name: "USE_DOG_STATSD_MOGRIFIERS",
            value: ValueKind::Text("NAMES"),
            default: "",
            help: "Names of mogrifiers, separated by commas. A mogrifier turns parts of a \
                   statistic's name into DogStatsD tags; the first one that matches applies. Each \
                   is configured by the variables `DOG_STATSD_MOGRIFIER_<NAME>_PATTERN` (regular \
                   expression), `DOG_STATSD_MOGRIFIER_<NAME>_NAME` (new name) and optionally \
                   `DOG_STATSD_MOGRIFIER_<NAME>_TAGS` (such as `key:$1`).",
        },
        Setting {
            name: "USE_PROMETHEUS",
            value: ValueKind::Switch,
            default: "false",
            help: "Open a separate port for Prometheus. `/metrics` on `PORT` exists in any case. \
                   Set it if Prometheus must not reach the other pages on `PORT`.",
        },
        Setting {
            name: "PROMETHEUS_ADDR",
            value: ValueKind::Text("ADDRESS"),
            default: ":9090",
            help: "Address of the separate Prometheus port: `host:port`, or `:port` for all \
                   addresses. Change it if another process uses the port, or to close it to \
                   other hosts.",
        },
        Setting {
            name: "PROMETHEUS_PATH",
            value: ValueKind::Text("PATH"),
            default: "/metrics",
            help: "Path of the metrics on the separate Prometheus port. Change it if your \
                   scraper expects another path.",
        },
        Setting {
            name: "PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS",
            value: ValueKind::Switch,
            default: "false",
            help: "Report response times to Prometheus in milliseconds, although the name of the \
                   metric ends in seconds. Set it only for dashboards that expect this.",
        },
    ],
};
