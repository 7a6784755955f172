//! The deny cache, as clients and operators see it: the same answers, and fewer calls to
//! Redis.

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitResponse, rate_limit_response::Code,
};
use testkit::{
    grpc::{self, Client, request_for},
    http,
    redis::RedisServer,
    redis_node::command_calls,
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

/// The number of calls to Redis that charge a counter.
pub fn times_asked(redis: &RedisServer) -> f64 {
    let mut client = redis.client();
    let mut calls = 0;
    for command in ["evalsha", "eval", "incrby"] {
        calls += command_calls(&mut client, command);
    }
    calls.into()
}

async fn hit(client: &mut Client, key: &str, value: &str) -> RateLimitResponse {
    grpc::decide(client, request_for("shop", &[(key, value)])).await
}

/// The statistics of a rule: all hits, within, near and over the limit, and over the
/// limit by the deny cache.
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
async fn redis_is_called_once_a_second_for_a_key_over_its_limit() {
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
        // On a busy machine the requests take several seconds.
        assert!(cached >= 50.0, "{key}: {cached}");
        let asked = times_asked(&redis) - before;
        // The first call of a script is repeated, as the server does not know it.
        assert!([0.0, 1.0].contains(&(asked - (total - cached))), "{key}: {asked}, {cached}");
    }
    let dotted = http::get(service.debug, "/stats", &[]).text().to_owned();
    assert!(dotted.contains("shop.user.over_limit_with_local_cache: "), "{dotted}");
}

#[tokio::test]
async fn without_the_cache_redis_is_called_for_each_request() {
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
