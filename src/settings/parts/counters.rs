use super::redis;
use crate::{
    counter::{KeyFormat, KeyStyle},
    engine::fallback::FallbackSettings,
    rules::spec::OnError,
    settings::{model::StoreSettings, reader::SettingReader, value},
    store::memory::Bounds,
};

/// Fewer counters are not enough for the limits of a small service.
const MIN_KEYS: u32 = 256;
/// Fewer bytes leave no room for the lists of `sliding_log` and `concurrency`.
const MIN_MEMORY_BYTES: usize = 1 << 20;
/// The smallest cache of refusals, in bytes. envoyproxy/ratelimit raises smaller
/// values to this one, too.
const MIN_DENY_CACHE_BYTES: usize = 524_288;

pub(super) fn bounds(reader: &mut SettingReader<'_>) -> Bounds {
    let bytes = reader.value("MEMORY_MAX_BYTES", |text| value::bytes(text, MIN_MEMORY_BYTES));
    let keys = reader.optional("MEMORY_MAX_KEYS", |text| value::number(text, MIN_KEYS..=u32::MAX));
    let needed = keys.unwrap_or(0).saturating_mul(Bounds::COUNTER);
    let bytes = if reader.is_given("MEMORY_MAX_BYTES") { bytes } else { bytes.max(needed) };
    Bounds { bytes, keys }
}

pub(super) fn deny_cache_bytes(reader: &mut SettingReader<'_>) -> usize {
    let bytes = reader.value("LOCAL_CACHE_SIZE_IN_BYTES", |text| value::number(text, 0..=u32::MAX));
    if bytes == 0 { 0 } else { bytes.max(MIN_DENY_CACHE_BYTES) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BackendType {
    Memory,
    Redis,
}

pub(super) fn store(
    reader: &mut SettingReader<'_>,
    bounds: Bounds,
    key_prefix: &str,
) -> StoreSettings {
    let backend = if reader.is_set("BACKEND_TYPE") {
        reader.optional("BACKEND_TYPE", backend)
    } else if reader.is_set("REDIS_URL") {
        Some(BackendType::Redis)
    } else {
        Some(BackendType::Memory)
    };
    let servers = redis::redis(reader, key_prefix);
    if backend == Some(BackendType::Redis) {
        reader.require("BACKEND_TYPE", "REDIS_URL");
    }
    let startup_timeout = reader.value("REDIS_STARTUP_MAX_ELAPSED_TIME", value::optional_duration);
    let health_follows_redis = reader.value("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", value::boolean);
    match (backend, servers.main) {
        (Some(BackendType::Redis), Some(main)) => StoreSettings::Redis {
            main: Box::new(main),
            per_second: servers.per_second.map(Box::new),
            startup_timeout,
            health_follows_redis,
        },
        _ => StoreSettings::Memory { bounds },
    }
}

fn backend(text: &str) -> value::Parsed<BackendType> {
    if text.eq_ignore_ascii_case("memcache") {
        return Err("tollgate does not count in Memcached; use redis to count across instances, \
                    or memory"
            .into());
    }
    value::one_of(text, &[("memory", BackendType::Memory), ("redis", BackendType::Redis)])
}

pub(super) fn fallback(reader: &mut SettingReader<'_>, bounds: Bounds) -> FallbackSettings {
    let mut policies = vec![("error", None)];
    for policy in OnError::ALL {
        policies.push((policy.name(), Some(policy)));
    }
    FallbackSettings {
        on_error: reader.choice("ON_ERROR", &policies),
        deadline: reader.value("STORE_DEADLINE", value::positive_duration),
        local_share: reader.value("LOCAL_SHARE", value::ratio),
        bounds,
    }
}

pub(super) fn key_format(reader: &mut SettingReader<'_>) -> KeyFormat {
    let styles = [("unambiguous", KeyStyle::Unambiguous), ("reference", KeyStyle::Reference)];
    KeyFormat {
        prefix: reader.value("CACHE_KEY_PREFIX", value::text),
        style: reader.choice("COUNTER_KEYS", &styles),
    }
}
