use super::setting::{FILE, Group, Setting, ValueKind};

pub(super) const TLS: Group = Group {
    heading: "Encryption of gRPC",
    settings: &[
        Setting {
            name: "GRPC_SERVER_USE_TLS",
            value: ValueKind::Switch,
            default: "false",
            help: "Serve gRPC with TLS 1.2 or 1.3, on a port or a Unix socket. Needs \
                   `GRPC_SERVER_TLS_CERT` and `GRPC_SERVER_TLS_KEY`. The HTTP ports never use TLS.",
        },
        Setting {
            name: "GRPC_SERVER_TLS_CERT",
            value: FILE,
            default: "",
            help: "Server certificate (PEM), followed by its intermediate certificates. When this \
                   file, the key or the client CA file changes, new connections use the new files \
                   within about two seconds; open connections continue.",
        },
        Setting {
            name: "GRPC_SERVER_TLS_KEY",
            value: FILE,
            default: "",
            help: "Private key (PEM) of `GRPC_SERVER_TLS_CERT`.",
        },
        Setting {
            name: "GRPC_CLIENT_TLS_CACERT",
            value: FILE,
            default: "",
            help: "Require client certificates, signed by one of these CA certificates (PEM) or \
                   contained in the file. Set it to accept only your own proxies.",
        },
        Setting {
            name: "GRPC_CLIENT_TLS_SAN",
            value: ValueKind::Text("NAME"),
            default: "",
            help: "Subject alternative name that client certificates must contain. Needs \
                   `GRPC_CLIENT_TLS_CACERT`. Set it if that CA also signs certificates of other \
                   clients.",
        },
    ],
};
