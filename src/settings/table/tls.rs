use super::setting::{FILE, Group, Setting, ValueKind};

pub(super) const TLS: Group = Group {
    heading: "Encryption of gRPC",
    settings: &[
        Setting {
            name: "GRPC_SERVER_USE_TLS",
            value: ValueKind::Switch,
            default: "false",
            help: "Whether gRPC is encrypted, by TLS 1.2 or 1.3, on a port or a unix socket. The \
                   other ports never are.",
        },
        Setting {
            name: "GRPC_SERVER_TLS_CERT",
            value: FILE,
            default: "",
            help: "The certificate to show to clients, in PEM, and behind it those that lead to \
                   its authority. When this file or one of the next two changes, new connections \
                   take the new ones within about two seconds, and those that are open go on.",
        },
        Setting {
            name: "GRPC_SERVER_TLS_KEY",
            value: FILE,
            default: "",
            help: "The key of that certificate, in PEM.",
        },
        Setting {
            name: "GRPC_CLIENT_TLS_CACERT",
            value: FILE,
            default: "",
            help: "Authorities, in PEM. If set, only clients with a certificate that one of them \
                   has signed may connect.",
        },
        Setting {
            name: "GRPC_CLIENT_TLS_SAN",
            value: ValueKind::Text("NAME"),
            default: "",
            help: "A name that the certificate of a client must have, too, among its subject \
                   alternative names.",
        },
    ],
};
