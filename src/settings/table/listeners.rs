use super::setting::{DURATION, Group, HOST, NUMBER, PATH, PORT, Setting};

pub(super) const LISTENERS: Group = Group {
    heading: "Listeners",
    settings: &[
        Setting {
            name: "GRPC_HOST",
            value: HOST,
            default: "0.0.0.0",
            help: "Address to listen on for gRPC: a hostname, an IPv4 address or an IPv6 address \
                   (`::` for all addresses).",
        },
        Setting {
            name: "GRPC_PORT",
            value: PORT,
            default: "8081",
            help: "Port for gRPC; Envoy connects to it. 0 selects a free port, here and for the \
                   other ports.",
        },
        Setting {
            name: "GRPC_UDS",
            value: PATH,
            default: "",
            help: "Path of a Unix socket for gRPC, which replaces the port. Set it if the proxy \
                   runs in the same pod or on the same host. The socket of an earlier process is \
                   replaced. gRPC clients in C++, Python and Java must set the authority to \
                   `localhost`.",
        },
        Setting {
            name: "HOST",
            value: HOST,
            default: "0.0.0.0",
            help: "Address to listen on for HTTP. There is no authentication: any client that \
                   reaches it can read the rules and use up limits.",
        },
        Setting {
            name: "PORT",
            value: PORT,
            default: "8080",
            help: "Port for HTTP: `/json`, `/healthcheck`, `/ready`, `/metrics` (Prometheus) and \
                   `/rlconfig` (active rules).",
        },
        Setting {
            name: "DEBUG_HOST",
            value: HOST,
            default: "0.0.0.0",
            help: "Address to listen on for operators. There is no authentication: any client that \
                   reaches it can read the rules.",
        },
        Setting {
            name: "DEBUG_PORT",
            value: PORT,
            default: "6070",
            help: "Port for operators: `/rlconfig` (active rules) and `/stats` (statistics).",
        },
        Setting {
            name: "MAX_CONNECTIONS",
            value: NUMBER,
            default: "10000",
            help: "Most open connections of each listener, at least 1. Further connections wait in \
                   the queue of the system. Raise it if more proxies connect, together with the \
                   limit of open files.",
        },
        Setting {
            name: "GRPC_MAX_CONNECTION_AGE",
            value: DURATION,
            default: "24h",
            help: "Age, 10 % more or less at random, at which a gRPC connection stops accepting \
                   calls, so that the client reconnects. 0 means never. Shorten it if new \
                   instances get no load because clients keep their connections.",
        },
        Setting {
            name: "GRPC_MAX_CONNECTION_AGE_GRACE",
            value: DURATION,
            default: "1h",
            help: "Time that running calls have after `GRPC_MAX_CONNECTION_AGE`, before the \
                   connection is closed. 0 means no bound.",
        },
    ],
};
