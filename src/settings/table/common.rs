/// A setting that most installations change.
#[derive(Debug)]
pub struct Common {
    /// The name of the environment variable.
    pub name: &'static str,
    /// Advice for production, in whole sentences.
    pub advice: &'static str,
}

/// The settings that most installations change. The documentation and `--help`
/// start with them.
pub const COMMON: &[Common] = &[
    Common {
        name: "TOLLGATE_CONFIG",
        advice: "Set it to the directory of rule files, such as the mount of a ConfigMap. Without it, \
                 the rules are in `config/`.",
    },
    Common {
        name: "REDIS_URL",
        advice: "Set it as soon as there is more than one instance. Without it, each instance counts \
                 in its own memory, and N instances together allow N times each limit.",
    },
    Common { name: "REDIS_TYPE", advice: "Set it if Redis runs with Sentinel or as a cluster." },
    Common {
        name: "REDIS_AUTH",
        advice: "Set the variable from a Secret. Other users of the machine can see flags.",
    },
    Common {
        name: "ON_ERROR",
        advice: "Use `allow` to stay available, `deny` for limits that must hold (logins, \
                 spending), `local` for a middle way. `on_error` sets it for a single rule.",
    },
    Common {
        name: "STORE_DEADLINE",
        advice: "Keep it a few milliseconds below the timeout of your proxy. Envoy's default is \
                 20 ms.",
    },
    Common { name: "GRPC_PORT", advice: "Change it only if the port is taken." },
    Common {
        name: "PORT",
        advice: "Change it only if the port is taken. Keep it inside your network: there is no \
                 authentication.",
    },
    Common {
        name: "DEBUG_HOST",
        advice: "Set it to `127.0.0.1`, unless `/stats` is read from another machine.",
    },
    Common {
        name: "GRPC_SERVER_USE_TLS",
        advice: "Set it if connections from the proxy cross a network that you do not trust.",
    },
    Common {
        name: "LOG_LEVEL",
        advice: "Set it to `debug` for a short time if a limit seems to do nothing: each descriptor \
                 is logged with its rule, or the reason why none applies.",
    },
    Common { name: "LOG_FORMAT", advice: "Set it to `json` if the log is collected." },
    Common {
        name: "STATSD_HOST",
        advice: "Set it if you collect statistics with StatsD. Prometheus needs no setting: it \
                 can scrape `/metrics` on `PORT`.",
    },
];
