//! What Redis has refused, seen from outside: the same answers, and fewer
//! questions to Redis.

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitResponse, rate_limit_response::Code,
};
use testkit::{
    grpc::{self, Client, request_for},
    http,
    redis::RedisServer,
    tollgate::Tollgate,
    unique_value,
};

const RULES: &str = "
domain: shop
descriptors:
- {key: user, rate_limit: {unit: year, requests_per_unit: 3}}
- {key: token, rate_limit: {unit: year, requests_per_unit: 3, algorithm: token_bucket}}
- {key: login, rate_limit: {unit: year, requests_per_unit: 3, penalty: 1h}}
- {key: watched, shadow_mode: true, rate_limit: {unit: year, requests_per_unit: 3}}
";
const KEYS: [&str; 4] = ["user", "token", "login", "watched"];
const ASKED: u32 = 100;

fn start(redis: &RedisServer, more: &[(&str, &str)]) -> Tollgate {
    let url = redis.url();
    let service = Tollgate::start(RULES, &[more, &[("REDIS_URL", url.as_str())]].concat());
    service.wait_until_ready();
    service
}

/// How often the server was asked about a counter: by a script, or by commands.
pub fn times_asked(redis: &RedisServer) -> f64 {
    let info: String = redis::cmd("INFO").arg("commandstats").query(&mut redis.client()).unwrap();
    let calls = |command: &str| -> f64 {
        let line =
            info.lines().find_map(|it| it.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0.0, |it| it.split(',').next().unwrap().parse().unwrap())
    };
    calls("evalsha") + calls("eval") + calls("incrby")
}

async fn hit(client: &mut Client, key: &str, value: &str) -> RateLimitResponse {
    client.should_rate_limit(request_for("shop", &[(key, value)])).await.unwrap().into_inner()
}

/// Of `key`: all hits, those within, near and over, and those over that Redis
/// was not asked about.
fn statistics(service: &Tollgate, key: &str) -> [f64; 5] {
    let metrics = service.metrics();
    ["total_hits", "within_limit", "near_limit", "over_limit", "over_limit_with_local_cache"].map(
        |statistic| {
            let name = format!("ratelimit_service_rate_limit_{statistic}");
            metrics.value(&name, &[("domain", "shop"), ("key1", key)])
        },
    )
}

#[tokio::test]
async fn redis_is_asked_once_a_second_about_a_key_that_it_refuses() {
    let redis = RedisServer::start();
    let service = start(&redis, &[("LOCAL_CACHE_SIZE_IN_BYTES", "1048576")]);
    let mut client = grpc::connect(service.grpc).await;
    for key in KEYS {
        let (value, before) = (unique_value(), times_asked(&redis));
        for n in 0..ASKED {
            let response = hit(&mut client, key, &value).await;
            let status = &response.statuses[0];
            let refused = n >= 3 && key != "watched";
            let expected = if refused { Code::OverLimit } else { Code::Ok };
            assert_eq!(status.code(), expected, "{key}");
            assert_eq!(response.overall_code(), expected, "{key}");
            assert_eq!(status.limit_remaining, 2_u32.saturating_sub(n), "{key}");
            assert!(status.duration_until_reset.as_ref().unwrap().seconds > 0, "{key}");
        }
        let [total, within, near, over, cached] = statistics(&service, key);
        assert_eq!([total, within, near, over], [100.0, 3.0, 1.0, 97.0], "{key}");
        // On a machine that has other work the requests take several seconds.
        assert!(cached >= 50.0, "{key}: {cached}");
        let asked = times_asked(&redis) - before;
        // The first time the server does not know the script and is asked twice.
        assert!([0.0, 1.0].contains(&(asked - (total - cached))), "{key}: {asked}, {cached}");
    }
    let dotted = http::get(service.debug, "/stats", &[]).text().to_owned();
    assert!(dotted.contains("shop.user.over_limit_with_local_cache: "), "{dotted}");
}

#[tokio::test]
async fn without_a_cache_redis_is_asked_every_time() {
    let redis = RedisServer::start();
    let service = start(&redis, &[]);
    let mut client = grpc::connect(service.grpc).await;
    let value = unique_value();
    hit(&mut client, "user", &value).await;
    let before = times_asked(&redis);
    for _ in 1..ASKED {
        hit(&mut client, "user", &value).await;
    }
    assert_eq!(times_asked(&redis) - before, 99.0);
    assert_eq!(statistics(&service, "user"), [100.0, 3.0, 1.0, 97.0, 0.0]);
}
