use super::setting::{DURATION, FILE, Group, NUMBER, Setting, ValueKind};

pub(super) const XDS: Group = Group {
    heading: "Rules by xDS",
    settings: &[
        Setting {
            name: "CONFIG_TYPE",
            value: ValueKind::Text("TYPE"),
            default: "FILE",
            help: "Where rules come from: `FILE`, or `GRPC_XDS_SOTW` for a management server, such \
                   as Envoy Gateway, that is asked by the aggregated discovery service. Then no \
                   files are read, every change takes effect as it comes, and the rules stay in \
                   force while there is no connection.",
        },
        Setting {
            name: "CONFIG_GRPC_XDS_SERVER_URL",
            value: ValueKind::Text("HOST:PORT"),
            default: "localhost:18000",
            help: "The management server; `dns:///host:port` is the same.",
        },
        Setting {
            name: "CONFIG_GRPC_XDS_NODE_ID",
            value: ValueKind::Text("TEXT"),
            default: "default",
            help: "The name by which the server knows this process.",
        },
        Setting {
            name: "CONFIG_GRPC_XDS_NODE_METADATA",
            value: ValueKind::Text("KEY=VALUE,…"),
            default: "",
            help: "What else the server is told of this process.",
        },
        Setting {
            name: "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS",
            value: ValueKind::Secret("NAME:VALUE,…"),
            default: "",
            help: "Headers that are sent to the server.",
        },
        Setting {
            name: "CONFIG_GRPC_XDS_SERVER_USE_TLS",
            value: ValueKind::Switch,
            default: "false",
            help: "Whether the connection is encrypted, by TLS 1.2 or 1.3.",
        },
        Setting {
            name: "CONFIG_GRPC_XDS_CLIENT_TLS_CERT",
            value: FILE,
            default: "",
            help: "The certificate to show to the server, in PEM. Like the other two files it is \
                   read anew for each connection.",
        },
        Setting {
            name: "CONFIG_GRPC_XDS_CLIENT_TLS_KEY",
            value: FILE,
            default: "",
            help: "The key of that certificate, in PEM.",
        },
        Setting {
            name: "CONFIG_GRPC_XDS_SERVER_TLS_CACERT",
            value: FILE,
            default: "",
            help: "Authorities that may vouch for the server besides those of the system, in PEM.",
        },
        Setting {
            name: "CONFIG_GRPC_XDS_SERVER_TLS_SAN",
            value: ValueKind::Text("HOST"),
            default: "",
            help: "The name that the server's certificate must have; if not set, the host of the \
                   URL.",
        },
        Setting {
            name: "XDS_CLIENT_BACKOFF_INITIAL_INTERVAL",
            value: DURATION,
            default: "10s",
            help: "How long to wait before connecting again; each further attempt waits twice as \
                   long, until rules come. Before any have come, the first wait is no longer than \
                   a second. More than 0.",
        },
        Setting {
            name: "XDS_CLIENT_BACKOFF_MAX_INTERVAL",
            value: DURATION,
            default: "60s",
            help: "The longest wait.",
        },
        Setting {
            name: "XDS_CLIENT_BACKOFF_JITTER",
            value: ValueKind::Switch,
            default: "true",
            help: "Whether waits are shortened at random, so that not all processes come back at \
                   once.",
        },
        Setting {
            name: "XDS_CLIENT_BACKOFF_RANDOM_FACTOR",
            value: NUMBER,
            default: "0.5",
            help: "By which part at most, from 0 to 1.",
        },
        Setting {
            name: "XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES",
            value: NUMBER,
            default: "0",
            help: "How long a response may be, with all rules in it; 0 for 4 MiB.",
        },
    ],
};
