use super::setting::{DURATION, Group, NUMBER, Setting, ValueKind};

pub(super) const COUNTERS: Group = Group {
    heading: "Counters",
    settings: &[
        Setting {
            name: "BACKEND_TYPE",
            value: ValueKind::Text("BACKEND"),
            default: "",
            help: "Where hits are counted: `memory` counts in this process alone, `redis` \
                   across all instances that use the same server. If not set, it is `redis` \
                   where REDIS_URL is set, and `memory` otherwise.",
        },
        Setting {
            name: "MEMORY_MAX_BYTES",
            value: NUMBER,
            default: "134217728",
            help: "How much memory the counters of `memory`, or of `local` of ON_ERROR, may \
                   take, in bytes, at least 1048576; the process needs about 60 MB more. A \
                   counter takes 100 bytes, `sliding_log` and `concurrency` 180 and 16 for \
                   each call that they remember. If only MEMORY_MAX_KEYS is set, it is 100 for \
                   each of those where that is more. Where it is full, counters that refuse \
                   nobody begin anew, first those of the domain that takes most. Counters that \
                   refuse, and bans, only do where their domain takes more than its share (the \
                   room divided by the domains that have counters) and another needs its own; \
                   those that refuse from their first hit may take seven eighths of the room. \
                   What still finds no room is decided and not counted. Raise it when the log \
                   says so, or tollgate_memory_evicted or tollgate_memory_not_kept grows.",
        },
        Setting {
            name: "MEMORY_MAX_KEYS",
            value: NUMBER,
            default: "",
            help: "How many counters those may be, from 256 to 4294967295, where that is \
                   reached before MEMORY_MAX_BYTES. If it is not set, MEMORY_MAX_BYTES alone bounds \
                   them.",
        },
        Setting {
            name: "LOCAL_CACHE_SIZE_IN_BYTES",
            value: NUMBER,
            default: "0",
            help: "About how much memory to spend on what Redis has refused, so that it is \
                   not asked about that again until it may pass, or a second later. 0 means \
                   none: Redis is asked every time. 16777216 is room for 26,000 refusals; \
                   less than 524288 counts as that.",
        },
        Setting {
            name: "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT",
            value: ValueKind::Switch,
            default: "false",
            help: "Whether a request that a limit refuses counts only at the limits that it \
                   exceeds, and nowhere else.",
        },
        Setting {
            name: "ON_ERROR",
            value: ValueKind::Text("POLICY"),
            default: "error",
            help: "What is decided while the counters cannot be reached, by limits whose rule \
                   has no `on_error`: `allow` lets pass, `deny` refuses, `local` counts in \
                   this process, and `error` decides nothing, so that the caller does \
                   (UNAVAILABLE, or 503).",
        },
        Setting {
            name: "STORE_DEADLINE",
            value: DURATION,
            default: "15ms",
            help: "Within what time callers are told what that decides, or within their \
                   `grpc-timeout` if that is shorter. The counters have three quarters of it; \
                   the rest is for the way of the answer. More than 0. Envoy waits 20 ms. \
                   Requests of which a limit says `error` wait REDIS_TIMEOUT, or as long as \
                   their `grpc-timeout` lets them.",
        },
        Setting {
            name: "LOCAL_SHARE",
            value: ValueKind::Text("RATIO"),
            default: "1",
            help: "Which part of each limit an instance grants with `local`, to the nearest \
                   whole number and at least 1: more than 0, at most 1, such as `0.25` for \
                   four instances.",
        },
        Setting {
            name: "CACHE_KEY_PREFIX",
            value: ValueKind::Text("TEXT"),
            default: "",
            help: "What the name of every counter begins with, to tell apart services that \
                   share a Redis server.",
        },
        Setting {
            name: "COUNTER_KEYS",
            value: ValueKind::Text("FORMAT"),
            default: "unambiguous",
            help: "How counters are named: `unambiguous`, or `reference` for the very names \
                   that envoyproxy/ratelimit uses, to share one Redis server with it.",
        },
    ],
};
