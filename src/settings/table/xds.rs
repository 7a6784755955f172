use super::setting::{DURATION, FILE, Group, NUMBER, Setting, ValueKind};

pub(super) const XDS: Group = Group {
    heading: "Rules by xDS",
    settings: &[
        Setting {
            name: "CONFIG_TYPE",
            value: ValueKind::Text("TYPE"),
            default: "FILE",
            help: "Source of the rules: `FILE`, or `GRPC_XDS_SOTW` for a management server such as \
                   Envoy Gateway, through the aggregated discovery service (ADS). With xDS no rule \
                   files are read (`TOLLGATE_CONFIG` must not be set), every update applies at \
                   once, and the rules stay active while the connection is down.",
        },
        Setting {
            name: "CONFIG_GRPC_XDS_SERVER_URL",
            value: ValueKind::Text("HOST:PORT"),
            default: "localhost:18000",
            help: "Management server, as `host:port` or `dns:///host:port`. Set it to the \
                   address of your control plane.",
        },
        Setting {
            name: "CONFIG_GRPC_XDS_NODE_ID",
            value: ValueKind::Text("TEXT"),
            default: "default",
            help: "Node ID that this process reports to the management server. Set it if the \
                   server selects the rules by node ID.",
        },
        Setting {
            name: "CONFIG_GRPC_XDS_NODE_METADATA",
            value: ValueKind::Text("KEY=VALUE,…"),
            default: "",
            help: "Node metadata that this process reports to the management server: \
                   `key=value,key=value`. Set it if the management server selects rules by it.",
        },
        Setting {
            name: "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS",
            value: ValueKind::Secret("NAME:VALUE,…"),
            default: "",
            help: "Extra headers for the management server, for example with a token: \
                   `name:value,name:value`. Set it if the management server asks for them.",
        },
        Setting {
            name: "CONFIG_GRPC_XDS_SERVER_USE_TLS",
            value: ValueKind::Switch,
            default: "false",
            help: "Connect to the management server with TLS 1.2 or 1.3.",
        },
        Setting {
            name: "CONFIG_GRPC_XDS_CLIENT_TLS_CERT",
            value: FILE,
            default: "",
            help: "Client certificate (PEM) for the management server, if it requires one. \
                   Certificate, key and CA file are read again for each connection.",
        },
        Setting {
            name: "CONFIG_GRPC_XDS_CLIENT_TLS_KEY",
            value: FILE,
            default: "",
            help: "Private key (PEM) of `CONFIG_GRPC_XDS_CLIENT_TLS_CERT`.",
        },
        Setting {
            name: "CONFIG_GRPC_XDS_SERVER_TLS_CACERT",
            value: FILE,
            default: "",
            help: "CA certificates (PEM) to trust for the management server, in addition to those \
                   of the system. Set it for a private CA.",
        },
        Setting {
            name: "CONFIG_GRPC_XDS_SERVER_TLS_SAN",
            value: ValueKind::Text("HOST"),
            default: "",
            help: "Hostname that the certificate of the management server must contain. Set it if \
                   that is not the host in `CONFIG_GRPC_XDS_SERVER_URL`, which is the default.",
        },
        Setting {
            name: "XDS_CLIENT_BACKOFF_INITIAL_INTERVAL",
            value: DURATION,
            default: "10s",
            help: "Delay before reconnecting to the management server, above 0. Each failed \
                   attempt doubles it; it is reset when rules arrive. Before the first rules \
                   have arrived, it is at most one second. Lower it to recover sooner, raise it \
                   if many instances share one server.",
        },
        Setting {
            name: "XDS_CLIENT_BACKOFF_MAX_INTERVAL",
            value: DURATION,
            default: "60s",
            help: "Longest delay before reconnecting to the management server, at least \
                   `XDS_CLIENT_BACKOFF_INITIAL_INTERVAL`. Lower it if rules must arrive soon \
                   after a long outage of the server.",
        },
        Setting {
            name: "XDS_CLIENT_BACKOFF_JITTER",
            value: ValueKind::Switch,
            default: "true",
            help: "Shorten each delay by a random part, so that instances do not reconnect all \
                   at once. Keep it, except to reproduce timings.",
        },
        Setting {
            name: "XDS_CLIENT_BACKOFF_RANDOM_FACTOR",
            value: NUMBER,
            default: "0.5",
            help: "Largest fraction by which jitter shortens a delay, from 0 to 1. Raise it if \
                   many instances reconnect at the same moment.",
        },
        Setting {
            name: "XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES",
            value: NUMBER,
            default: "0",
            help: "Largest response of the management server, in bytes. A response contains all \
                   rules. 0 means 4 MiB. Raise it if the log reports that a response is too large.",
        },
    ],
};
