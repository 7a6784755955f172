//! Every setting there is. The command line, its `--help` and
//! `docs/settings.md` are made from this table.

mod rules;
mod xds;
mod listeners;
mod tls;
mod counters;
mod redis;
mod decisions;
mod answers;
mod logging;
mod statistics;
mod tracing;
mod shutdown;

pub(super) use self::statistics::STATISTICS;

/// Settings that belong together.
#[derive(Debug)]
pub struct Group {
    /// What they are about.
    pub heading: &'static str,
    /// In the order in which they are shown.
    pub settings: &'static [Setting],
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable.
    pub name: &'static str,
    /// What kind of value it takes, for `--help`.
    pub value: Value,
    /// What applies where it is not set, written like any other value; empty if
    /// it is then simply not set.
    pub default: &'static str,
    /// Whole sentences.
    pub help: &'static str,
}

/// What kind of value a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text of the kind that this names.
    Text(&'static str),
    /// Like [`Self::Text`], but never shown: it may hold a password.
    Secret(&'static str),
    /// True or false. The flag alone means true.
    Switch,
}

impl Value {
    /// What stands for the value in `--help`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text(name) | Self::Secret(name) => name,
            Self::Switch => "BOOL",
        }
    }
}

impl Setting {
    /// The flag, without its dashes.
    pub fn flag(&self) -> String {
        let name = self.name.strip_prefix("TOLLGATE_").unwrap_or(self.name);
        name.to_ascii_lowercase().replace('_', "-")
    }
}

const DURATION: Value = Value::Text("DURATION");
const FILE: Value = Value::Text("FILE");
const HOST: Value = Value::Text("HOST");
const NUMBER: Value = Value::Text("NUMBER");
const PATH: Value = Value::Text("PATH");
const PORT: Value = Value::Text("PORT");
const HEADER: Value = Value::Text("HEADER");

/// Every setting, in groups.
pub const GROUPS: &[Group] = &[
    rules::RULES,
    xds::XDS,
    listeners::LISTENERS,
    tls::TLS,
    counters::COUNTERS,
    redis::REDIS,
    decisions::DECISIONS,
    answers::ANSWERS,
    logging::LOGGING,
    STATISTICS,
    tracing::TRACING,
    shutdown::SHUTDOWN,
];
