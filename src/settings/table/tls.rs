use super::setting::{FILE, Group, Setting, ValueKind};

pub(super) const TLS: Group = Group {
    heading: "Encryption of gRPC",
    settings: &[
        Setting {
            name: "GRPC_SERVER_USE_TLS",
            value: ValueKind::Switch,
            default: "false",
            help: "Serve gRPC with TLS 1.2 or 1.3, on a port or a Unix socket. Needs \
                   `GRPC_SERVER_TLS_CERT` and `GRPC_SERVER_TLS_KEY`. Set it if proxies connect \
                   across a network that you do not trust.",
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

pub(super) const HTTP_TLS: Group = Group {
    heading: "Encryption of HTTP",
    settings: &[
        Setting {
            name: "HTTP_SERVER_USE_TLS",
            value: ValueKind::Switch,
            default: "false",
            help: "Serve `PORT`, with all its paths, with TLS 1.2 or 1.3 alone. Needs \
                   `HTTP_SERVER_TLS_CERT` and `HTTP_SERVER_TLS_KEY`. The other HTTP ports stay \
                   without TLS. Set it if clients of `/json` connect across a network that you do \
                   not trust; probes and Prometheus then need https, or `PROBE_ADDR` and \
                   `USE_PROMETHEUS`.",
        },
        Setting {
            name: "HTTP_SERVER_TLS_CERT",
            value: FILE,
            default: "",
            help: "Server certificate (PEM), followed by its intermediate certificates. It may be \
                   the file of `GRPC_SERVER_TLS_CERT`. When this file, the key or the client CA \
                   file changes, new connections use the new files within about two seconds; open \
                   connections continue.",
        },
        Setting {
            name: "HTTP_SERVER_TLS_KEY",
            value: FILE,
            default: "",
            help: "Private key (PEM) of `HTTP_SERVER_TLS_CERT`.",
        },
        Setting {
            name: "HTTP_CLIENT_TLS_CACERT",
            value: FILE,
            default: "",
            help: "Require client certificates at `PORT`, signed by one of these CA certificates \
                   (PEM) or contained in the file. Set it to accept only your own clients. The \
                   kubelet has no such certificate: let it probe `PROBE_ADDR`.",
        },
        Setting {
            name: "HTTP_CLIENT_TLS_SAN",
            value: ValueKind::Text("NAME"),
            default: "",
            help: "Subject alternative name that client certificates must contain. Needs \
                   `HTTP_CLIENT_TLS_CACERT`. Set it if that CA also signs certificates of other \
                   clients.",
        },
    ],
};
