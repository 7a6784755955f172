//! The flow of the integration tests of the reference service, with its settings and
//! counts.

use std::{
    fs,
    time::{Duration, Instant},
};

use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::RateLimitDescriptor,
    service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse, rate_limit_response::Code,
        rate_limit_response::DescriptorStatus,
    },
};
use tempfile::TempDir;

use super::deny_cache::times_asked;
use testkit::{
    current_minute,
    grpc::{self, Client, descriptor, request_for},
    redis::RedisServer,
    tollgate::Tollgate,
    unique_value,
    wait::eventually_async,
};

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
/// The lifetime of a cached refusal.
const BELIEVED: Duration = Duration::from_secs(1);
/// The maximum of attempts on a busy machine.
const TRIES: usize = 50;

/// A window has ended, or a cached refusal may have expired: the counts are not
/// comparable.
#[derive(Debug)]
struct Late;

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
    service: Tollgate,
    main: Option<RedisServer>,
    seconds: Option<RedisServer>,
    minute: i64,
    /// The earliest time at which a refusal that the flow relies on was cached.
    remembered: Option<Instant>,
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

impl Flow {
    async fn begin(variant: Variant) -> Self {
        let files = files();
        let server = |wanted: bool| wanted.then(RedisServer::start);
        let (main, seconds) = (server(variant.redis), server(variant.per_second));
        let url = |it: &Option<RedisServer>| {
            it.as_ref().map_or(String::new(), |it| format!("127.0.0.1:{}", it.port()))
        };
        let (main_url, seconds_url) = (url(&main), url(&seconds));
        let switch = |it: bool| if it { "true" } else { "false" };
        let root = files.path().display().to_string();
        let service = Tollgate::start(
            "",
            &[
                ("TOLLGATE_CONFIG", ""),
                ("RUNTIME_ROOT", &root),
                ("RUNTIME_SUBDIRECTORY", "ratelimit"),
                ("RUNTIME_APPDIRECTORY", "config"),
                ("REDIS_SOCKET_TYPE", if variant.redis { "tcp" } else { "" }),
                ("REDIS_PERSECOND_SOCKET_TYPE", if variant.per_second { "tcp" } else { "" }),
                ("REDIS_URL", &main_url),
                ("REDIS_PERSECOND_URL", &seconds_url),
                ("REDIS_PERSECOND", switch(variant.per_second)),
                ("CACHE_KEY_PREFIX", if variant.prefix { PREFIX } else { "" }),
                ("LOCAL_CACHE_SIZE_IN_BYTES", if variant.cache { "1000" } else { "0" }),
                ("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", switch(variant.stop)),
                ("EXPIRATION_JITTER_MAX_SECONDS", "300"),
            ],
        );
        service.wait_until_ready();
        let client = grpc::connect(service.grpc).await;
        let (minute, remembered) = (current_minute(), None);
        Self { variant, client, service, main, seconds, minute, remembered, _files: files }
    }

    async fn call(&mut self, request: RateLimitRequest) -> Result<RateLimitResponse, Late> {
        let response = self.client.should_rate_limit(request).await.unwrap().into_inner();
        let forgotten = self.remembered.is_some_and(|it| BELIEVED <= it.elapsed());
        if current_minute() == self.minute && !forgotten { Ok(response) } else { Err(Late) }
    }

    /// The values of statistics of a rule.
    fn counts<const N: usize>(&self, domain: &str, key: &str, statistics: [&str; N]) -> [f64; N] {
        let metrics = self.service.metrics();
        statistics.map(|it| {
            let name = format!("ratelimit_service_rate_limit_{it}");
            metrics.value(&name, &[("domain", domain), ("key1", key)])
        })
    }

    /// Checks the hits: all, within, near, over, and over by the deny cache.
    #[track_caller]
    fn assert_counts(&self, key: &str, expected: [u32; 5]) {
        let statistics = [
            "total_hits",
            "within_limit",
            "near_limit",
            "over_limit",
            "over_limit_with_local_cache",
        ];
        let found = self.counts("another", key, statistics);
        assert_eq!(found, expected.map(f64::from), "{key}");
    }

    /// Checks the lookups of the deny cache.
    #[track_caller]
    fn assert_looked_up(&self, hits: u32, misses: u32) {
        if !self.variant.cache {
            return;
        }
        let metrics = self.service.metrics();
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

    async fn unknown_and_basic(&mut self) -> Result<(), Late> {
        let response = self.call(request_for("foo", &[("hello", "world")])).await?;
        assert_eq!(response.overall_code(), Code::Ok);
        assert_eq!(response.statuses, [DescriptorStatus { code: 1, ..Default::default() }]);
        self.assert_looked_up(0, 0);
        let response = self.call(request_for("basic", &[("key1", &unique_value())])).await?;
        assert_eq!(states(&response), [(Code::Ok, 49)]);
        assert_eq!(self.counts("basic", "key1", ["total_hits"]), [1.0]);
        self.assert_looked_up(0, 1);
        Ok(())
    }

    /// 25 calls at a limit of 20 per minute.
    async fn one_descriptor(&mut self) -> Result<(), Late> {
        let value = unique_value();
        for i in 0..25 {
            if i == 20 {
                self.remembered = Some(Instant::now());
            }
            let response = self.call(request_for("another", &[("key2", &value)])).await?;
            let state = if i < 20 { (Code::Ok, 19 - i) } else { (Code::OverLimit, 0) };
            assert_eq!(states(&response), [state], "{i}");
            assert_eq!(response.overall_code(), state.0, "{i}");
            let (within, over) = ((i + 1).min(20), (i + 1).saturating_sub(20));
            let known = self.known(i, 21);
            self.assert_counts("key2", [i + 1, within, within.saturating_sub(16), over, known]);
            self.assert_looked_up(known, i + 2 - known);
        }
        self.remembered = None;
        let reached = 25 - self.known(24, 21);
        assert!(self.counted("key2", &value).is_none_or(|it| it == reached));
        Ok(())
    }

    /// 15 calls at limits of 20 per minute and 10 per hour.
    async fn two_descriptors(&mut self) -> Result<(), Late> {
        let (value, other) = (unique_value(), unique_value());
        let before = self.known(24, 21);
        for i in 0..15 {
            if i == 10 {
                self.remembered = Some(Instant::now());
            }
            let descriptors: Vec<RateLimitDescriptor> =
                [("key2", &*value), ("key3", &*other)].map(|it| descriptor(&[it])).into();
            let request =
                RateLimitRequest { domain: "another".into(), descriptors, hits_addend: 0 };
            let response = self.call(request).await?;
            let first = if self.variant.stop { 19 - i.min(9) } else { 19 - i };
            let second = if i < 10 { (Code::Ok, 9 - i) } else { (Code::OverLimit, 0) };
            assert_eq!(states(&response), [(Code::Ok, first), second], "{i}");
            assert_eq!(response.overall_code(), second.0, "{i}");
            let (within, over) = ((i + 1).min(10), (i + 1).saturating_sub(10));
            let known = self.known(i, 11);
            self.assert_counts("key2", [i + 26, i + 21, 4, 5, before]);
            self.assert_counts("key3", [i + 1, within, within.saturating_sub(8), over, known]);
            let misses = 26 - before + 2 * (i + 1) - known;
            self.assert_looked_up(before + known, misses);
        }
        self.remembered = None;
        let first = if self.variant.stop { 10 } else { 15 };
        assert!(self.counted("key2", &value).is_none_or(|it| it == first));
        let reached = 15 - self.known(14, 11);
        assert!(self.counted("key3", &other).is_none_or(|it| it == reached));
        Ok(())
    }

    /// Checks that the time until the reset decreases.
    async fn until_reset(&mut self) -> Result<(), Late> {
        let value = unique_value();
        let mut reset = async || {
            let response = self.call(request_for("another", &[("key4", &value)])).await?;
            Ok(response.statuses[0].duration_until_reset.as_ref().unwrap().seconds)
        };
        let first = reset().await?;
        assert!((1..=86_400).contains(&first));
        eventually_async("a shorter time until the reset", async || match reset().await {
            Ok(now) => {
                assert!(now <= first);
                (now < first).then_some(Ok(()))
            }
            Err(late) => Some(Err(late)),
        })
        .await
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
    response.statuses.iter().map(|it| (it.code(), it.limit_remaining)).collect()
}

async fn attempt(variant: Variant) -> Result<(), Late> {
    let mut flow = Flow::begin(variant).await;
    flow.unknown_and_basic().await?;
    flow.one_descriptor().await?;
    flow.two_descriptors().await?;
    flow.assert_places();
    flow.until_reset().await
}

/// The flow with and without a prefix and a server for limits per second.
async fn flows(cache: bool, stop: bool) {
    let switch = [false, true];
    let mut variants = Vec::new();
    for (per_second, prefix) in switch.into_iter().flat_map(|it| switch.map(|other| (it, other))) {
        variants.push(Variant { redis: true, cache, stop, per_second, prefix });
    }
    if !cache {
        variants.push(Variant { redis: false, per_second: false, ..variants[0] });
    }
    for variant in variants {
        // Printed if the test fails.
        println!("{variant:?}");
        let mut tries = 1;
        while let Err(Late) = attempt(variant).await {
            assert!(tries < TRIES, "each of {TRIES} tries took too long");
            tries += 1;
        }
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
    keys.iter().map(|it| redis::cmd("TTL").arg(it).query(&mut client).unwrap()).collect()
}

#[tokio::test]
async fn the_expiry_of_counters_on_both_servers_is_extended_at_random() {
    let variant =
        Variant { redis: true, cache: false, stop: false, per_second: true, prefix: false };
    let mut flow = Flow::begin(variant).await;
    for (domain, key, window) in [("basic", "key1", 1), ("another", "key2", 60)] {
        for _ in 0..30 {
            flow.client
                .should_rate_limit(request_for(domain, &[(key, &unique_value())]))
                .await
                .unwrap();
        }
        let server = if window == 1 { &flow.seconds } else { &flow.main };
        let lifetimes = lifetimes(server.as_ref().unwrap());
        assert!(lifetimes.iter().all(|it| *it <= 300 + window), "{lifetimes:?}");
        // The probability of a failure is 1 in 10^23.
        assert!(lifetimes.iter().any(|it| 50 + window < *it), "{lifetimes:?}");
    }
}

async fn shared(variant: Variant) -> Result<(), Late> {
    let mut flow = Flow::begin(variant).await;
    let value = unique_value();
    for i in 0..10 {
        let files = [("files", &*format!("files/{value}.pdf"))];
        let response = flow.call(request_for("shared", &files)).await?;
        assert_eq!(states(&response), [(Code::Ok, 9 - i)], "{i}");
    }
    let other = [("files", &*format!("files/{value}.csv"))];
    let response = flow.call(request_for("shared", &other)).await?;
    assert_eq!(states(&response), [(Code::OverLimit, 0)]);
    assert_eq!(response.statuses[0].current_limit.as_ref().unwrap().requests_per_unit, 10);
    for _ in 0..5 {
        let files = [("files_no_share", &*format!("files/{}", unique_value()))];
        let response = flow.call(request_for("shared", &files)).await?;
        assert_eq!(states(&response), [(Code::Ok, 9)]);
    }
    Ok(())
}

#[tokio::test]
async fn values_that_share_a_threshold_count_together() {
    let none = Variant { redis: true, cache: false, stop: false, per_second: false, prefix: false };
    for variant in [none, Variant { cache: true, ..none }, Variant { redis: false, ..none }] {
        let mut tries = 1;
        while let Err(Late) = shared(variant).await {
            assert!(tries < TRIES, "each of {TRIES} tries took too long");
            tries += 1;
        }
    }
}
