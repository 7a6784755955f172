//! The keys of rule files: one table behind the checks, the hints and the
//! tables of `docs/rules.md`.

use std::fmt;

mod http;

use self::http::HTTP_KEYS;

/// A kind of map in a rule file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyContext {
    /// The map at the top of a file.
    File,
    /// An element of `descriptors`.
    Descriptor,
    /// The `rate_limit` of a descriptor, or an element of its `rate_limits`.
    RateLimit,
    /// The `calendar` of a limit.
    Calendar,
    /// The `accuracy` of a limit.
    Accuracy,
    /// An element of `replaces`.
    Replaces,
    /// The `http` of a file.
    Http,
    /// An element of the `skip` of `http`.
    Skip,
    /// An entry of a descriptor of `http`.
    HttpEntry,
    /// The `remote_address` of such an entry.
    AddressMask,
}

impl KeyContext {
    fn is_in_http(self) -> bool {
        matches!(self, Self::Http | Self::Skip | Self::HttpEntry | Self::AddressMask)
    }
}

impl fmt::Display for KeyContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "at the top of the file",
            Self::Descriptor => "on a descriptor, beside `key`",
            Self::RateLimit => "in `rate_limit` or an element of `rate_limits`",
            Self::Calendar => "in `calendar`",
            Self::Accuracy => "in `accuracy`",
            Self::Replaces => "in an element of `replaces`",
            Self::Http => "in `http`",
            Self::Skip => "in an element of `skip`",
            Self::HttpEntry => "in an entry of the `descriptors` of `http`",
            Self::AddressMask => "in `remote_address`",
        })
    }
}

/// A key of a rule file, in one of the contexts where it is allowed.
#[derive(Clone, Copy, Debug)]
pub struct RuleKey {
    /// The key as it is written; unique within its context.
    pub name: &'static str,
    /// The kind of map that may contain the key.
    pub context: KeyContext,
    /// The allowed values, as a phrase that follows "expected".
    pub expects: &'static str,
    /// The meaning and default of the key, for `docs/rules.md`.
    pub help: &'static str,
}

const TEXT: &str = "a string";
const FLAG: &str = "`true` or `false`";
const DESCRIPTOR_LIST: &str = "a list of descriptors, each with a `key`";

/// All keys, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static RuleKey> {
    KEYS.iter().chain(&HTTP_KEYS)
}

/// The keys outside `http`.
const KEYS: [RuleKey; 35] = [
    RuleKey {
        name: "domain",
        context: KeyContext::File,
        expects: TEXT,
        help: "The name by which clients select this set of rules. Required.",
    },
    RuleKey {
        name: "descriptors",
        context: KeyContext::File,
        expects: DESCRIPTOR_LIST,
        help: "The rules for the first entry of a descriptor.",
    },
    RuleKey {
        name: "http",
        context: KeyContext::File,
        expects: "a map with `descriptors`",
        help: "The descriptors of HTTP requests, for proxies that ask with the request itself: see \
               [HTTP requests](#http-requests).",
    },
    RuleKey {
        name: "key",
        context: KeyContext::Descriptor,
        expects: TEXT,
        help: "The key of the entry. Required.",
    },
    RuleKey {
        name: "value",
        context: KeyContext::Descriptor,
        expects: TEXT,
        help: "The value of the entry; each `*` matches any text. Leave it out to match every \
               value that no other element of the list matches; an empty text is the same.",
    },
    RuleKey {
        name: "rate_limit",
        context: KeyContext::Descriptor,
        expects: "a map with `unit` and `requests_per_unit`, or with `unlimited: true`",
        help: "The limit for a descriptor that ends with this entry.",
    },
    RuleKey {
        name: "rate_limits",
        context: KeyContext::Descriptor,
        expects: "a list of 1 to 8 maps, each like `rate_limit`",
        help: "Several limits instead of one, such as 10 per second and 1000 per day. All are \
               counted, and each can refuse a request.",
    },
    RuleKey {
        name: "descriptors",
        context: KeyContext::Descriptor,
        expects: DESCRIPTOR_LIST,
        help: "The rules for the next entry of the descriptor.",
    },
    RuleKey {
        name: "shadow_mode",
        context: KeyContext::Descriptor,
        expects: FLAG,
        help: "Set it to try out a limit: it is counted and shown in the statistics, but never \
               refuses a request.",
    },
    RuleKey {
        name: "quota_mode",
        context: KeyContext::Descriptor,
        expects: FLAG,
        help: "Makes the limit a quota: it refuses a request only when all quotas of the request \
               are used up.",
    },
    RuleKey {
        name: "detailed_metric",
        context: KeyContext::Descriptor,
        expects: FLAG,
        help: "Keeps statistics for each descriptor that the limit applies to, not only for the \
               rule.",
    },
    RuleKey {
        name: "value_to_metric",
        context: KeyContext::Descriptor,
        expects: FLAG,
        help: "Keeps statistics for each value of this entry.",
    },
    RuleKey {
        name: "share_threshold",
        context: KeyContext::Descriptor,
        expects: FLAG,
        help: "All values that match the `*` share one counter. Needs a `*` in `key` or `value`.",
    },
    RuleKey {
        name: "metadata",
        context: KeyContext::Descriptor,
        expects: "a map",
        help: "Any map. It is returned as dynamic metadata when the request passes.",
    },
    RuleKey {
        name: "unit",
        context: KeyContext::RateLimit,
        expects: "one of second, minute, hour, day, week, month, year",
        help: "The length of the window, in upper or lower case: second, minute, hour, day, week, \
               month (30 days) or year (365 days).",
    },
    RuleKey {
        name: "requests_per_unit",
        context: KeyContext::RateLimit,
        expects: "a whole number from 0 to 4294967295",
        help: "The number of hits allowed per window, from 0, which refuses everything, to \
               4294967295. With `concurrency`, the number of requests in flight at the same time.",
    },
    RuleKey {
        name: "unit_multiplier",
        context: KeyContext::RateLimit,
        expects: "a whole number from 1 to 4294967295",
        help: "The number of units in a window; default 1. A window is at most 100 years long.",
    },
    RuleKey {
        name: "period",
        context: KeyContext::RateLimit,
        expects: "a duration of whole seconds from `1s` to `876000h`",
        help: "The length of the window as a duration, such as `90s` or `1h30m`. Use it instead \
               of `unit`.",
    },
    RuleKey {
        name: "algorithm",
        context: KeyContext::RateLimit,
        expects: "one of fixed_window, sliding_window, sliding_log, token_bucket, leaky_bucket, \
                  concurrency",
        help: "The algorithm that counts hits; default fixed_window.",
    },
    RuleKey {
        name: "burst",
        context: KeyContext::RateLimit,
        expects: "a whole number from 1 to 4294967295",
        help: "The number of hits that a bucket allows at once; default `requests_per_unit`. \
               Lower it to smooth out traffic.",
    },
    RuleKey {
        name: "count_denied",
        context: KeyContext::RateLimit,
        expects: FLAG,
        help: "By default, a fixed window also counts the hits that it refuses. Set `false` to \
               count only allowed hits. The other algorithms never count refused hits.",
    },
    RuleKey {
        name: "penalty",
        context: KeyContext::RateLimit,
        expects: "a duration of whole milliseconds from `1ms` to `87600h`",
        help: "After a refusal, everything is refused for this long. Requests during the \
               penalty do not extend it.",
    },
    RuleKey {
        name: "consume",
        context: KeyContext::RateLimit,
        expects: "`independent` or `all_or_nothing`",
        help: "`independent` (default): this limit is charged even if another limit refuses the \
               request. `all_or_nothing`: it is not charged then.",
    },
    RuleKey {
        name: "on_error",
        context: KeyContext::RateLimit,
        expects: "`allow`, `deny` or `local`",
        help: "The decision while the store does not answer: `allow` the request, `deny` it, or \
               count it in a `local` counter of this instance. The default is the setting \
               ON_ERROR.",
    },
    RuleKey {
        name: "accuracy",
        context: KeyContext::RateLimit,
        expects: "`exact`, or a map with `lease`",
        help: "`exact` (default): every hit is counted in the store. `{lease: 1%}`: each instance \
               may reserve hits of a fixed window in advance, which saves requests to a store \
               under high load. Fewer hits than the limit may be allowed then, never more.",
    },
    RuleKey {
        name: "phase",
        context: KeyContext::RateLimit,
        expects: "`spread`, or a duration of whole seconds that is shorter than the window",
        help: "The start of the windows: this long after each multiple of the window length since \
               1970. `spread` gives each counter a start of its own, so that not all clients are \
               allowed again at the same moment.",
    },
    RuleKey {
        name: "calendar",
        context: KeyContext::RateLimit,
        expects: "a map with `time_zone`",
        help: "Makes the windows the calendar days, weeks or months of a time zone.",
    },
    RuleKey {
        name: "lease",
        context: KeyContext::RateLimit,
        expects: "a duration of whole milliseconds from `1s` to `24h`",
        help: "The time after which a request in flight frees its permit if its client has \
               not released it. `concurrency` requires it.",
    },
    RuleKey {
        name: "unlimited",
        context: KeyContext::RateLimit,
        expects: FLAG,
        help: "Allows every request and counts nothing. Use it instead of `unit`.",
    },
    RuleKey {
        name: "name",
        context: KeyContext::RateLimit,
        expects: TEXT,
        help: "A name for the limit, returned to clients. Other rules can replace the limit by \
               this name.",
    },
    RuleKey {
        name: "replaces",
        context: KeyContext::RateLimit,
        expects: "a list of maps, each with a `name`",
        help: "The limits that do not apply to a request to which this rule applies.",
    },
    RuleKey {
        name: "time_zone",
        context: KeyContext::Calendar,
        expects: "a name of the IANA database, such as Europe/Berlin",
        help: "The time zone in which days begin. Required.",
    },
    RuleKey {
        name: "first_day",
        context: KeyContext::Calendar,
        expects: "a whole number from 1 to 28 for months, or from 1 (Monday) to 7 for weeks",
        help: "The day on which a month or a week begins; default 1.",
    },
    RuleKey {
        name: "lease",
        context: KeyContext::Accuracy,
        expects: "a part of the limit such as `1%` or `0.01`, at most 10%",
        help: "The largest share of the limit that each instance may reserve in advance.",
    },
    RuleKey {
        name: "name",
        context: KeyContext::Replaces,
        expects: TEXT,
        help: "The `name` of the limit to replace. Required.",
    },
];

/// The key called `name` in `context`.
pub fn find(context: KeyContext, name: &str) -> Option<&'static RuleKey> {
    all().find(|key| key.context == context && key.name == name)
}

/// True if `name` is a key in some context.
pub(super) fn is_known(name: &str) -> bool {
    all().any(|key| key.name == name)
}

/// The key of `context` that the unknown key `name` is probably a misspelling of.
pub(super) fn misspelt(context: KeyContext, name: &str) -> Option<&'static str> {
    if is_known(name) {
        return None;
    }
    let mut names = Vec::new();
    for key in all() {
        if key.context == context {
            names.push(key.name);
        }
    }
    nearest(name, &names)
}

/// A proposal for the unknown key `name` in `context`: the context where it is
/// allowed, a key with a similar name, or the list of all keys.
pub(super) fn hint(context: KeyContext, name: &str) -> String {
    let mut near_contexts = Vec::new();
    let mut other_contexts = Vec::new();
    let mut names = Vec::new();
    for key in all() {
        if key.name == name && key.context.is_in_http() == context.is_in_http() {
            near_contexts.push(key.context.to_string());
        } else if key.name == name {
            other_contexts.push(key.context.to_string());
        }
        if key.context == context {
            names.push(key.name);
        }
    }
    let contexts = if near_contexts.is_empty() { other_contexts } else { near_contexts };
    if !contexts.is_empty() {
        return format!("it belongs {}", contexts.join(", or "));
    }
    match misspelt(context, name) {
        Some(similar) => format!("did you mean `{similar}`?"),
        None => format!("expected one of {}", names.join(", ")),
    }
}

/// The name that `text` is probably a misspelling of.
pub(super) fn nearest(text: &str, names: &[&'static str]) -> Option<&'static str> {
    /// No name is as long, and the time to compare grows with the length.
    const MAX_BYTES: usize = 40;
    if text.len() >= MAX_BYTES {
        return None;
    }
    let text = text.to_lowercase().replace(['-', ' ', '.'], "_");
    let mut smallest_distance = usize::MAX;
    let mut nearest = "";
    for name in names {
        let distance = strsim::osa_distance(&text, name);
        if distance < smallest_distance {
            (smallest_distance, nearest) = (distance, name);
        }
    }
    let is_close = smallest_distance <= 1.max(nearest.len() / 4);
    let has_same_start = text.get(..3).is_some_and(|start| nearest.starts_with(start));
    (is_close || has_same_start).then_some(nearest)
}
