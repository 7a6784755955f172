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
    /// The `rate_limit` of a descriptor.
    RateLimit,
    /// An element of `replaces`.
    Replaces,
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "at the top of the file",
            Self::Descriptor => "on a descriptor, beside `key`",
            Self::RateLimit => "in `rate_limit`",
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
pub const KEYS: [Key; 18] = [
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
        help: "How many hits pass in one window, from 0, which refuses all, to 4294967295.",
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
