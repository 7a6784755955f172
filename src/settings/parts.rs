//! The parts of the settings, each read from the variables that make it.

use ::tracing::Level;

use super::{
    DrainSettings, LogFormat, LogSettings, Settings, StoreSettings, reader::SettingReader, value,
};
use crate::{
    counter::{KeyFormat, KeyStyle},
    engine::{decision::Mode, fallback::FallbackSettings},
    rules::spec::OnError,
    store::memory::Bounds,
    wire::{
        request::MOST_DESCRIPTORS,
        response::{HeaderNames, MetadataWhen, ResponseSettings},
    },
};

mod listeners;
mod redis;
mod rules;
mod statistics;
mod tls;
mod tracing;
mod xds;

pub(super) use self::rules::rules;

/// What every limit of a small service takes.
const FEWEST_KEYS: u32 = 256;
/// Less has no room for lists, in bytes.
const LEAST_MEMORY: usize = 1 << 20;
/// The least memory for refusals, in bytes, unless there is none: what the
/// reference service takes if it is told to take less.
const LEAST_DENY_CACHE: usize = 524_288;

pub(super) fn all(reader: &mut SettingReader<'_>) -> Settings {
    let bounds = bounds(reader);
    let key_format = key_format(reader);
    let settings = Settings {
        rules: rules(reader),
        listeners: listeners::listeners(reader),
        store: store(reader, bounds, &key_format.prefix),
        deny_cache_bytes: reader.value("LOCAL_CACHE_SIZE_IN_BYTES", deny_cache),
        fallback: fallback(reader, bounds),
        key_format,
        mode: Mode {
            shadow: reader.value("SHADOW_MODE", value::boolean),
            quota: reader.value("QUOTA_MODE", value::boolean),
            stop: reader.value("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", value::boolean),
        },
        max_descriptors: reader.value("MAX_DESCRIPTORS", max_descriptors),
        near_limit_ratio: reader.value("NEAR_LIMIT_RATIO", value::ratio),
        response: response(reader),
        log: log(reader),
        statistics: statistics::statistics(reader),
        tracing: tracing::tracing(reader),
        drain: DrainSettings {
            delay: reader.value("DRAIN_DELAY", value::duration),
            timeout: reader.value("DRAIN_TIMEOUT", value::duration),
        },
    };
    let prometheus = settings.statistics.prometheus.as_ref().map(|it| &it.address);
    listeners::all_apart(reader, &settings.listeners, prometheus);
    settings
}

fn max_descriptors(text: &str) -> Result<usize, String> {
    let number = value::at_least(1, text).ok().filter(|it| *it <= MOST_DESCRIPTORS);
    number.ok_or_else(|| format!("expected a whole number from 1 to {MOST_DESCRIPTORS}"))
}

fn bounds(reader: &mut SettingReader<'_>) -> Bounds {
    let bytes = reader.value("MEMORY_MAX_BYTES", |it| value::bytes(LEAST_MEMORY, it));
    let keys = reader.optional("MEMORY_MAX_KEYS", |it| value::at_least(FEWEST_KEYS, it));
    let enough = keys.unwrap_or(0).saturating_mul(Bounds::COUNTER);
    let bytes = if reader.is_given("MEMORY_MAX_BYTES") { bytes } else { bytes.max(enough) };
    Bounds { bytes, keys }
}

fn deny_cache(text: &str) -> Result<usize, String> {
    Ok(match value::at_least(0, text)? {
        0 => 0,
        bytes => bytes.max(LEAST_DENY_CACHE),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Backend {
    Memory,
    Redis,
}

/// What is set has to be right whichever backend uses it, or a mistake would
/// wait for the day on which the backend changes.
fn store(reader: &mut SettingReader<'_>, bounds: Bounds, key_prefix: &str) -> StoreSettings {
    let backend = if reader.is_set("BACKEND_TYPE") {
        reader.optional("BACKEND_TYPE", backend)
    } else if reader.is_set("REDIS_URL") {
        Some(Backend::Redis)
    } else {
        Some(Backend::Memory)
    };
    let (redis, per_second) = redis::redis(reader, key_prefix);
    if backend == Some(Backend::Redis) {
        reader.require("BACKEND_TYPE", "REDIS_URL");
    }
    let startup_timeout = redis::startup_timeout(reader);
    let health_follows_redis = reader.value("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", value::boolean);
    match (backend, redis) {
        (Some(Backend::Redis), Some(main)) => {
            let (main, per_second) = (Box::new(main), per_second.map(Box::new));
            StoreSettings::Redis { main, per_second, startup_timeout, health_follows_redis }
        }
        _ => StoreSettings::Memory { bounds },
    }
}

fn fallback(reader: &mut SettingReader<'_>, bounds: Bounds) -> FallbackSettings {
    let words = [("error", None)].into_iter();
    let words: Vec<_> = words.chain(OnError::ALL.map(|it| (it.name(), Some(it)))).collect();
    FallbackSettings {
        on_error: reader.value("ON_ERROR", |it| value::one_of(it, &words)),
        deadline: reader.value("STORE_DEADLINE", value::some_duration),
        local_share: reader.value("LOCAL_SHARE", value::ratio),
        bounds,
    }
}

fn backend(text: &str) -> Result<Backend, String> {
    if text.eq_ignore_ascii_case("memcache") {
        return Err("tollgate does not count in Memcached; use redis to count across instances, \
                    or memory"
            .into());
    }
    value::one_of(text, &[("memory", Backend::Memory), ("redis", Backend::Redis)])
}

fn key_format(reader: &mut SettingReader<'_>) -> KeyFormat {
    let styles = [("unambiguous", KeyStyle::Unambiguous), ("reference", KeyStyle::Reference)];
    KeyFormat {
        prefix: reader.value("CACHE_KEY_PREFIX", text),
        style: reader.value("COUNTER_KEYS", |it| value::one_of(it, &styles)),
    }
}

fn response(reader: &mut SettingReader<'_>) -> ResponseSettings {
    let enabled = reader.value("LIMIT_RESPONSE_HEADERS_ENABLED", value::boolean);
    let names = HeaderNames {
        limit: reader.value("LIMIT_LIMIT_HEADER", value::header_name),
        remaining: reader.value("LIMIT_REMAINING_HEADER", value::header_name),
        reset: reader.value("LIMIT_RESET_HEADER", value::header_name),
    };
    ResponseSettings {
        headers: enabled.then_some(names),
        metadata: reader.value("RESPONSE_DYNAMIC_METADATA", metadata),
    }
}

/// Envoy's reference service knows only true and false.
fn metadata(text: &str) -> Result<MetadataWhen, String> {
    let words = [
        ("refused", MetadataWhen::Refused),
        ("always", MetadataWhen::Always),
        ("never", MetadataWhen::Never),
    ];
    match value::boolean(text) {
        Ok(true) => Ok(MetadataWhen::Always),
        Ok(false) => Ok(MetadataWhen::Never),
        Err(_) => value::one_of(text, &words),
    }
}

fn log(reader: &mut SettingReader<'_>) -> LogSettings {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    LogSettings {
        level: reader.optional("LOG_LEVEL", level).unwrap_or(Level::INFO),
        format: reader.value("LOG_FORMAT", |it| value::one_of(it, &formats)),
    }
}

fn level(text: &str) -> Result<Level, String> {
    let others = [("panic", Level::ERROR), ("fatal", Level::ERROR), ("warning", Level::WARN)];
    let words = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    value::choice(text, &others).map_or_else(|| value::one_of(text, &words), Ok)
}

/// Text of which nothing is expected.
fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}
