use super::setting::{DURATION, Group, NUMBER, PATH, Setting, ValueKind};

pub(super) const REDIS: Group = Group {
    heading: "Redis",
    settings: &[
        Setting {
            name: "REDIS_URL",
            value: ValueKind::Secret("URL"),
            default: "",
            help: "Redis server: `redis://[[user]:password@]host[:port][/database]`, `rediss://…` \
                   for TLS, `host:port`, or a socket as `unix:///path/to/socket` or \
                   `/path/to/socket`. For `cluster`, some of its servers, separated by commas. For \
                   `sentinel`, the name of the master and the Sentinels: \
                   `name,host:port,host:port`; users and passwords in this list are for the \
                   Sentinels. A user, password, database or scheme in one address of a list \
                   applies to all of them, and must not contradict another address.",
        },
        Setting {
            name: "REDIS_AUTH",
            value: ValueKind::Secret("[USER:]PASSWORD"),
            default: "",
            help: "Password for Redis, or `user:password`; overrides the one in `REDIS_URL`. Write \
                   `:password` if the password contains a colon. Prefer the variable: other users \
                   of the machine can see flags.",
        },
        Setting {
            name: "REDIS_TYPE",
            value: ValueKind::Text("TYPE"),
            default: "single",
            help: "Deployment of Redis: `single`, `sentinel` or `cluster`.",
        },
        Setting {
            name: "REDIS_TLS",
            value: ValueKind::Switch,
            default: "false",
            help: "Connect to Redis and to the Sentinels with TLS. `rediss://` in `REDIS_URL` \
                   has the same effect. Set it if the network to Redis is not private.",
        },
        Setting {
            name: "REDIS_TLS_CLIENT_CERT",
            value: PATH,
            default: "",
            help: "Client certificate (PEM) for Redis, also for the one of `REDIS_PERSECOND`. Set \
                   it if Redis requires one. Read again for each connection.",
        },
        Setting {
            name: "REDIS_TLS_CLIENT_KEY",
            value: PATH,
            default: "",
            help: "Private key (PEM) of `REDIS_TLS_CLIENT_CERT`.",
        },
        Setting {
            name: "REDIS_TLS_CACERT",
            value: PATH,
            default: "",
            help: "CA certificates (PEM) to trust for Redis and the Sentinels, in addition to \
                   those of the system. Set it for a private CA. Read again for each connection.",
        },
        Setting {
            name: "REDIS_TLS_SKIP_HOSTNAME_VERIFICATION",
            value: ValueKind::Switch,
            default: "false",
            help: "Accept a certificate of Redis for another hostname. Set it only if the \
                   certificate cannot contain the name by which Redis is reached.",
        },
        Setting {
            name: "REDIS_SENTINEL_AUTH",
            value: ValueKind::Secret("[USER:]PASSWORD"),
            default: "",
            help: "Password for the Sentinels, or `user:password`; overrides the one in \
                   `REDIS_URL`. Write `:password` if the password contains a colon. \
                   `REDIS_AUTH` is not sent to the Sentinels. Set it if the Sentinels ask for a \
                   password.",
        },
        Setting {
            name: "REDIS_SOCKET_TYPE",
            value: ValueKind::Text("TYPE"),
            default: "",
            help: "`tcp` or `unix`. Not needed, as `REDIS_URL` determines it; if both are set, \
                   they must agree.",
        },
        Setting {
            name: "REDIS_TIMEOUT",
            value: DURATION,
            default: "500ms",
            help: "Timeout for each command to Redis, above 0. Connecting may take as long, and \
                   at least one second. Raise it only if Redis is far away: requests under the \
                   policy `error` wait for it.",
        },
        Setting {
            name: "EXPIRATION_JITTER_MAX_SECONDS",
            value: NUMBER,
            default: "0",
            help: "Keep each counter in Redis for a random extra time of less than this many whole \
                   seconds. 0 or less turns it off. Set it if many windows end at the same moment \
                   and Redis slows down then.",
        },
        Setting {
            name: "REDIS_STARTUP_MAX_ELAPSED_TIME",
            value: DURATION,
            default: "0",
            help: "Exit if Redis has not decided a request within this time after the start. 0 \
                   means never. Until then the service runs, is not ready, and answers by \
                   `ON_ERROR`. Set it if a restart is better than an instance that waits for \
                   Redis.",
        },
        Setting {
            name: "REDIS_HEALTH_CHECK_ACTIVE_CONNECTION",
            value: ValueKind::Switch,
            default: "false",
            help: "Report unhealthy whenever Redis fails twice in a row; in a cluster, whenever \
                   any node with slots does. Without it, the service is unhealthy only until the \
                   first answer of Redis. Leave it off unless you want all instances out of \
                   service at the same time when Redis fails.",
        },
        Setting {
            name: "REDIS_PERSECOND",
            value: ValueKind::Switch,
            default: "false",
            help: "Store the counters of limits per second in a separate Redis. Set it if these \
                   limits load Redis so much that others suffer.",
        },
        Setting {
            name: "REDIS_PERSECOND_URL",
            value: ValueKind::Secret("URL"),
            default: "",
            help: "Redis for limits per second, written like `REDIS_URL`. Set it if limits per \
                   second load the other Redis too much.",
        },
        Setting {
            name: "REDIS_PERSECOND_TYPE",
            value: ValueKind::Text("TYPE"),
            default: "single",
            help: "Deployment of the Redis for limits per second: `single`, `sentinel` or \
                   `cluster`. Set it to what your `REDIS_PERSECOND_URL` points to.",
        },
        Setting {
            name: "REDIS_PERSECOND_AUTH",
            value: ValueKind::Secret("[USER:]PASSWORD"),
            default: "",
            help: "Password of the Redis for limits per second, written like `REDIS_AUTH`.",
        },
        Setting {
            name: "REDIS_PERSECOND_TLS",
            value: ValueKind::Switch,
            default: "false",
            help: "Connect to the Redis for limits per second with TLS, with the certificates \
                   of `REDIS_TLS_*`. Set it if the network to that Redis is not private.",
        },
        Setting {
            name: "REDIS_PERSECOND_SENTINEL_AUTH",
            value: ValueKind::Secret("[USER:]PASSWORD"),
            default: "",
            help: "Password of the Sentinels for limits per second, written like \
                   `REDIS_SENTINEL_AUTH`.",
        },
        Setting {
            name: "REDIS_PERSECOND_SOCKET_TYPE",
            value: ValueKind::Text("TYPE"),
            default: "",
            help: "`tcp` or `unix`, for `REDIS_PERSECOND_URL`; see `REDIS_SOCKET_TYPE`.",
        },
        Setting {
            name: "REDIS_PERSECOND_TIMEOUT",
            value: DURATION,
            default: "500ms",
            help: "Timeout for each command to the Redis for limits per second, above 0. \
                   Connecting may take as long, and at least one second. Keep it below the \
                   timeout of your proxy.",
        },
    ],
};
