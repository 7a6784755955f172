use super::setting::{FILE, Group, HOST, PATH, PORT, Setting, ValueKind};

pub(super) const ADMIN: Group = Group {
    heading: "Admin API",
    settings: &[
        Setting {
            name: "ADMIN_HOST",
            value: HOST,
            default: "127.0.0.1",
            help: "Address to listen on for the admin API, see docs/admin.md. Any other than a loopback \
                   address needs `ADMIN_TOKENS_FILE`. There is no TLS: set it only in a network \
                   that you trust, or behind a proxy with TLS.",
        },
        Setting {
            name: "ADMIN_PORT",
            value: PORT,
            default: "8082",
            help: "Port for the admin API. It opens only if somebody can have a token: with \
                   `ADMIN_TOKENS_FILE`, with `ADMIN_TOKEN_FILE`, or if standard output is a \
                   terminal, which then shows a token. Change it if another process uses the port.",
        },
        Setting {
            name: "ADMIN_TOKENS_FILE",
            value: FILE,
            default: "",
            help: "File with the tokens of the admin API, one a line: a name, `read` or `write`, and \
                   a token of 20 to 512 characters, or `sha256:` and its SHA-256 in hexadecimal. When \
                   it changes, the new tokens are in force within about two seconds; a file with a \
                   mistake changes nothing and is logged. Set it to give several people or \
                   programs access, or to open the API beyond this host.",
        },
        Setting {
            name: "ADMIN_TOKEN_FILE",
            value: PATH,
            default: "",
            help: "File to which a token of the admin API is written at each start, with the mode \
                   0600; it may do everything. Set it to let programs of the same user on this \
                   host use the API. Has no effect with `ADMIN_TOKENS_FILE`.",
        },
        Setting {
            name: "ADMIN_NAMES",
            value: ValueKind::Text("NAMES"),
            default: "",
            help: "Host names by which clients may call the admin API, separated by commas. \
                   Addresses, `localhost` and `ADMIN_HOST` are always allowed; others get status \
                   421, so that no web page can reach the API through a name of its own. Set it if \
                   a Service or a proxy gives the API another name.",
        },
    ],
};
