//! Every setting there is. The command line, its `--help` and
//! `docs/settings.md` are made from this table.

/// Settings that belong together.
#[derive(Debug)]
pub struct Group {
    /// What they are about.
    pub heading: &'static str,
    /// In the order in which they are shown.
    pub settings: &'static [Setting],
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable.
    pub name: &'static str,
    /// What kind of value it takes, for `--help`.
    pub value: Value,
    /// What applies where it is not set, written like any other value; empty if
    /// it is then simply not set.
    pub default: &'static str,
    /// Whole sentences.
    pub help: &'static str,
}

/// What kind of value a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text of the kind that this names.
    Text(&'static str),
    /// Like [`Self::Text`], but never shown: it may hold a password.
    Secret(&'static str),
    /// True or false. The flag alone means true.
    Switch,
}

impl Value {
    /// What stands for the value in `--help`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text(name) | Self::Secret(name) => name,
            Self::Switch => "BOOL",
        }
    }
}

impl Setting {
    /// The flag, without its dashes.
    pub fn flag(&self) -> String {
        let name = self.name.strip_prefix("TOLLGATE_").unwrap_or(self.name);
        name.to_ascii_lowercase().replace('_', "-")
    }
}

const DURATION: Value = Value::Text("DURATION");
const HOST: Value = Value::Text("HOST");
const NUMBER: Value = Value::Text("NUMBER");
const PORT: Value = Value::Text("PORT");
const HEADER: Value = Value::Text("HEADER");

/// Every setting, in groups.
pub const GROUPS: &[Group] = &[
    Group {
        heading: "Rules",
        settings: &[
            Setting {
                name: "TOLLGATE_CONFIG",
                value: Value::Text("PATH"),
                default: "config/",
                help: "A file of rules, or a directory with such files. Changes to it take \
                       effect without a restart.",
            },
            Setting {
                name: "MERGE_DOMAIN_CONFIG",
                value: Value::Switch,
                default: "false",
                help: "Whether several files may add rules to the same domain. Otherwise that is \
                       a mistake.",
            },
        ],
    },
    Group {
        heading: "Listeners",
        settings: &[
            Setting {
                name: "GRPC_HOST",
                value: HOST,
                default: "0.0.0.0",
                help: "Where Envoy and other gRPC clients ask: a name, an IPv4 or an IPv6 \
                       address (`::` for all).",
            },
            Setting {
                name: "GRPC_PORT",
                value: PORT,
                default: "8081",
                help: "The port for gRPC. 0 lets the system choose, here and for the other ports.",
            },
            Setting {
                name: "HOST",
                value: HOST,
                default: "0.0.0.0",
                help: "Where HTTP clients ask. Whoever reaches it can read the rules.",
            },
            Setting {
                name: "PORT",
                value: PORT,
                default: "8080",
                help: "The port for HTTP: `/json`, `/healthcheck`, `/ready`, `/metrics` for \
                       Prometheus, and `/rlconfig`.",
            },
            Setting {
                name: "DEBUG_HOST",
                value: HOST,
                default: "0.0.0.0",
                help: "Where operators look. Whoever reaches it can read the rules.",
            },
            Setting {
                name: "DEBUG_PORT",
                value: PORT,
                default: "6070",
                help: "The port for operators: `/rlconfig`, the rules in force, and `/stats`, what \
                       they have counted.",
            },
            Setting {
                name: "MAX_CONNECTIONS",
                value: NUMBER,
                default: "10000",
                help: "How many connections each listener holds at once, at least 1. Further \
                       ones wait.",
            },
            Setting {
                name: "GRPC_SERVER_USE_TLS",
                value: Value::Switch,
                default: "false",
                help: "Whether gRPC is encrypted. So far only `false`, so that nobody who asks \
                       for encryption goes without it unawares.",
            },
            Setting {
                name: "GRPC_MAX_CONNECTION_AGE",
                value: DURATION,
                default: "24h",
                help: "After this time a gRPC connection takes no new calls, so that clients \
                       connect anew and spread over all instances. 0 means never.",
            },
            Setting {
                name: "GRPC_MAX_CONNECTION_AGE_GRACE",
                value: DURATION,
                default: "1h",
                help: "How long the calls on such a connection may still take before it is \
                       closed. 0 means for ever.",
            },
        ],
    },
    Group {
        heading: "Counters",
        settings: &[
            Setting {
                name: "BACKEND_TYPE",
                value: Value::Text("BACKEND"),
                default: "",
                help: "Where hits are counted: `memory` counts in this process alone, `redis` \
                       across all instances that use the same server. If not set, it is `redis` \
                       where REDIS_URL is set, and `memory` otherwise.",
            },
            Setting {
                name: "MEMORY_MAX_KEYS",
                value: NUMBER,
                default: "1000000",
                help: "About how many counters `memory` keeps, at least 256, and `local` of \
                       ON_ERROR, too. Beyond that those are dropped that are missed least.",
            },
            Setting {
                name: "REDIS_URL",
                value: Value::Secret("URL"),
                default: "",
                help: "The Redis server: `redis://[[user]:password@]host[:port][/database]`, \
                       `host:port`, `unix:///path/to/socket` or `/path/to/socket`.",
            },
            Setting {
                name: "REDIS_AUTH",
                value: Value::Secret("[USER:]PASSWORD"),
                default: "",
                help: "The password for Redis, in place of one in REDIS_URL. Prefer the \
                       variable: other users of the machine can see flags.",
            },
            Setting {
                name: "REDIS_TYPE",
                value: Value::Text("TYPE"),
                default: "single",
                help: "How Redis is deployed. So far only `single`.",
            },
            Setting {
                name: "REDIS_TLS",
                value: Value::Switch,
                default: "false",
                help: "Whether the connection is encrypted. So far only `false`.",
            },
            Setting {
                name: "REDIS_SOCKET_TYPE",
                value: Value::Text("TYPE"),
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
                name: "LOCAL_CACHE_SIZE_IN_BYTES",
                value: NUMBER,
                default: "0",
                help: "About how much memory to spend on what Redis has refused, so that it is \
                       not asked about that again until it may pass, or a second later. 0 means \
                       none: Redis is asked every time. 16777216 is room for 26,000 refusals.",
            },
            Setting {
                name: "ON_ERROR",
                value: Value::Text("POLICY"),
                default: "error",
                help: "What is decided while the counters cannot be reached, by limits whose rule \
                       has no `on_error`: `allow` lets pass, `deny` refuses, `local` counts in \
                       this process, and `error` decides nothing, so that the caller does \
                       (UNAVAILABLE, or 503).",
            },
            Setting {
                name: "STORE_DEADLINE",
                value: DURATION,
                default: "15ms",
                help: "How long a request waits for the counters before that is decided, and \
                       never longer than three quarters of a `grpc-timeout`; more than 0. Envoy \
                       waits 20 ms. Requests of which a limit says `error` wait REDIS_TIMEOUT.",
            },
            Setting {
                name: "LOCAL_SHARE",
                value: Value::Text("RATIO"),
                default: "1",
                help: "Which part of each limit an instance grants with `local`, to the nearest \
                       whole number and at least 1: more than 0, at most 1, such as `0.25` for \
                       four instances.",
            },
            Setting {
                name: "CACHE_KEY_PREFIX",
                value: Value::Text("TEXT"),
                default: "",
                help: "What the name of every counter begins with, to tell apart services that \
                       share a Redis server.",
            },
            Setting {
                name: "COUNTER_KEYS",
                value: Value::Text("FORMAT"),
                default: "unambiguous",
                help: "How counters are named: `unambiguous`, or `reference` for the very names \
                       that envoyproxy/ratelimit uses, to share one Redis server with it.",
            },
        ],
    },
    Group {
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
    },
    Group {
        heading: "Answers",
        settings: &[
            Setting {
                name: "LIMIT_RESPONSE_HEADERS_ENABLED",
                value: Value::Switch,
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
                value: Value::Text("WHEN"),
                default: "refused",
                help: "Which answers carry metadata, for Envoy's access log for example: \
                       `refused` for those that refuse, `always` (or `true`), `never` (or \
                       `false`).",
            },
        ],
    },
    Group {
        heading: "Logging",
        settings: &[
            Setting {
                name: "LOG_LEVEL",
                value: Value::Text("LEVEL"),
                default: "info",
                help: "The least that is logged: `error`, `warn`, `info`, `debug` or `trace`. \
                       `panic` and `fatal` mean `error`, `warning` means `warn`.",
            },
            Setting {
                name: "LOG_FORMAT",
                value: Value::Text("FORMAT"),
                default: "text",
                help: "`text`, or `json` for one object per line.",
            },
        ],
    },
    Group {
        heading: "Shutdown",
        settings: &[
            Setting {
                name: "DRAIN_DELAY",
                value: DURATION,
                default: "3s",
                help: "How long to go on serving after SIGTERM while the health checks already \
                       say no, so that clients turn elsewhere first.",
            },
            Setting {
                name: "DRAIN_TIMEOUT",
                value: DURATION,
                default: "20s",
                help: "How long the calls in flight may take after that.",
            },
        ],
    },
];
