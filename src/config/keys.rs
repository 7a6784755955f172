//! The keys of rule files: the one table behind the checks, the hints and the
//! reference for operators.

use std::fmt;

/// A kind of map in a rule file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// The file itself.
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
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "at the top of the file",
            Self::Descriptor => "on a descriptor, beside `key`",
            Self::RateLimit => "in `rate_limit` or an element of `rate_limits`",
            Self::Calendar => "in `calendar`",
            Self::Accuracy => "in `accuracy`",
            Self::Replaces => "in an element of `replaces`",
        })
    }
}

/// A key that means something.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// How it is written.
    pub name: &'static str,
    /// Where it means something.
    pub home: Home,
    /// What its value must be, to follow "expected".
    pub expects: &'static str,
    /// What it is for, in one sentence.
    pub help: &'static str,
}

const TEXT: &str = "a string";
const FLAG: &str = "`true` or `false`";
const DESCRIPTORS: &str = "a list of descriptors, each with a `key`";

/// Every key there is.
pub const KEYS: [Key; 34] = [
    Key {
        name: "domain",
        home: Home::File,
        expects: TEXT,
        help: "The name that a caller gives to choose this set of rules; required.",
    },
    Key {
        name: "descriptors",
        home: Home::File,
        expects: DESCRIPTORS,
        help: "The rules for the first entry of a descriptor.",
    },
    Key {
        name: "key",
        home: Home::Descriptor,
        expects: TEXT,
        help: "The key of the entry; required.",
    },
    Key {
        name: "value",
        home: Home::Descriptor,
        expects: TEXT,
        help: "The value of the entry, in which each `*` stands for any text; without it, any \
               value that no other rule of the list takes.",
    },
    Key {
        name: "rate_limit",
        home: Home::Descriptor,
        expects: "a map with `unit` and `requests_per_unit`, or with `unlimited: true`",
        help: "The limit for a descriptor that ends with this entry.",
    },
    Key {
        name: "rate_limits",
        home: Home::Descriptor,
        expects: "a list of 1 to 8 maps, each like `rate_limit`",
        help: "Several limits in its place: all are counted, and each may refuse.",
    },
    Key {
        name: "descriptors",
        home: Home::Descriptor,
        expects: DESCRIPTORS,
        help: "The rules for the next entry of the descriptor.",
    },
    Key {
        name: "shadow_mode",
        home: Home::Descriptor,
        expects: FLAG,
        help: "The limit is counted and shown in the statistics, but never refuses.",
    },
    Key {
        name: "quota_mode",
        home: Home::Descriptor,
        expects: FLAG,
        help: "The limit refuses a request only when all quotas of the request are used up.",
    },
    Key {
        name: "detailed_metric",
        home: Home::Descriptor,
        expects: FLAG,
        help: "Statistics are kept for each descriptor that the limit governs.",
    },
    Key {
        name: "value_to_metric",
        home: Home::Descriptor,
        expects: FLAG,
        help: "Statistics are kept for each value of this entry.",
    },
    Key {
        name: "share_threshold",
        home: Home::Descriptor,
        expects: FLAG,
        help: "All values that match the `*` count together; it needs a `*` in `key` or `value`.",
    },
    Key {
        name: "metadata",
        home: Home::Descriptor,
        expects: "a map",
        help: "What is returned as dynamic metadata when the request passes: any map.",
    },
    Key {
        name: "unit",
        home: Home::RateLimit,
        expects: "one of second, minute, hour, day, week, month, year",
        help: "The length of the window, in any case: second, minute, hour, day, week, month (30 \
               days) or year (365 days).",
    },
    Key {
        name: "requests_per_unit",
        home: Home::RateLimit,
        expects: "a whole number from 0 to 4294967295",
        help: "How many hits pass in one window, from 0, which refuses all, to 4294967295; with \
               `concurrency`, how many calls are in flight at once.",
    },
    Key {
        name: "unit_multiplier",
        home: Home::RateLimit,
        expects: "a whole number from 1 to 4294967295",
        help: "How many units the window is long, at most 100 years; 1 if it is not given.",
    },
    Key {
        name: "period",
        home: Home::RateLimit,
        expects: "a duration of whole seconds from `1s` to `876000h`",
        help: "The length of the window, in the place of `unit`, such as `90s` or `1h30m`.",
    },
    Key {
        name: "algorithm",
        home: Home::RateLimit,
        expects: "one of fixed_window, sliding_window, sliding_log, token_bucket, leaky_bucket, \
                  concurrency",
        help: "How hits are counted; fixed_window if it is not given.",
    },
    Key {
        name: "burst",
        home: Home::RateLimit,
        expects: "a whole number from 1 to 4294967295",
        help: "How many hits a bucket lets pass at once; `requests_per_unit` if it is not given.",
    },
    Key {
        name: "count_denied",
        home: Home::RateLimit,
        expects: FLAG,
        help: "Whether a hit that a fixed window refuses counts all the same, as it does if this \
               is not given; elsewhere it never does.",
    },
    Key {
        name: "penalty",
        home: Home::RateLimit,
        expects: "a duration of whole milliseconds from `1ms` to `87600h`",
        help: "How long everything is refused once something was; calls in that time do not \
               prolong it.",
    },
    Key {
        name: "consume",
        home: Home::RateLimit,
        expects: "`independent` or `all_or_nothing`",
        help: "Whether a call that is refused by another limit consumes something of this one; \
               independent, which means that it does, if it is not given.",
    },
    Key {
        name: "on_error",
        home: Home::RateLimit,
        expects: "`allow`, `deny` or `local`",
        help: "What is decided while the store does not answer: that a request passes, that it \
               does not, or what a counter in this process says; ON_ERROR decides if it is not \
               given.",
    },
    Key {
        name: "accuracy",
        home: Home::RateLimit,
        expects: "`exact`, or a map with `lease`",
        help: "Whether instances may take hits ahead in a fixed window; exact, which means that \
               they do not, if it is not given.",
    },
    Key {
        name: "phase",
        home: Home::RateLimit,
        expects: "`spread`, or a duration of whole seconds that is shorter than the window",
        help: "When windows begin: so much later than at multiples of their length since 1970, \
               or each counter's at a moment of its own.",
    },
    Key {
        name: "calendar",
        home: Home::RateLimit,
        expects: "a map with `time_zone`",
        help: "Windows are the days, weeks or months of some place.",
    },
    Key {
        name: "lease",
        home: Home::RateLimit,
        expects: "a duration of whole milliseconds from `1s` to `24h`",
        help: "How long a call in flight holds its slot if it does not give it back; \
               `concurrency` needs it.",
    },
    Key {
        name: "unlimited",
        home: Home::RateLimit,
        expects: FLAG,
        help: "Everything passes and nothing is counted; it takes the place of `unit`.",
    },
    Key {
        name: "name",
        home: Home::RateLimit,
        expects: TEXT,
        help: "The name by which other rules replace this one, returned to callers.",
    },
    Key {
        name: "replaces",
        home: Home::RateLimit,
        expects: "a list of maps, each with a `name`",
        help: "The rules that do not apply to a request that this rule governs.",
    },
    Key {
        name: "time_zone",
        home: Home::Calendar,
        expects: "a name of the IANA database, such as Europe/Berlin",
        help: "Decides when a day begins; required.",
    },
    Key {
        name: "first_day",
        home: Home::Calendar,
        expects: "a whole number from 1 to 28 for months, or from 1 (Monday) to 7 for weeks",
        help: "The day on which a month or a week begins; 1 if it is not given.",
    },
    Key {
        name: "lease",
        home: Home::Accuracy,
        expects: "a part of the limit such as `1%` or `0.01`, at most 10%",
        help: "How much each instance takes ahead at most.",
    },
    Key {
        name: "name",
        home: Home::Replaces,
        expects: TEXT,
        help: "The `name` of a rule that is replaced; required.",
    },
];

/// The key called `name` in `home`.
pub fn find(home: Home, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|it| it.home == home && it.name == name)
}

/// What may have been meant by the unknown key `name` in `home`.
pub(super) fn hint(home: Home, name: &str) -> String {
    let elsewhere: Vec<_> =
        KEYS.iter().filter(|it| it.name == name).map(|it| it.home.to_string()).collect();
    if !elsewhere.is_empty() {
        return format!("it belongs {}", elsewhere.join(", or "));
    }
    let here = KEYS.iter().filter(|it| it.home == home).map(|it| it.name);
    if let Some(near) = nearest(name, here.clone()) {
        return format!("did you mean `{near}`?");
    }
    let names: Vec<_> = here.collect();
    format!("expected one of {}", names.join(", "))
}

/// The one of `names` that `text` may be a misspelling of.
pub(super) fn nearest(
    text: &str,
    names: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    // Nothing that long is near, and distances cost the product of the lengths.
    let text = Some(text).filter(|it| it.len() < 40)?.to_lowercase().replace(['-', ' ', '.'], "_");
    let distance = |it: &&str| strsim::osa_distance(&text, it);
    let near = names.min_by_key(distance)?;
    let close = distance(&near) <= 1.max(near.len() / 4);
    let akin = text.get(..3).is_some_and(|it| near.starts_with(it));
    (close || akin).then_some(near)
}
