//! Several instances under load count every hit once, and let exactly as many requests
//! pass as the limit allows.

use std::collections::HashMap;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use testkit::{
    grpc::{self, request_for},
    redis::RedisServer,
    redis_cluster::Cluster,
    tollgate::Tollgate,
};
use tokio::task::JoinSet;

use crate::suite::EXCLUSIVE;

const LIMIT: u32 = 1_000_000;
const SMALL_LIMIT: usize = 100;
const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 1000000 }
- key: small
  rate_limit: { unit: year, requests_per_unit: 100 }
- key: small_bucket
  rate_limit: { unit: year, requests_per_unit: 100, algorithm: token_bucket }
";

const CALLERS: usize = 48;

#[derive(Clone, Copy)]
struct Answer {
    passed: bool,
    remaining: u32,
}

/// Sends `calls` requests from each caller, for random ones of `values` values of `key`.
/// Returns the answers by value.
async fn load(
    services: &[Tollgate],
    key: &'static str,
    values: usize,
    calls: usize,
) -> HashMap<usize, Vec<Answer>> {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let mut client = grpc::connect(services[caller % services.len()].grpc).await;
        callers.spawn(async move {
            let (mut answers, mut number) = (Vec::new(), caller);
            for _ in 0..calls {
                number = (number * 31 + 7 * caller + 1) % 1_000_003;
                let value = number % values;
                let request = request_for("shop", &[(key, &format!("v{value}"))]);
                let response = grpc::decide(&mut client, request).await;
                let passed = response.overall_code() == Code::Ok;
                let remaining = response.statuses[0].limit_remaining;
                answers.push((value, Answer { passed, remaining }));
            }
            answers
        });
    }
    let mut all: HashMap<usize, Vec<Answer>> = HashMap::new();
    while let Some(answers) = callers.join_next().await {
        for (value, answer) in answers.unwrap() {
            all.entry(value).or_default().push(answer);
        }
    }
    all
}

async fn check(backend: &str, settings: &[(&str, &str)]) {
    let settings = [&[("LOCAL_CACHE_SIZE_IN_BYTES", "1048576")], settings].concat();
    let services = [(); 3].map(|()| Tollgate::start_ready(RULES, &settings));
    for values in [1, 2_000] {
        for (value, answers) in load(&services, "user", values, 100).await {
            let mut counts = Vec::new();
            for answer in &answers {
                counts.push(LIMIT - answer.remaining);
            }
            counts.sort_unstable();
            // The first of the 2,000 values has been used in the round before.
            let first = counts[0];
            assert!(first == 1 || value == 0, "{backend}: v{value} begins with {first}");
            let expected: Vec<_> = (first..).take(counts.len()).collect();
            assert_eq!(counts, expected, "{backend}: v{value}");
        }
    }
    for key in ["small", "small_bucket"] {
        for (value, answers) in load(&services, key, 2, 50).await {
            let mut passed = 0;
            for answer in &answers {
                passed += usize::from(answer.passed);
            }
            assert_eq!(passed, SMALL_LIMIT, "{backend}: {key} v{value}, {} calls", answers.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_exact_on_one_server_and_in_a_cluster() {
    let _exclusive = EXCLUSIVE.lock().await;
    let server = RedisServer::start();
    check("single", &[("REDIS_URL", &server.url())]).await;
    let cluster = Cluster::start(3);
    check("cluster", &[("REDIS_TYPE", "cluster"), ("REDIS_URL", &cluster.url())]).await;
}
