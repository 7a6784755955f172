//! The table of all settings. The flags, `--help` and the tables in
//! `docs/settings.md` are generated from it.

mod setting;

mod rules;
mod xds;
mod listeners;
mod admin;
mod tls;
mod counters;
mod redis;
mod decisions;
mod answers;
mod logging;
mod statistics;
mod tracing;
mod shutdown;
mod common;

pub use self::{
    common::{COMMON, Common},
    setting::{Group, Setting, ValueKind},
};

pub(super) use self::statistics::STATISTICS;

/// All settings, in the order in which the documentation shows them.
pub const GROUPS: &[Group] = &[
    rules::RULES,
    xds::XDS,
    listeners::LISTENERS,
    admin::ADMIN,
    tls::TLS,
    tls::HTTP_TLS,
    counters::COUNTERS,
    redis::REDIS,
    decisions::DECISIONS,
    answers::ANSWERS,
    logging::LOGGING,
    STATISTICS,
    tracing::TRACING,
    shutdown::SHUTDOWN,
];

/// Iterates over all settings, in the order of [`GROUPS`].
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

/// Finds a setting by the name of its environment variable.
pub fn find(name: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.name == name)
}
