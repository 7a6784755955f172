//! Builds the settings, group by group.
//!
//! Settings that have no effect are checked, too. Otherwise an error in them would
//! show up later, when another setting turns them on.

use super::{
    model::{DecisionSettings, DrainSettings, Settings},
    reader::SettingReader,
    value,
};
use crate::{descriptor::invalid::MOST_DESCRIPTORS, engine::decision::Mode};

mod tls;
mod redis;
mod counters;
mod xds;
mod rules;
mod listeners;
mod admin;
mod answers;
mod logging;
mod statistics;
mod tracing;

pub(super) use self::{logging::log, rules::rules};

pub(super) fn all(reader: &mut SettingReader<'_>) -> Settings {
    let bounds = counters::bounds(reader);
    let key_format = counters::key_format(reader);
    let settings = Settings {
        rules: rules(reader),
        listeners: listeners::listeners(reader),
        admin: admin::admin(reader),
        store: counters::store(reader, bounds, &key_format.prefix),
        deny_cache_bytes: counters::deny_cache_bytes(reader),
        fallback: counters::fallback(reader, bounds),
        key_format,
        mode: mode(reader),
        max_descriptors: reader.value("MAX_DESCRIPTORS", max_descriptors),
        ext_authz_domain: reader.optional("EXT_AUTHZ_DOMAIN", value::text),
        max_bytes_in_flight: reader
            .value("MAX_BYTES_IN_FLIGHT", |text| value::bytes(text, 1 << 20)),
        json_max_bytes: reader.value("JSON_MAX_BYTES", |text| value::bytes(text, 1)),
        near_limit_ratio: reader.value("NEAR_LIMIT_RATIO", value::ratio),
        answers: answers::answers(reader),
        log: log(reader),
        decision_log: logging::decision_log(reader),
        statistics: statistics::statistics(reader),
        tracing: tracing::tracing(reader),
        drain: DrainSettings {
            delay: reader.value("DRAIN_DELAY", value::duration),
            timeout: reader.value("DRAIN_TIMEOUT", value::duration),
        },
        unused: Vec::new(),
    };
    let prometheus = settings.statistics.prometheus.as_ref();
    let admin = settings.admin.is_open().then_some(&settings.admin.address);
    listeners::reject_shared_ports(reader, &settings.listeners, prometheus, admin);
    let connections = settings.listeners.connections;
    listeners::reject_large_windows(reader, connections, settings.max_bytes_in_flight);
    rules::reject_unread_path(reader, &settings.rules);
    settings
}

/// The settings of `tollgate explain`.
pub(super) fn decision(reader: &mut SettingReader<'_>) -> DecisionSettings {
    DecisionSettings {
        rules: rules(reader),
        key_format: counters::key_format(reader),
        mode: mode(reader),
        answers: answers::answers(reader),
    }
}

fn mode(reader: &mut SettingReader<'_>) -> Mode {
    Mode {
        shadow: reader.value("SHADOW_MODE", value::boolean),
        quota: reader.value("QUOTA_MODE", value::boolean),
        stop_counting: reader.value("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", value::boolean),
    }
}

fn max_descriptors(text: &str) -> value::Parsed<usize> {
    value::number(text, 1..=u32::try_from(MOST_DESCRIPTORS).unwrap_or(u32::MAX))
}
