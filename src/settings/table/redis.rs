use super::{DURATION, Group, Setting, Value};

pub(super) const REDIS: Group = Group {
    heading: "Redis",
    settings: &[
        Setting {
            name: "REDIS_URL",
            value: Value::Secret("URL"),
            default: "",
            help: "The Redis server: `redis://[[user]:password@]host[:port][/database]`, \
                   `host:port`, `unix:///path/to/socket` or `/path/to/socket`.",
        },
        Setting {
            name: "REDIS_AUTH",
            value: Value::Secret("[USER:]PASSWORD"),
            default: "",
            help: "The password for Redis, in place of one in REDIS_URL. Prefer the \
                   variable: other users of the machine can see flags.",
        },
        Setting {
            name: "REDIS_TYPE",
            value: Value::Text("TYPE"),
            default: "single",
            help: "How Redis is deployed. So far only `single`.",
        },
        Setting {
            name: "REDIS_TLS",
            value: Value::Switch,
            default: "false",
            help: "Whether the connection is encrypted. So far only `false`.",
        },
        Setting {
            name: "REDIS_SOCKET_TYPE",
            value: Value::Text("TYPE"),
            default: "",
            help: "`tcp` or `unix`. REDIS_URL says it already; if this is set, the two have \
                   to agree.",
        },
        Setting {
            name: "REDIS_TIMEOUT",
            value: DURATION,
            default: "500ms",
            help: "How long to wait for a connection to Redis, and for the answer to each \
                   command. More than 0.",
        },
    ],
};
