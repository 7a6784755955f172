use super::setting::{DURATION, Group, HOST, NUMBER, PATH, PORT, Setting, ValueKind};

pub(super) const LISTENERS: Group = Group {
    heading: "Listeners",
    settings: &[
        Setting {
            name: "GRPC_HOST",
            value: HOST,
            default: "0.0.0.0",
            help: "Address to listen on for gRPC: a hostname, an IPv4 address or an IPv6 \
                   address (`::` for all addresses). Set it to 127.0.0.1 if the proxy is on the \
                   same host or in the same pod.",
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
            help: "Port for HTTP: `/json`, `/check`, `/healthcheck`, `/ready`, `/metrics` \
                   (Prometheus) and `/rlconfig` (active rules).",
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
            help: "Port for operators: `/rlconfig` (active rules) and `/stats` (statistics). \
                   Change it if another process uses the port.",
        },
        Setting {
            name: "PROBE_ADDR",
            value: ValueKind::Text("ADDRESS"),
            default: "",
            help: "Address of a separate port for health checks, `host:port`, or `:port` for all \
                   addresses. It serves `/healthcheck` and `/ready` alone, always without TLS; \
                   `PORT` serves them, too. Set it if `HTTP_SERVER_USE_TLS` is true and the prober \
                   has no TLS or no certificate, or if a prober must not reach decisions.",
        },
        Setting {
            name: "MAX_CONNECTIONS",
            value: NUMBER,
            default: "10000",
            help: "Most open connections of each listener, at least 1; unfinished handshakes are \
                   bounded apart, by a fourth of it. A further connection replaces one of the \
                   address with the most connections, if no call on that was answered for 2 s, \
                   or is closed itself. Raise it if the log reports that few places are left, together \
                   with the hard limit of open files (`ulimit -Hn`), as each listener may use that \
                   many, and with the memory of the container, 200 KiB for each. Lower it if the \
                   container has less than 2.2 GiB.",
        },
        Setting {
            name: "MAX_CONNECTIONS_PER_PEER",
            value: NUMBER,
            default: "",
            help: "Most open connections from one address (of IPv6, from one /64 network) to each \
                   listener. 0 means no bound. Default: 1000, or half of `MAX_CONNECTIONS` if that \
                   is less. Unix sockets have no such bound. Raise it if more clients share one \
                   address, as behind NAT, or if the log reports it for a proxy; lower it if you do \
                   not trust clients.",
        },
        Setting {
            name: "MAX_BYTES_IN_FLIGHT",
            value: NUMBER,
            default: "33554432",
            help: "Most memory for calls in flight, in bytes, at least 1048576: of gRPC and \
                   `/json`, over all connections. A call counts as 8192 and the bytes of its \
                   headers, its message, encoded and decoded, and its answer. Beyond the bound, \
                   connections of the address with the most unfinished messages and unread answers are closed, or \
                   calls are answered with RESOURCE_EXHAUSTED or 503, and \
                   `tollgate_calls_cut_off_total` grows. Raise it, together with the memory limit \
                   of the container, if that happens without an attack.",
        },
        Setting {
            name: "JSON_MAX_BYTES",
            value: NUMBER,
            default: "1048576",
            help: "Longest body of a request to `/json`, in bytes; a longer one gets a 413. Raise \
                   it if requests with many descriptors are refused.",
        },
        Setting {
            name: "GRPC_MAX_STREAMS",
            value: NUMBER,
            default: "256",
            help: "Most calls in flight on one gRPC connection, at least 1. Clients queue further \
                   calls or open another connection. Raise it if a client waits for room on its \
                   only connection.",
        },
        Setting {
            name: "GRPC_STREAM_WINDOW_BYTES",
            value: NUMBER,
            default: "65536",
            help: "Most bytes of one gRPC call that a client sends before they are read, from 16384 \
                   to `GRPC_CONNECTION_WINDOW_BYTES`. A longer message takes one more round trip \
                   for each further window. Raise it if clients far away send requests of more \
                   than 64 KiB.",
        },
        Setting {
            name: "GRPC_CONNECTION_WINDOW_BYTES",
            value: NUMBER,
            default: "1048576",
            help: "Most bytes of all calls on one gRPC connection that a client sends before they \
                   are read, from 65536 to `MAX_BYTES_IN_FLIGHT`, and at most 2147483647. Raise it \
                   if one connection over a long way carries more than 1 MiB in each round trip; \
                   lower it to bound more tightly the bytes that one client can send at once.",
        },
        Setting {
            name: "GRPC_MAX_HEADER_BYTES",
            value: NUMBER,
            default: "16384",
            help: "Most bytes of the headers of one gRPC call, each counted with 32 more, from \
                   4096 to 262144. Clients learn it when they connect; a call with more gets \
                   status 431 of HTTP and is not counted. Raise it if clients send large tokens or \
                   baggage with each call.",
        },
        Setting {
            name: "GRPC_TRANSFER_TIMEOUT",
            value: DURATION,
            default: "10s",
            help: "Time for a message to arrive once a gRPC call has begun, and for the client to \
                   take its answer, above 0. Later calls end with DEADLINE_EXCEEDED or are reset. \
                   Raise it for clients with slow links.",
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
                   connection is closed. 0 means no bound. Lower it if old connections must end \
                   soon, but keep it above the longest call.",
        },
    ],
};
