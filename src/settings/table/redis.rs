use super::setting::{DURATION, Group, NUMBER, PATH, Setting, ValueKind};

pub(super) const REDIS: Group = Group {
    heading: "Redis",
    settings: &[
        Setting {
            name: "REDIS_URL",
            value: ValueKind::Secret("URL"),
            default: "",
            help: "The Redis server: \
                   `redis://[[user]:password@]host[:port][/database]`, `rediss://…` \
                   for TLS, `host:port`, `unix:///path/to/socket` or \
                   `/path/to/socket`. For `cluster` some of its servers, with \
                   commas; for `sentinel` the name of the master, and then the \
                   Sentinels: `name,host:port,host:port`, where users and passwords \
                   are those of the Sentinels. What one address of a list says holds \
                   for all of them; they may not contradict each other.",
        },
        Setting {
            name: "REDIS_AUTH",
            value: ValueKind::Secret("[USER:]PASSWORD"),
            default: "",
            help: "The password for Redis, or `user:password`, in place of what \
                   REDIS_URL says; `:password` if the password has a colon. Prefer the \
                   variable: other users of the machine can see flags.",
        },
        Setting {
            name: "REDIS_TYPE",
            value: ValueKind::Text("TYPE"),
            default: "single",
            help: "How Redis is deployed: `single`, `sentinel` or `cluster`.",
        },
        Setting {
            name: "REDIS_TLS",
            value: ValueKind::Switch,
            default: "false",
            help: "Whether connections to Redis, and to Sentinels, are encrypted; \
                   `rediss://` in REDIS_URL says so, too.",
        },
        Setting {
            name: "REDIS_TLS_CLIENT_CERT",
            value: PATH,
            default: "",
            help: "The certificate to show to Redis, also to that of \
                   REDIS_PERSECOND: a PEM file, read again for each connection.",
        },
        Setting {
            name: "REDIS_TLS_CLIENT_KEY",
            value: PATH,
            default: "",
            help: "The key of that certificate.",
        },
        Setting {
            name: "REDIS_TLS_CACERT",
            value: PATH,
            default: "",
            help: "Authorities that may vouch for Redis and Sentinels besides those of the \
                   system: a PEM file, read again for each connection.",
        },
        Setting {
            name: "REDIS_TLS_SKIP_HOSTNAME_VERIFICATION",
            value: ValueKind::Switch,
            default: "false",
            help: "Whether the certificate of Redis may be for another name.",
        },
        Setting {
            name: "REDIS_SENTINEL_AUTH",
            value: ValueKind::Secret("[USER:]PASSWORD"),
            default: "",
            help: "The password for the Sentinels, or `user:password`, in place of what \
                   REDIS_URL says; `:password` if the password has a colon. They are not \
                   given REDIS_AUTH.",
        },
        Setting {
            name: "REDIS_SOCKET_TYPE",
            value: ValueKind::Text("TYPE"),
            default: "",
            help: "`tcp` or `unix`. REDIS_URL says it already; if this is set, the two have \
                   to agree.",
        },
        Setting {
            name: "REDIS_TIMEOUT",
            value: DURATION,
            default: "500ms",
            help: "How long to wait for a connection to Redis, and for the answer to each \
                   command. More than 0.",
        },
        Setting {
            name: "EXPIRATION_JITTER_MAX_SECONDS",
            value: NUMBER,
            default: "0",
            help: "For how much longer than needed counters stay in Redis: a number of whole \
                   seconds, drawn for each, below this. Where many windows end at the same \
                   moment, it spreads the work to drop them. 0 or less means no longer.",
        },
        Setting {
            name: "REDIS_STARTUP_MAX_ELAPSED_TIME",
            value: DURATION,
            default: "0",
            help: "After how long the process ends if Redis has not decided since \
                   the start; 0 means never. Until then it runs, is not ready, and \
                   answers by ON_ERROR.",
        },
        Setting {
            name: "REDIS_HEALTH_CHECK_ACTIVE_CONNECTION",
            value: ValueKind::Switch,
            default: "false",
            help: "Whether the service is unhealthy whenever Redis does not decide: twice in a \
                   row, and in a cluster any node with slots. Otherwise only until it has \
                   decided once.",
        },
        Setting {
            name: "REDIS_PERSECOND",
            value: ValueKind::Switch,
            default: "false",
            help: "Whether limits per second are counted in a Redis of their own.",
        },
        Setting {
            name: "REDIS_PERSECOND_URL",
            value: ValueKind::Secret("URL"),
            default: "",
            help: "Like REDIS_URL, for the Redis of limits per second.",
        },
        Setting {
            name: "REDIS_PERSECOND_TYPE",
            value: ValueKind::Text("TYPE"),
            default: "single",
            help: "Like REDIS_TYPE.",
        },
        Setting {
            name: "REDIS_PERSECOND_AUTH",
            value: ValueKind::Secret("[USER:]PASSWORD"),
            default: "",
            help: "Like REDIS_AUTH.",
        },
        Setting {
            name: "REDIS_PERSECOND_TLS",
            value: ValueKind::Switch,
            default: "false",
            help: "Like REDIS_TLS. The certificates are the same.",
        },
        Setting {
            name: "REDIS_PERSECOND_SENTINEL_AUTH",
            value: ValueKind::Secret("[USER:]PASSWORD"),
            default: "",
            help: "Like REDIS_SENTINEL_AUTH.",
        },
        Setting {
            name: "REDIS_PERSECOND_SOCKET_TYPE",
            value: ValueKind::Text("TYPE"),
            default: "",
            help: "Like REDIS_SOCKET_TYPE.",
        },
        Setting {
            name: "REDIS_PERSECOND_TIMEOUT",
            value: DURATION,
            default: "500ms",
            help: "Like REDIS_TIMEOUT.",
        },
    ],
};
