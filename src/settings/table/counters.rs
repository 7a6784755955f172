use super::setting::{DURATION, Group, NUMBER, Setting, ValueKind};

pub(super) const COUNTERS: Group = Group {
    heading: "Counters",
    settings: &[
        Setting {
            name: "BACKEND_TYPE",
            value: ValueKind::Text("BACKEND"),
            default: "",
            help: "Storage of the counters: `memory` (each instance counts by itself) or `redis` \
                   (all instances share the counters). Without it, `redis` if `REDIS_URL` is set, \
                   else `memory`.",
        },
        Setting {
            name: "MEMORY_MAX_BYTES",
            value: NUMBER,
            default: "134217728",
            help: "Most memory for counters, in bytes, at least 1048576; it applies to `memory` \
                   and to the policy `local` of `ON_ERROR`. The process needs about 60 MB besides. \
                   A counter takes 100 bytes; one of `sliding_log` or `concurrency` takes 180 \
                   bytes, and 16 for each call in its list. If only `MEMORY_MAX_KEYS` is set, the \
                   bound is 100 bytes for each key, if that is more. When the memory is full, \
                   counters below their limit are dropped and start again from zero, first in the \
                   domain with the most memory. Counters over their limit and penalties are \
                   dropped only if their domain uses more than its share (the memory divided by \
                   the number of domains with counters) and another domain needs its share; \
                   counters that refuse from their first hit may take seven eighths of the memory. \
                   A hit that finds no room is decided, but not counted. Raise it, together with \
                   the memory limit of the container, if the log reports dropped counters or \
                   `tollgate_memory_evicted_total` or `tollgate_memory_not_kept_total` grows.",
        },
        Setting {
            name: "MEMORY_MAX_KEYS",
            value: NUMBER,
            default: "",
            help: "Most counters in memory, from 256 to 4294967295, if `MEMORY_MAX_BYTES` is \
                   not reached first. Without it, `MEMORY_MAX_BYTES` is the only bound. Set it \
                   if the number of counters matters more than their bytes.",
        },
        Setting {
            name: "LOCAL_CACHE_SIZE_IN_BYTES",
            value: NUMBER,
            default: "0",
            help: "Memory for a cache of refusals, in bytes. Once Redis has refused a request, the \
                   cache refuses further ones until the limit allows hits again, for at most one \
                   second, without a command to Redis. 0 turns it off; values below 524288 count \
                   as 524288; 16777216 holds 26,000 refusals. Set it if you expect floods of \
                   requests over their limit.",
        },
        Setting {
            name: "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT",
            value: ValueKind::Switch,
            default: "false",
            help: "Charge a refused request only to the limits that it exceeds, and to no other \
                   limit. Set it if refused requests should not use up the remaining limits.",
        },
        Setting {
            name: "ON_ERROR",
            value: ValueKind::Text("POLICY"),
            default: "error",
            help: "Policy while the counters cannot be reached, for limits without `on_error`: \
                   `allow` lets requests pass, `deny` refuses them, `local` counts in this \
                   process, `error` fails the call (UNAVAILABLE or 503), so that the caller \
                   decides.",
        },
        Setting {
            name: "STORE_DEADLINE",
            value: DURATION,
            default: "15ms",
            help: "Time after which a request is answered by `ON_ERROR` or `on_error`, above 0; a \
                   shorter `grpc-timeout` of the caller applies instead. The counters may take \
                   three quarters of it, the rest is for sending the answer. Keep it below the \
                   timeout of your proxy (20 ms by default in Envoy). Requests under the policy \
                   `error` wait for `REDIS_TIMEOUT`, or for their `grpc-timeout`.",
        },
        Setting {
            name: "LOCAL_SHARE",
            value: ValueKind::Text("RATIO"),
            default: "1",
            help: "Fraction of each limit that one instance allows under the policy `local`: above \
                   0, at most 1. The result is rounded to a whole number, at least 1. Set it to 1 \
                   divided by the number of instances, such as `0.25` for four.",
        },
        Setting {
            name: "CACHE_KEY_PREFIX",
            value: ValueKind::Text("TEXT"),
            default: "",
            help: "Prefix for the names of all counters. Set it if other services use the same \
                   Redis.",
        },
        Setting {
            name: "COUNTER_KEYS",
            value: ValueKind::Text("FORMAT"),
            default: "unambiguous",
            help: "Format of the counters' names in Redis: `unambiguous`, or `reference` for the \
                   names of envoyproxy/ratelimit. Set `reference` while both services share one \
                   Redis.",
        },
    ],
};
