use super::setting::{DURATION, Group, HOST, NUMBER, PATH, PORT, Setting};

pub(super) const LISTENERS: Group = Group {
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
            name: "GRPC_UDS",
            value: PATH,
            default: "",
            help: "The path of a unix socket that takes the place of that port. One that a process \
                   has left behind is replaced. Clients that send the path as `:authority`, such \
                   as those of gRPC in C++, Python and Java, have to be told to send `localhost`.",
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
            name: "GRPC_MAX_CONNECTION_AGE",
            value: DURATION,
            default: "24h",
            help: "After this time, a tenth more or less by chance, a gRPC connection takes no \
                   new calls, so that clients connect anew and spread over all instances. 0 means \
                   never.",
        },
        Setting {
            name: "GRPC_MAX_CONNECTION_AGE_GRACE",
            value: DURATION,
            default: "1h",
            help: "How long the calls on such a connection may still take before it is \
                   closed. 0 means for ever.",
        },
    ],
};
