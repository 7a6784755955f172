//! The flow of the integration tests of the reference service, with its settings and
//! counts. The clock stands still, so that no window and no cached refusal ends meanwhile.

use std::{fs, sync::Arc};

use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::RateLimitDescriptor,
    service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse, rate_limit_response::Code,
        rate_limit_response::DescriptorStatus,
    },
};
use tempfile::TempDir;

use testkit::{
    grpc::{Client, decide, descriptor, request_for},
    redis::RedisServer,
    unique_value,
    wait::eventually_async,
};

use super::deny_cache::times_asked;
use crate::in_process::{InProcess, ManualClock};

const BASIC: &str = "
domain: basic
descriptors:
  - key: key1
    rate_limit: { unit: second, requests_per_unit: 50 }
";
const ANOTHER: &str = "
domain: another
descriptors:
  - key: key2
    rate_limit: { unit: minute, requests_per_unit: 20 }
  - key: key3
    rate_limit: { unit: hour, requests_per_unit: 10 }
  - key: key4
    rate_limit: { unit: day, requests_per_unit: 20 }
";
const SHARED: &str = "
domain: shared
descriptors:
  - { key: files, value: files/*, share_threshold: true, rate_limit: { unit: hour, requests_per_unit: 10 } }
  - { key: files_no_share, value: files/*, rate_limit: { unit: hour, requests_per_unit: 10 } }
";
const PREFIX: &str = "prefix:";

/// The configuration of the service.
#[derive(Clone, Copy, Debug)]
struct Variant {
    /// Counters are in Redis and not in memory.
    redis: bool,
    cache: bool,
    stop: bool,
    per_second: bool,
    prefix: bool,
}

/// A service with its servers and files.
struct Flow {
    variant: Variant,
    client: Client,
    service: InProcess,
    clock: Arc<ManualClock>,
    main: Option<RedisServer>,
    seconds: Option<RedisServer>,
    _files: TempDir,
}

/// A rule directory with the layout of the reference service.
fn files() -> TempDir {
    let files = tempfile::tempdir().unwrap();
    let config = files.path().join("ratelimit/config");
    fs::create_dir_all(&config).unwrap();
    for (name, rules) in [("basic", BASIC), ("another", ANOTHER), ("share_threshold", SHARED)] {
        fs::write(config.join(format!("{name}.yaml")), rules).unwrap();
    }
    files
}

/// The address of a server in the settings; empty if there is none.
fn address(server: Option<&RedisServer>) -> String {
    match server {
        Some(server) => format!("127.0.0.1:{}", server.port()),
        None => String::new(),
    }
}

impl Flow {
    async fn begin(variant: Variant) -> Self {
        let files = files();
        let main = variant.redis.then(RedisServer::start);
        let seconds = variant.per_second.then(RedisServer::start);
        let switch = |on: bool| if on { "true" } else { "false" };
        let settings = [
            ("TOLLGATE_CONFIG", ""),
            ("RUNTIME_ROOT", files.path().to_str().unwrap()),
            ("RUNTIME_SUBDIRECTORY", "ratelimit"),
            ("RUNTIME_APPDIRECTORY", "config"),
            ("REDIS_SOCKET_TYPE", if variant.redis { "tcp" } else { "" }),
            ("REDIS_PERSECOND_SOCKET_TYPE", if variant.per_second { "tcp" } else { "" }),
            ("REDIS_URL", &address(main.as_ref())),
            ("REDIS_PERSECOND_URL", &address(seconds.as_ref())),
            ("REDIS_PERSECOND", switch(variant.per_second)),
            ("REDIS_TIMEOUT", "10s"),
            ("CACHE_KEY_PREFIX", if variant.prefix { PREFIX } else { "" }),
            ("LOCAL_CACHE_SIZE_IN_BYTES", if variant.cache { "1000" } else { "0" }),
            ("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", switch(variant.stop)),
            ("EXPIRATION_JITTER_MAX_SECONDS", "300"),
        ];
        let clock = Arc::new(ManualClock::default());
        let service = InProcess::start_with(Arc::clone(&clock) as _, "", &settings).await;
        eventually_async("readiness", async || service.get("/ready").await.status == 200).await;
        let client = service.grpc().await;
        Self { variant, client, service, clock, main, seconds, _files: files }
    }

    /// The values of statistics of a rule.
    async fn counts<const N: usize>(
        &self,
        domain: &str,
        key: &str,
        statistics: [&str; N],
    ) -> [f64; N] {
        let metrics = self.service.metrics().await;
        statistics.map(|it| {
            let name = format!("ratelimit_service_rate_limit_{it}");
            metrics.value(&name, &[("domain", domain), ("key1", key)])
        })
    }

    /// Checks the hits: all, within, near, over, and over by the deny cache.
    async fn assert_counts(&self, key: &str, expected: [u32; 5]) {
        let statistics = [
            "total_hits",
            "within_limit",
            "near_limit",
            "over_limit",
            "over_limit_with_local_cache",
        ];
        let found = self.counts("another", key, statistics).await;
        assert_eq!(found, expected.map(f64::from), "{key}");
    }

    /// Checks the lookups of the deny cache.
    async fn assert_looked_up(&self, hits: u32, misses: u32) {
        if !self.variant.cache {
            return;
        }
        let metrics = self.service.metrics().await;
        let found = ["hitCount", "missCount", "lookupCount"]
            .map(|it| metrics.value(&format!("ratelimit_localcache_{it}"), &[]));
        assert_eq!(found, [hits, misses, hits + misses].map(f64::from));
    }

    /// The counter of `value` of `key` in Redis.
    fn counted(&self, key: &str, value: &str) -> Option<u32> {
        let mut client = self.main.as_ref()?.client();
        let pattern = format!("*{key}={value}|*");
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query(&mut client).unwrap();
        let [key] = &keys[..] else { panic!("{keys:?}") };
        assert_eq!(key.starts_with(PREFIX), self.variant.prefix, "{key}");
        Some(redis::cmd("GET").arg(key).query(&mut client).unwrap())
    }

    /// The number of refusals by the deny cache among `number` calls, of which `first`
    /// was the first.
    fn known(&self, number: u32, first: u32) -> u32 {
        if self.variant.cache { (number + 1).saturating_sub(first) } else { 0 }
    }

    async fn unknown_and_basic(&mut self) {
        let response = decide(&mut self.client, request_for("foo", &[("hello", "world")])).await;
        assert_eq!(response.overall_code(), Code::Ok);
        assert_eq!(response.statuses, [DescriptorStatus { code: 1, ..Default::default() }]);
        self.assert_looked_up(0, 0).await;
        let response =
            decide(&mut self.client, request_for("basic", &[("key1", &unique_value())])).await;
        assert_eq!(states(&response), [(Code::Ok, 49)]);
        assert_eq!(self.counts("basic", "key1", ["total_hits"]).await, [1.0]);
        self.assert_looked_up(0, 1).await;
    }

    /// 25 calls at a limit of 20 per minute.
    async fn one_descriptor(&mut self) {
        let value = unique_value();
        for i in 0..25 {
            let response =
                decide(&mut self.client, request_for("another", &[("key2", &value)])).await;
            let state = if i < 20 { (Code::Ok, 19 - i) } else { (Code::OverLimit, 0) };
            assert_eq!(states(&response), [state], "{i}");
            assert_eq!(response.overall_code(), state.0, "{i}");
            let (within, over) = ((i + 1).min(20), (i + 1).saturating_sub(20));
            let known = self.known(i, 21);
            self.assert_counts("key2", [i + 1, within, within.saturating_sub(16), over, known])
                .await;
            self.assert_looked_up(known, i + 2 - known).await;
        }
        let reached = 25 - self.known(24, 21);
        assert!(self.counted("key2", &value).is_none_or(|it| it == reached));
    }

    /// 15 calls at limits of 20 per minute and 10 per hour.
    async fn two_descriptors(&mut self) {
        let (value, other) = (unique_value(), unique_value());
        let before = self.known(24, 21);
        for i in 0..15 {
            let descriptors: Vec<RateLimitDescriptor> =
                [("key2", &*value), ("key3", &*other)].map(|it| descriptor(&[it])).into();
            let request =
                RateLimitRequest { domain: "another".into(), descriptors, hits_addend: 0 };
            let response = decide(&mut self.client, request).await;
            let first = if self.variant.stop { 19 - i.min(9) } else { 19 - i };
            let second = if i < 10 { (Code::Ok, 9 - i) } else { (Code::OverLimit, 0) };
            assert_eq!(states(&response), [(Code::Ok, first), second], "{i}");
            assert_eq!(response.overall_code(), second.0, "{i}");
            let (within, over) = ((i + 1).min(10), (i + 1).saturating_sub(10));
            let known = self.known(i, 11);
            self.assert_counts("key2", [i + 26, i + 21, 4, 5, before]).await;
            self.assert_counts("key3", [i + 1, within, within.saturating_sub(8), over, known])
                .await;
            let misses = 26 - before + 2 * (i + 1) - known;
            self.assert_looked_up(before + known, misses).await;
        }
        let first = if self.variant.stop { 10 } else { 15 };
        assert!(self.counted("key2", &value).is_none_or(|it| it == first));
        let reached = 15 - self.known(14, 11);
        assert!(self.counted("key3", &other).is_none_or(|it| it == reached));
    }

    /// Checks that the time until the reset decreases.
    async fn until_reset(&mut self) {
        let value = unique_value();
        for seconds in [86_400, 86_399, 86_398] {
            let request = request_for("another", &[("key4", &value)]);
            let response = decide(&mut self.client, request).await;
            let reset = response.statuses[0].duration_until_reset.as_ref().unwrap();
            assert_eq!(reset.seconds, seconds);
            self.clock.advance(1);
        }
    }

    /// Checks that limits per second are on their own server only.
    fn assert_places(&self) {
        let Some(main) = &self.main else { return };
        let basic: Vec<String> =
            redis::cmd("KEYS").arg("*basic*").query(&mut main.client()).unwrap();
        if let Some(seconds) = &self.seconds {
            assert_eq!(basic, [""; 0]);
            assert!(times_asked(seconds) > 0.0);
            let others: Vec<String> =
                redis::cmd("KEYS").arg("*another*").query(&mut seconds.client()).unwrap();
            assert_eq!(others, [""; 0]);
        }
    }
}

fn states(response: &RateLimitResponse) -> Vec<(Code, u32)> {
    let mut states = Vec::new();
    for status in &response.statuses {
        states.push((status.code(), status.limit_remaining));
    }
    states
}

async fn flow(variant: Variant) {
    // Printed if the test fails.
    println!("{variant:?}");
    let mut flow = Flow::begin(variant).await;
    flow.unknown_and_basic().await;
    flow.one_descriptor().await;
    flow.two_descriptors().await;
    flow.assert_places();
    flow.until_reset().await;
}

/// The flow with and without a prefix and a server for limits per second.
async fn flows(cache: bool, stop: bool) {
    for per_second in [false, true] {
        for prefix in [false, true] {
            flow(Variant { redis: true, cache, stop, per_second, prefix }).await;
        }
    }
    if !cache {
        let (per_second, prefix) = (false, false);
        flow(Variant { redis: false, cache, stop, per_second, prefix }).await;
    }
}

#[tokio::test]
async fn the_basic_flow_has_the_counts_of_the_reference() {
    flows(false, false).await;
}

#[tokio::test]
async fn the_basic_flow_with_a_cache_has_the_counts_of_the_reference() {
    flows(true, false).await;
}

#[tokio::test]
async fn the_basic_flow_with_stop_when_over_limit_has_the_counts_of_the_reference() {
    flows(false, true).await;
}

#[tokio::test]
async fn the_basic_flow_with_stop_and_a_cache_has_the_counts_of_the_reference() {
    flows(true, true).await;
}

/// The remaining life of each counter, in seconds.
fn lifetimes(server: &RedisServer) -> Vec<i64> {
    let mut client = server.client();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut client).unwrap();
    let mut lifetimes = Vec::new();
    for key in keys {
        lifetimes.push(redis::cmd("TTL").arg(key).query(&mut client).unwrap());
    }
    lifetimes
}

#[tokio::test]
async fn the_expiry_of_counters_on_both_servers_is_extended_at_random() {
    let variant =
        Variant { redis: true, cache: false, stop: false, per_second: true, prefix: false };
    let mut flow = Flow::begin(variant).await;
    for (domain, key, window) in [("basic", "key1", 1), ("another", "key2", 60)] {
        for _ in 0..30 {
            decide(&mut flow.client, request_for(domain, &[(key, &unique_value())])).await;
        }
        let server = if window == 1 { &flow.seconds } else { &flow.main };
        let lifetimes = lifetimes(server.as_ref().unwrap());
        assert!(lifetimes.iter().all(|it| *it <= 300 + window), "{lifetimes:?}");
        // The probability of a failure is 1 in 10^23.
        assert!(lifetimes.iter().any(|it| 50 + window < *it), "{lifetimes:?}");
    }
}

async fn shared(variant: Variant) {
    let mut flow = Flow::begin(variant).await;
    let value = unique_value();
    for i in 0..10 {
        let files = [("files", &*format!("files/{value}.pdf"))];
        let response = decide(&mut flow.client, request_for("shared", &files)).await;
        assert_eq!(states(&response), [(Code::Ok, 9 - i)], "{i}");
    }
    let other = [("files", &*format!("files/{value}.csv"))];
    let response = decide(&mut flow.client, request_for("shared", &other)).await;
    assert_eq!(states(&response), [(Code::OverLimit, 0)]);
    assert_eq!(response.statuses[0].current_limit.as_ref().unwrap().requests_per_unit, 10);
    for _ in 0..5 {
        let files = [("files_no_share", &*format!("files/{}", unique_value()))];
        let response = decide(&mut flow.client, request_for("shared", &files)).await;
        assert_eq!(states(&response), [(Code::Ok, 9)]);
    }
}

#[tokio::test]
async fn values_that_share_a_threshold_count_together() {
    let none = Variant { redis: true, cache: false, stop: false, per_second: false, prefix: false };
    shared(none).await;
    shared(Variant { cache: true, ..none }).await;
    shared(Variant { redis: false, ..none }).await;
}
