use super::setting::{Group, Setting, ValueKind};

pub(super) const LOGGING: Group = Group {
    heading: "Logging",
    settings: &[
        Setting {
            name: "LOG_LEVEL",
            value: ValueKind::Text("LEVEL"),
            default: "info",
            help: "Least severe messages to log: `error`, `warn`, `info`, `debug` or `trace`. Also \
                   accepted: `panic` and `fatal` for `error`, `warning` for `warn`. At `debug` \
                   there is a line for each descriptor of each request, with its entries, its \
                   rule or the reason why none applies, and the result. Set it for a short time \
                   if a limit seems to do nothing.",
        },
        Setting {
            name: "LOG_FORMAT",
            value: ValueKind::Text("FORMAT"),
            default: "text",
            help: "`text`, or `json` for one object per line, with the keys of \
                   envoyproxy/ratelimit. Set `json` if a log collector reads the lines.",
        },
        Setting {
            name: "DECISION_LOG",
            value: ValueKind::Text("PLACE"),
            default: "",
            help: "Write a JSON line for each descriptor that is over its limit: `stdout`, or the \
                   path of a file. Set it to find out afterwards which clients were refused, and \
                   by which rule. The lines contain the values of descriptors, such as names of \
                   users. The file is opened for each write, so it can be rotated in any way.",
        },
        Setting {
            name: "DECISION_LOG_PASSED_SHARE",
            value: ValueKind::Text("FRACTION"),
            default: "0",
            help: "Share of all requests that are written to `DECISION_LOG` with all their \
                   descriptors, also if they pass, from 0 to 1. Set it to 1 to log every decision, \
                   or to 0.01 for a sample.",
        },
        Setting {
            name: "DECISION_LOG_MAX_LINES",
            value: ValueKind::Text("NUMBER"),
            default: "100",
            help: "Most lines per second in `DECISION_LOG`, from 1 to 100000. Further ones are \
                   left out; `tollgate_decision_log_lost_total` counts them, and the log tells \
                   their number once a minute. Raise it if lines are missing and the disk has \
                   room: a line has about 500 bytes.",
        },
    ],
};
