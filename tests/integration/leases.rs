//! Prefetched hits of several instances that share a Redis.

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use testkit::{
    grpc::{self, Client, request_for},
    redis::RedisServer,
    tollgate::Tollgate,
};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 3000, accuracy: { lease: 10% } }
";

fn start(settings: &[(&str, &str)]) -> Tollgate {
    let patient = [("STORE_DEADLINE", "10s"), ("DRAIN_DELAY", "0s")];
    let service = Tollgate::start(RULES, &[&patient[..], settings].concat());
    service.wait_until_ready();
    service
}

/// Sends `calls` requests with one hit, and returns how many pass.
async fn hit(client: &mut Client, calls: usize) -> usize {
    let mut passed = 0;
    for _ in 0..calls {
        let answer =
            client.should_rate_limit(request_for("shop", &[("user", "ann")])).await.unwrap();
        passed += usize::from(answer.into_inner().overall_code() == Code::Ok);
    }
    passed
}

/// The hits that Redis has counted.
fn counted(redis: &RedisServer) -> usize {
    let mut redis = redis.client();
    let keys: Vec<String> = ::redis::cmd("KEYS").arg("*").query(&mut redis).unwrap();
    ::redis::cmd("GET").arg(&keys).query(&mut redis).unwrap()
}

/// Sends requests until the service has prefetched hits that it has not used, which depends on
/// the rate of the requests. Returns how many passed.
async fn hit_until_prefetched(client: &mut Client, redis: &RedisServer) -> usize {
    let mut used = 0;
    while used == 0 || counted(redis) <= used + 10 {
        used += hit(client, 50).await;
        assert!(used < 2_000, "nothing is taken ahead");
    }
    used
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn unused_prefetched_hits_are_refunded_at_shutdown() {
    let redis = RedisServer::start();
    let address = redis.url();
    let settings = [("REDIS_URL", address.as_str())];
    let [mut ends, stays] = [(); 2].map(|()| start(&settings));
    let mut client = grpc::connect(ends.grpc).await;
    let used = hit_until_prefetched(&mut client, &redis).await;
    drop(client);
    ends.stop();
    assert_eq!(counted(&redis), used, "{}", ends.log());
    assert!(ends.log().contains("unused prefetched hits"), "{}", ends.log());

    let mut client = grpc::connect(stays.grpc).await;
    assert_eq!(hit(&mut client, 3_000 - used + 10).await, 3_000 - used);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_failed_refund_at_shutdown_is_logged_and_delays_the_end_little() {
    let mut redis = RedisServer::start();
    let address = redis.url();
    let mut service = start(&[("REDIS_URL", &address)]);
    let mut client = grpc::connect(service.grpc).await;
    hit_until_prefetched(&mut client, &redis).await;
    drop(client);
    redis.stop();
    service.stop();
    let log = service.log();
    let said = log.lines().filter(|it| it.contains("count as used until their windows end"));
    assert_eq!(said.count(), 1, "{log}");
}
