//! Several instances under load hand out every value of a counter once, and let
//! pass what the limit says, and no more.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tokio::task::JoinSet;

use crate::{
    cluster_servers::Cluster,
    suite::ALONE,
    support::{
        eventually,
        grpc::{ask, connect},
        http,
        redis::RedisServer,
        tollgate::Tollgate,
    },
};

const LIMIT: u32 = 1_000_000;
const SMALL: usize = 100;
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

fn instances(settings: &[(&str, &str)]) -> [Tollgate; 3] {
    let settings = [&[("LOCAL_CACHE_SIZE_IN_BYTES", "1048576")], settings].concat();
    let services = [(); 3].map(|()| Tollgate::start(RULES, &settings));
    for service in &services {
        let ready = || (http::get(service.http, "/ready", &[]).status == 200).then_some(());
        eventually("readiness", ready);
    }
    services
}

/// What 16 callers of each instance are told about so many values of `key` within a
/// time: whether they pass, and what remains.
async fn told(
    services: &[Tollgate],
    key: &'static str,
    values: usize,
    time: Duration,
) -> HashMap<usize, Vec<(bool, u32)>> {
    let stop = Instant::now() + time;
    let mut callers = JoinSet::new();
    for caller in 0..16 * services.len() {
        let mut client = connect(services[caller % services.len()].grpc).await;
        callers.spawn(async move {
            let (mut told, mut number) = (Vec::new(), caller);
            while Instant::now() < stop {
                number = (number * 31 + 7 * caller + 1) % 1_000_003;
                let value = number % values;
                let request = ask("shop", &[(key, &format!("v{value}"))]);
                let answer = client.should_rate_limit(request).await.unwrap().into_inner();
                let passes = answer.overall_code() == Code::Ok;
                told.push((value, (passes, answer.statuses[0].limit_remaining)));
            }
            told
        });
    }
    let mut all = HashMap::<_, Vec<_>>::new();
    while let Some(told) = callers.join_next().await {
        told.unwrap().into_iter().for_each(|(value, it)| all.entry(value).or_default().push(it));
    }
    all
}

async fn check(backend: &str, settings: &[(&str, &str)]) {
    let services = instances(settings);
    for (key, values) in [("user", 1), ("user", 2_000)] {
        let time = Duration::from_millis(1_000);
        let mut calls = 0;
        for (value, told) in told(&services, key, values, time).await {
            // The first of 2,000 is the one of before.
            let mut counts: Vec<_> = told.iter().map(|(_, left)| LIMIT - left).collect();
            counts.sort_unstable();
            calls += counts.len();
            let first = counts[0];
            assert!(first == 1 || value == 0, "{backend}: v{value} begins with {first}");
            let expected: Vec<_> = (first..).take(counts.len()).collect();
            assert_eq!(counts, expected, "{backend}: v{value}");
        }
        println!("{backend}: {calls} calls on {values} counters of 3 instances, each value once");
        assert!(calls > 300, "{calls}");
    }
    for key in ["small", "small_bucket"] {
        let told = told(&services, key, 2, Duration::from_millis(1_500)).await;
        for (value, told) in told {
            let passed = told.iter().filter(|(passes, _)| *passes).count();
            assert_eq!(passed, SMALL, "{backend}: {key} v{value} of {} calls", told.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_exact_on_one_server_and_in_a_cluster() {
    let _alone = ALONE.lock().await;
    let server = RedisServer::start();
    check("single", &[("REDIS_URL", server.url().as_str())]).await;
    let cluster = Cluster::start(3, false);
    let url = cluster.url();
    check("cluster", &[("REDIS_TYPE", "cluster"), ("REDIS_URL", url.as_str())]).await;
}
