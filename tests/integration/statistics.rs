//! statsd, DogStatsD and Prometheus receive every hit exactly once.

use std::net::{TcpListener, TcpStream};
use testkit::{
    grpc::{self, Client, descriptor, request_for, with_hits},
    http,
    network::unused_address,
    prometheus::Metrics,
    redis::RedisServer,
    statsd::{Statistics, StatsdServer},
    tollgate::Tollgate,
    unique_value,
    wait::eventually,
};

const RULES: &str = "
domain: shop
descriptors:
- {key: user, rate_limit: {unit: year, requests_per_unit: 10}}
- {key: second, rate_limit: {unit: second, requests_per_unit: 10}}
- key: plan
  descriptors:
  - {key: user, rate_limit: {unit: year, requests_per_unit: 10}}
- {key: path, detailed_metric: true, rate_limit: {unit: year, requests_per_unit: 10}}
";
/// The rules of the test of the reference service, with windows that do not end during
/// the test.
const ANOTHER: &str = "
domain: another
descriptors:
- {key: key2, rate_limit: {unit: year, requests_per_unit: 20}}
- {key: key3, rate_limit: {unit: year, requests_per_unit: 10}}
";
const BASIC: &str = "
domain: basic
descriptors:
- {key: key1, rate_limit: {unit: second, requests_per_unit: 50}}
";
const SOON: &str = "100ms";
/// Longer than a test.
const NEVER: &str = "1h";
const RULE: &str = "ratelimit.service.rate_limit";

/// The settings for a statsd server.
struct At {
    host: String,
    port: String,
}

impl At {
    fn new(address: std::net::SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port().to_string() }
    }

    fn start(&self, rules: &str, more: &[(&str, &str)]) -> Tollgate {
        let own =
            [("STATSD_HOST", &*self.host), ("STATSD_PORT", &self.port), ("DRAIN_DELAY", "0s")];
        Tollgate::start(rules, &[&own, more].concat())
    }
}

async fn hit(client: &mut Client, times: u32, entries: &[(&str, &str)]) {
    for _ in 0..times {
        client.should_rate_limit(request_for("shop", entries)).await.unwrap();
    }
}

fn count(sums: &Statistics, name: &str) -> u64 {
    sums.get(name).map_or(0, |it| it.count)
}

/// Waits until the counts or the numbers of timings are `expected`. The lines of one
/// flush may arrive at different times.
fn until(sink: &StatsdServer, expected: &[(&str, u64)]) -> Statistics {
    sink.wait_until(&format!("{expected:?}"), |sums| {
        expected.iter().all(|(name, count)| {
            sums.get(*name).map_or(0, |found| found.count + found.timings) == *count
        })
    })
}

const TOTAL: &str = "ratelimit.service.rate_limit.shop.user.total_hits";
const REQUESTS: &str = "ratelimit_server.ShouldRateLimit.total_requests";
const TIMES: &str = "ratelimit_server.ShouldRateLimit.response_time";

/// The statistics of a rule: all hits, within, near and over the limit.
fn counts(sums: &Statistics, rule: &str) -> [u64; 4] {
    ["total_hits", "within_limit", "near_limit", "over_limit"]
        .map(|it| count(sums, &format!("{RULE}.{rule}.{it}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hit_is_sent_once_although_the_connection_is_closed() {
    let at = unused_address();
    let mut service = At::new(at).start(RULES, &[("STATS_FLUSH_INTERVAL", SOON)]);
    let mut client = grpc::connect(service.grpc).await;
    let value = unique_value();
    let user = [("user", value.as_str())];
    hit(&mut client, 12, &user).await;
    let warning = format!("cannot send statistics to {at} by TCP");
    eventually("a warning", || service.log().contains(&warning));
    hit(&mut client, 1, &user).await;

    let sink = StatsdServer::tcp(at);
    let all = |hits| until(&sink, &[(TOTAL, hits), (REQUESTS, hits), (TIMES, hits)]);
    all(13);
    assert_eq!(sink.close_connections(), 1);
    hit(&mut client, 7, &user).await;
    all(20);
    hit(&mut client, 5, &user).await;
    service.stop();
    let sums = all(25);
    sink.wait_until("the others", |it| counts(it, "shop.user") == [25, 10, 2, 15]);
    assert_eq!(sums["tollgate.rules"].gauge, Some(4.0));
    assert_eq!(count(&sums, "ratelimit.service.config_load_success"), 1);
    assert_eq!(count(&sums, "runtime.load_attempts"), 1);
    let failures = service.log().matches(&warning).count();
    assert_eq!(failures, 1, "a failure that goes on is logged once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_statistics_are_sent_at_shutdown() {
    let at = unused_address();
    let sinks = [StatsdServer::tcp(at), StatsdServer::udp(at)];
    let settings =
        [("STATS_FLUSH_INTERVAL", NEVER), ("USE_STATSD", "true"), ("USE_DOG_STATSD", "true")];
    let mut service = At::new(at).start(RULES, &settings);
    let mut client = grpc::connect(service.grpc).await;
    hit(&mut client, 12, &[("user", &unique_value())]).await;
    // A removed rule has counted as well.
    service.replace_rules("rules.yaml", "domain: shop");
    let loaded = || service.metric("tollgate_rules") == 0.0;
    eventually("new rules", loaded);
    assert_eq!(sinks.each_ref().map(|it| it.lines().len()), [0, 0]);
    service.stop();
    for sink in &sinks {
        sink.wait_until("the last ones", |it| counts(it, "shop.user") == [12, 10, 2, 2]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_server_does_not_delay_anything() {
    for host in ["nowhere.invalid", "127.0.0.9"] {
        let settings = [("STATSD_HOST", host), ("STATSD_PORT", "1"), ("DRAIN_DELAY", "0s")];
        let more = [("STATS_FLUSH_INTERVAL", SOON), ("USE_STATSD", "1"), ("USE_DOG_STATSD", "1")];
        let mut service = Tollgate::start(RULES, &[settings, more].concat());
        eventually("a warning", || service.log().contains("cannot send statistics"));
        let mut client = grpc::connect(service.grpc).await;
        hit(&mut client, 1, &[("user", &unique_value())]).await;
        assert_eq!(http::get(service.http, "/healthcheck", &[]).status, 200);
        service.stop();
    }
}

/// The requests and results of the test of the reference service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_numbers_are_those_of_the_reference_service() {
    let (redis, sink) = (RedisServer::start(), StatsdServer::tcp(unused_address()));
    let settings = [
        ("EXTRA_TAGS", "foo:bar,a:b"),
        ("STATS_FLUSH_INTERVAL", SOON),
        ("REDIS_URL", &redis.url()),
        ("LOCAL_CACHE_SIZE_IN_BYTES", "1000000"),
    ];
    let service = At::new(sink.address).start(ANOTHER, &settings);
    service.replace_rules("basic.yaml", BASIC);
    let ready = || service.metrics();
    eventually("all rules", || {
        let tags = [("a", "b"), ("foo", "bar")];
        ready().value("tollgate_rules", &tags) == 3.0
    });
    let mut client = grpc::connect(service.grpc).await;
    let mut call = async |domain: &str, descriptors: &[(&str, &str)]| {
        let mut request = request_for(domain, &[]);
        request.descriptors = descriptors.iter().map(|it| descriptor(&[*it])).collect();
        client.should_rate_limit(request).await.unwrap();
    };
    call("foo", &[("key1", &unique_value())]).await;
    call("basic", &[("key1", &unique_value())]).await;
    let value = unique_value();
    for _ in 0..25 {
        call("another", &[("key2", &value)]).await;
    }
    let values = [unique_value(), unique_value()];
    for _ in 0..15 {
        call("another", &[("key2", &values[0]), ("key3", &values[1])]).await;
    }
    let name = |it: &str| format!("{it}.__a=b.__foo=bar");
    let metrics = service.metrics();
    let cached = "over_limit_with_local_cache";
    let labels = [("domain", "another"), ("key1", "key2"), ("a", "b"), ("foo", "bar")];
    let known = metrics.value(&format!("ratelimit_service_rate_limit_{cached}"), &labels);
    let known = [1_u32, 2, 3, 4].into_iter().find(|it| f64::from(*it) == known).unwrap();
    let expected = [
        ("ratelimit.service.rate_limit.basic.key1.total_hits", 1),
        ("ratelimit.service.rate_limit.basic.key1.over_limit", 0),
        ("ratelimit.service.rate_limit.another.key2.total_hits", 40),
        ("ratelimit.service.rate_limit.another.key2.over_limit", 5),
        ("ratelimit.service.rate_limit.another.key2.over_limit_with_local_cache", known.into()),
        ("ratelimit.service.rate_limit.another.key3.total_hits", 15),
        ("ratelimit.service.rate_limit.another.key3.over_limit", 5),
        ("ratelimit.redis_pool.cx_total", 1),
        (REQUESTS, 42),
    ];
    let expected = expected.map(|(it, hits)| (name(it), hits));
    let sums = until(&sink, &expected.each_ref().map(|(name, hits)| (name.as_str(), *hits)));
    assert_eq!(sums[&name("ratelimit.redis_pool.cx_active")].gauge, Some(1.0));
    assert!(sums.contains_key(&name("ratelimit.localcache.hitCount")));
    // Refusals by the deny cache are not counted twice.
    assert_eq!(metrics.value("ratelimit_service_rate_limit_over_limit", &labels), 5.0);
}

const MOGRIFIER: [(&str, &str); 4] = [
    ("USE_DOG_STATSD_MOGRIFIERS", "RULE"),
    ("DOG_STATSD_MOGRIFIER_RULE_PATTERN", r"^ratelimit\.service\.rate_limit\.(.*?)\.(.*)\.(.*?)$"),
    ("DOG_STATSD_MOGRIFIER_RULE_NAME", "limit.$3"),
    ("DOG_STATSD_MOGRIFIER_RULE_TAGS", "domain:$1,rule:$2"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statsd_dogstatsd_and_prometheus_receive_the_same() {
    let at = unused_address();
    let (tcp, udp) = (StatsdServer::tcp(at), StatsdServer::udp(at));
    let more = [
        ("STATS_FLUSH_INTERVAL", SOON),
        ("USE_STATSD", "true"),
        ("USE_DOG_STATSD", "true"),
        ("USE_PROMETHEUS", "true"),
        ("PROMETHEUS_PATH", "/a/{b}"),
        ("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", "true"),
        ("EXTRA_TAGS", "version:1.2"),
    ];
    let service = At::new(at).start(RULES, &[&more[..], &MOGRIFIER].concat());
    let mut client = grpc::connect(service.grpc).await;
    hit(&mut client, 12, &[("plan", "a"), ("user", &unique_value())]).await;

    let tagged = format!("{RULE}.shop.plan.user.total_hits.__version=1_2");
    until(&tcp, &[(&tagged, 12), (&format!("{TIMES}.__version=1_2"), 12)]);
    let sums = until(&udp, &[("limit.total_hits", 12), ("limit.over_limit", 2), (TIMES, 12)]);
    assert_eq!(sums["limit.total_hits"].tags, "version:1_2,domain:shop,rule:plan.user");
    assert_eq!(sums[TIMES].tags, "version:1_2");

    service.wait_for_prometheus();
    let port = service.prometheus;
    let metrics = Metrics::scrape(port, "/a/{b}");
    let labels = [("domain", "shop"), ("key1", "plan"), ("key2", "user"), ("tag_version", "1.2")];
    assert_eq!(metrics.value("ratelimit_service_rate_limit_total_hits", &labels), 12.0);
    assert_eq!(metrics.value("ratelimit_service_rate_limit_over_limit", &labels), 2.0);
    let time = |name: &str, le: &[(&str, &str)]| {
        let own = [("grpc_method", "ShouldRateLimit"), ("tag_version", "1.2")];
        let name = format!("ratelimit_service_response_time_seconds_{name}");
        metrics.value(&name, &[&own, le].concat())
    };
    assert_eq!(time("count", &[]), 12.0);
    assert_eq!(time("bucket", &[("le", "10000")]), 12.0);
    // In milliseconds every call exceeds 0.005, so the bound is not in seconds.
    assert_eq!(time("bucket", &[("le", "0.005")]), 0.0);
    for path in ["/metrics", "/", "/json"] {
        assert_eq!(http::get(port, path, &[]).status, 404, "{path}");
    }
    let own = service.metrics();
    assert_eq!(own.value("ratelimit_service_rate_limit_total_hits", &labels), 12.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_cannot_forge_lines_or_long_packets() {
    let at = unused_address();
    let sinks = [StatsdServer::tcp(at), StatsdServer::udp(at)];
    let settings =
        [("STATS_FLUSH_INTERVAL", NEVER), ("USE_STATSD", "true"), ("USE_DOG_STATSD", "true")];
    let mut service = At::new(at).start(RULES, &[&settings[..], &[("EXTRA_TAGS", "a:b")]].concat());
    let mut client = grpc::connect(service.grpc).await;
    let long = [900, 950, 1_100, 100_000].map(|it| "x".repeat(it));
    let nasty = ["a:1|c\nforged:1|c", "a|#forged:1", ",forged=1", "#forged=1", "[forged=1]"];
    let nasty = nasty.into_iter().chain([".__forged=1", "\u{0}\r\n", "ü", "1.2.3.4"]);
    let values: Vec<_> = nasty.chain(long.iter().map(String::as_str)).collect();
    for value in &values {
        hit(&mut client, 1, &[("path", value)]).await;
    }
    service.stop();
    for sink in &sinks {
        let hits = |sums: &Statistics| {
            let hits = sums.iter().filter(|(name, _)| name.contains(".total_hits"));
            hits.map(|(_, sum)| sum.count).sum::<u64>()
        };
        let all = values.len() as u64;
        let sums = sink.wait_until("all hits", |it| hits(it) == all);
        for (name, sum) in &sums {
            let known = ["ratelimit.", "ratelimit_server.", "tollgate.", "runtime."];
            assert!(known.iter().any(|it| name.starts_with(it)), "{name:?}");
            let tags = (name.ends_with(".__a=b"), sum.tags.as_str());
            assert!([(true, ""), (false, "a:b")].contains(&tags), "{name:?} {tags:?}");
            assert_eq!(name.matches(".__").count(), usize::from(tags.0), "{name:?}");
        }
        let packets = sink.packets();
        assert!(packets.iter().all(|it| *it < 1_432), "{packets:?}");
    }
    assert!(sinks[1].packets().len() > 3, "{:?}", sinks[1].packets());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_requests_are_counted_exactly() {
    let sink = StatsdServer::udp(unused_address());
    let udp = [("STATSD_PROTOCOL", "udp"), ("STATS_FLUSH_INTERVAL", SOON)];
    let service = At::new(sink.address).start(RULES, &udp);
    let mut client = grpc::connect(service.grpc).await;
    let value = unique_value();
    for hits in [9, 4_000_000_000, 0, 1] {
        let mut request = request_for("shop", &[]);
        request.descriptors = vec![with_hits(descriptor(&[("user", &value)]), hits)];
        client.should_rate_limit(request).await.unwrap();
    }
    let total = |it: &Statistics| counts(it, "shop.user")[0] == 4_000_000_010;
    sink.wait_until("all hits", |it| total(it));
}

#[test]
fn a_port_for_prometheus_in_use_is_an_error() {
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for host in ["", "127.0.0.1", "0.0.0.0", "[::]"] {
        let address = format!("{host}:{port}");
        let settings = [("USE_PROMETHEUS", "true"), ("PROMETHEUS_ADDR", address.as_str())];
        let mut process = Tollgate::launch(RULES, &settings);
        assert!(!process.wait_for_exit().success(), "{address}");
        let shown = if host.is_empty() { format!("[::]:{port}") } else { address };
        let expected =
            format!("cannot listen for Prometheus on {shown}, as PROMETHEUS_ADDR has it");
        assert!(process.log().contains(&expected), "{}", process.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disabled_statistics_are_not_sent_but_shown_on_pages() {
    let at = unused_address();
    let sinks = [StatsdServer::tcp(at), StatsdServer::udp(at)];
    let settings = [
        ("DISABLE_STATS", "true"),
        ("STATS_FLUSH_INTERVAL", SOON),
        ("USE_STATSD", "true"),
        ("USE_DOG_STATSD", "true"),
        ("USE_PROMETHEUS", "true"),
    ];
    let mut service = At::new(at).start(RULES, &settings);
    let mut client = grpc::connect(service.grpc).await;
    hit(&mut client, 3, &[("user", &unique_value())]).await;
    assert!(TcpStream::connect(service.prometheus).is_err(), "the listener is open");
    let labels = [("domain", "shop"), ("key1", "user")];
    let name = "ratelimit_service_rate_limit_total_hits";
    assert_eq!(service.metrics().value(name, &labels), 3.0);
    let stats = http::get(service.debug, "/stats", &[]).text();
    assert!(stats.contains("ratelimit.service.rate_limit.shop.user.total_hits: 3\n"), "{stats}");
    assert!(stats.contains("\nruntime.load_attempts: 1\n"), "{stats}");
    service.stop();
    assert_eq!(sinks.each_ref().map(|it| it.lines().len()), [0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_redis_are_counted() {
    let (mut main, second) = (RedisServer::start(), RedisServer::start());
    let settings = [
        ("REDIS_URL", main.url()),
        ("REDIS_PERSECOND", "true".to_owned()),
        ("REDIS_PERSECOND_URL", second.url()),
    ];
    let service = Tollgate::start(RULES, &settings.each_ref().map(|(k, v)| (*k, v.as_str())));
    let pool = |metrics: &Metrics, pool: &str| {
        ["cx_active", "cx_total", "cx_local_close"]
            .map(|it| metrics.value(&format!("ratelimit_{pool}_{it}"), &[]))
    };
    let until = |expected: [f64; 3]| {
        eventually("the numbers", || pool(&service.metrics(), "redis_pool") == expected);
    };
    until([1.0, 1.0, 0.0]);
    main.stop();
    until([0.0, 1.0, 1.0]);
    main.restart();
    until([1.0, 2.0, 1.0]);
    let silent = || service.metric("tollgate_redis_silent");
    assert_eq!(silent(), 0.0);
    // The server does not reply.
    main.suspend();
    let mut client = grpc::connect(service.grpc).await;
    let call = tokio::spawn(async move { hit(&mut client, 1, &[("user", &unique_value())]).await });
    eventually("silence", || silent() == 1.0);
    main.resume();
    call.await.unwrap();
    let metrics = service.metrics();
    assert_eq!(pool(&metrics, "redis_per_second_pool"), [1.0, 1.0, 0.0]);
    assert_eq!(metrics.value("tollgate_redis_per_second_waiting", &[]), 0.0);
}

/// A StatsD server that keeps the last value of a gauge would show no counters after a
/// restart.
#[tokio::test]
async fn the_last_delivery_has_the_true_gauges() {
    let at = unused_address();
    let server = StatsdServer::tcp(at);
    let settings = [("USE_STATSD", "true"), ("STATS_FLUSH_INTERVAL", NEVER)];
    let mut service = At::new(at).start(RULES, &settings);
    let mut client = grpc::connect(service.grpc).await;
    client.should_rate_limit(request_for("shop", &[("user", "ann")])).await.unwrap();
    service.terminate();
    service.wait_for_exit();
    server.wait_until("the last delivery", |found| found.contains_key("tollgate.memory_counters"));
    let mut gauges = server.lines();
    gauges.retain(|line| line.starts_with("tollgate.memory_counters:"));
    assert_eq!(gauges, ["tollgate.memory_counters:1|g"]);
}
