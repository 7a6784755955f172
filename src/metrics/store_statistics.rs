//! The table of statistics that the counter store keeps and that are read from it
//! whenever statistics are shown or sent.

use prometheus::proto::{
    MetricFamily,
    MetricType::{self, COUNTER, GAUGE},
};

use super::definition::{Definition, family};
use crate::store::{DenyCacheUsage, MemoryUsage, Pools, StoreStats};

/// One reading of the store.
struct StoreUsage {
    memory: MemoryUsage,
    deny_cache: Option<DenyCacheUsage>,
    pools: Pools,
}

/// A statistic, and how to take it from a reading.
#[derive(Debug)]
pub(super) struct StoreStatistic {
    pub(super) definition: Definition,
    pub(super) kind: MetricType,
    /// Returns `None` if the store has no such part.
    read: fn(&StoreUsage) -> Option<u64>,
}

const fn statistic(
    kind: MetricType,
    prometheus: &'static str,
    statsd: &'static str,
    help: &'static str,
    read: fn(&StoreUsage) -> Option<u64>,
) -> StoreStatistic {
    let definition = Definition { prometheus, statsd, labels: &[], help };
    StoreStatistic { definition, kind, read }
}

/// Counters in memory. With Redis, these are the counters of `on_error: local`.
const MEMORY: [StoreStatistic; 4] = [
    statistic(
        GAUGE,
        "tollgate_memory_counters",
        "tollgate.memory_counters",
        "Counters in memory, including expired ones that have not been removed yet. With Redis, \
         these are the counters of `on_error: local`.",
        |usage| u64::try_from(usage.memory.counters).ok(),
    ),
    statistic(
        GAUGE,
        "tollgate_memory_bytes",
        "tollgate.memory_bytes",
        "Estimated size of the counters in memory, in bytes. MEMORY_MAX_BYTES is its limit.",
        |usage| u64::try_from(usage.memory.bytes).ok(),
    ),
    statistic(
        COUNTER,
        "tollgate_memory_evicted_total",
        "tollgate.memory_evicted",
        "Counters removed before their window ended because memory was full. If it grows, raise \
         MEMORY_MAX_BYTES or MEMORY_MAX_KEYS.",
        |usage| Some(usage.memory.evicted),
    ),
    statistic(
        COUNTER,
        "tollgate_memory_not_kept_total",
        "tollgate.memory_not_kept",
        "Charges decided but not counted because memory was full of counters over their limit. If \
         it grows, raise MEMORY_MAX_BYTES or MEMORY_MAX_KEYS.",
        |usage| Some(usage.memory.uncounted),
    ),
];

/// The cache of denials, under the names that the reference service gives its own.
const DENY_CACHE: [StoreStatistic; 7] = [
    statistic(
        GAUGE,
        "ratelimit_localcache_entryCount",
        "ratelimit.localcache.entryCount",
        "Entries of the deny cache.",
        |usage| Some(usage.deny_cache?.entries),
    ),
    statistic(
        GAUGE,
        "ratelimit_localcache_hitCount",
        "ratelimit.localcache.hitCount",
        "Counters found in the deny cache: each saved a call to Redis.",
        |usage| Some(usage.deny_cache?.hits),
    ),
    statistic(
        GAUGE,
        "ratelimit_localcache_missCount",
        "ratelimit.localcache.missCount",
        "Counters not found in the deny cache, so that Redis was called.",
        |usage| Some(usage.deny_cache?.misses),
    ),
    statistic(
        GAUGE,
        "ratelimit_localcache_lookupCount",
        "ratelimit.localcache.lookupCount",
        "Lookups in the deny cache: hitCount plus missCount.",
        |usage| Some(usage.deny_cache?.hits + usage.deny_cache?.misses),
    ),
    statistic(
        GAUGE,
        "ratelimit_localcache_expiredCount",
        "ratelimit.localcache.expiredCount",
        "Entries of the deny cache removed because they had expired.",
        |usage| Some(usage.deny_cache?.expired),
    ),
    statistic(
        GAUGE,
        "ratelimit_localcache_evacuateCount",
        "ratelimit.localcache.evacuateCount",
        "Entries of the deny cache evicted to make room. If it grows, raise \
         LOCAL_CACHE_SIZE_IN_BYTES.",
        |usage| Some(usage.deny_cache?.evicted),
    ),
    statistic(
        GAUGE,
        "ratelimit_localcache_overwriteCount",
        "ratelimit.localcache.overwriteCount",
        "Entries of the deny cache replaced by a newer one of the same counter.",
        |usage| Some(usage.deny_cache?.overwritten),
    ),
];

/// The table of one connection pool to Redis: `$redis` is part of each name, `$pool` is
/// the field of [`Pools`].
macro_rules! pool_statistics {
    ($redis:literal, $pool:ident) => {
        [
            statistic(
                GAUGE,
                concat!("ratelimit_", $redis, "_pool_cx_active"),
                concat!("ratelimit.", $redis, "_pool.cx_active"),
                "Open connections to Redis.",
                |usage| Some(usage.pools.$pool?.active),
            ),
            statistic(
                COUNTER,
                concat!("ratelimit_", $redis, "_pool_cx_total"),
                concat!("ratelimit.", $redis, "_pool.cx_total"),
                "Connections to Redis opened. If it grows steadily, connections break.",
                |usage| Some(usage.pools.$pool?.opened),
            ),
            statistic(
                COUNTER,
                concat!("ratelimit_", $redis, "_pool_cx_local_close"),
                concat!("ratelimit.", $redis, "_pool.cx_local_close"),
                "Connections to Redis closed.",
                |usage| Some(usage.pools.$pool?.closed),
            ),
            statistic(
                GAUGE,
                concat!("tollgate_", $redis, "_waiting"),
                concat!("tollgate.", $redis, "_waiting"),
                "Calls queued until earlier calls to Redis are answered.",
                |usage| Some(usage.pools.$pool?.waiting),
            ),
            statistic(
                GAUGE,
                concat!("tollgate_", $redis, "_silent"),
                concat!("tollgate.", $redis, "_silent"),
                "Redis servers that do not answer or cannot be used. Calls to them fail at once. \
                 Alert if it stays above 0.",
                |usage| Some(usage.pools.$pool?.unresponsive),
            ),
            statistic(
                COUNTER,
                concat!("tollgate_", $redis, "_full_total"),
                concat!("tollgate.", $redis, "_full"),
                "Calls that Redis refused because its memory is full (OOM), so that on_error \
                 decided. If it grows, raise maxmemory, and look for a client that sends ever new \
                 values.",
                |usage| Some(usage.pools.$pool?.out_of_memory),
            ),
            statistic(
                COUNTER,
                concat!("tollgate_", $redis, "_given_back_total"),
                concat!("tollgate.", $redis, "_given_back"),
                "Counters to which hits were refunded: hits reserved for a call that was then \
                 refused, or granted after its deadline.",
                |usage| Some(usage.pools.$pool?.refunded),
            ),
            statistic(
                COUNTER,
                concat!("tollgate_", $redis, "_not_given_back_total"),
                concat!("tollgate.", $redis, "_not_given_back"),
                "Counters whose refund or reservation was not settled in time. If it grows, a \
                 Redis server is unreachable or too slow.",
                |usage| Some(usage.pools.$pool?.failed_refunds),
            ),
        ]
    };
}

const MAIN_POOL: [StoreStatistic; 8] = pool_statistics!("redis", main);
const PER_SECOND_POOL: [StoreStatistic; 8] = pool_statistics!("redis_per_second", per_second);

/// Every statistic of the store.
pub(super) const TABLES: [&[StoreStatistic]; 4] =
    [&MEMORY, &DENY_CACHE, &MAIN_POOL, &PER_SECOND_POOL];

/// Reads the statistics of the parts that the store has.
pub(super) fn families(stats: &StoreStats) -> Vec<MetricFamily> {
    let usage = StoreUsage {
        memory: stats.memory().unwrap_or_default(),
        deny_cache: stats.deny_cache(),
        pools: stats.pools(),
    };
    let mut families = Vec::new();
    for statistic in TABLES.into_iter().flatten() {
        if let Some(value) = (statistic.read)(&usage) {
            let Definition { prometheus, help, .. } = statistic.definition;
            families.push(family(prometheus, help, statistic.kind, as_f64(value)));
        }
    }
    families
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has only f64")]
fn as_f64(value: u64) -> f64 {
    value as f64
}
