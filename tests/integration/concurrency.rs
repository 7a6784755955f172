//! Exactly as many concurrent calls pass as the limit allows.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitRequest,
    rate_limit_response::{Code, DescriptorStatus},
};
use testkit::{
    current_minute,
    grpc::{self, descriptor},
    redis::RedisServer,
    tollgate::Tollgate,
    unique_value,
};
use tokio::task::JoinSet;

const CLIENTS: usize = 64;
const KEYS: usize = 16;
const LIMIT: u32 = 40;
const UNITS: [&str; 6] = ["minute", "hour", "day", "week", "month", "year"];

fn rules() -> String {
    let limit = |unit| format!("{{ unit: {unit}, requests_per_unit: {LIMIT} }}");
    let rules = UNITS.map(|unit| format!("- {{ key: {unit}, rate_limit: {} }}\n", limit(unit)));
    format!("domain: shop\ndescriptors:\n{}", rules.concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_instance_admits_exactly_the_limit() {
    let service = Tollgate::start(&rules(), &[]);
    within_one_minute(&[service.grpc]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_on_one_redis_admit_exactly_the_limit() {
    let redis = RedisServer::start();
    let start = || Tollgate::start(&rules(), &[("REDIS_URL", &redis.url())]);
    let services = [start(), start()];
    within_one_minute(&services.each_ref().map(|it| it.grpc)).await;
}

/// Repeats the calls until all of them are within one minute.
async fn within_one_minute(services: &[SocketAddr]) {
    loop {
        let (begin, told) = (current_minute(), play(services).await);
        if begin == current_minute() {
            return check(told);
        }
    }
}

/// The statuses of each counter, by its unit and value.
type Told = BTreeMap<(&'static str, String), Vec<DescriptorStatus>>;

/// Each client sends one request for every key, with all units in one request.
async fn play(services: &[SocketAddr]) -> Told {
    let keys: Arc<Vec<_>> = Arc::new((0..KEYS).map(|_| unique_value()).collect());
    let connected = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for i in 0..CLIENTS {
        let (keys, connected, to) =
            (Arc::clone(&keys), Arc::clone(&connected), services[i % services.len()]);
        clients.spawn(async move {
            let mut client = grpc::connect(to).await;
            connected.fetch_add(1, Ordering::SeqCst);
            while connected.load(Ordering::SeqCst) < CLIENTS {
                tokio::task::yield_now().await;
            }
            let mut told = Vec::new();
            for key in keys.iter() {
                let request = RateLimitRequest {
                    domain: "shop".to_owned(),
                    descriptors: UNITS.map(|unit| descriptor(&[(unit, key)])).to_vec(),
                    hits_addend: 0,
                };
                let reply = client.should_rate_limit(request).await.unwrap().into_inner();
                told.extend(UNITS.map(|unit| (unit, key.clone())).into_iter().zip(reply.statuses));
            }
            told
        });
    }
    let mut all = Told::new();
    while let Some(told) = clients.join_next().await {
        for (counter, status) in told.unwrap() {
            all.entry(counter).or_default().push(status);
        }
    }
    all
}

fn check(told: Told) {
    assert_eq!(told.len(), UNITS.len() * KEYS);
    for (counter, statuses) in told {
        assert_eq!(statuses.len(), CLIENTS);
        let (passed, refused): (Vec<_>, Vec<_>) =
            statuses.iter().partition(|it| it.code() == Code::Ok);
        let mut remaining: Vec<_> = passed.iter().map(|it| it.limit_remaining).collect();
        remaining.sort_unstable();
        assert_eq!(remaining, (0..LIMIT).collect::<Vec<_>>(), "{counter:?}");
        assert!(refused.iter().all(|it| it.code() == Code::OverLimit), "{counter:?}");
        assert!(refused.iter().all(|it| it.limit_remaining == 0), "{counter:?}");
    }
}
