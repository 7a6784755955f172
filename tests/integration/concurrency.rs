//! Exactly as many concurrent calls pass as the limit allows.

use std::{collections::BTreeMap, sync::Arc};

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitRequest,
    rate_limit_response::{Code, DescriptorStatus},
};
use testkit::{
    grpc::{Client, decide, descriptor},
    redis::RedisServer,
};
use tokio::{sync::Barrier, task::JoinSet};

use crate::in_process::{InProcess, ManualClock};

const CLIENTS: usize = 64;
const KEYS: usize = 16;
const LIMIT: u32 = 40;
const UNITS: [&str; 6] = ["minute", "hour", "day", "week", "month", "year"];

fn rules() -> String {
    let mut rules = "domain: shop\ndescriptors:\n".to_owned();
    for unit in UNITS {
        let limit = format!("{{ unit: {unit}, requests_per_unit: {LIMIT} }}");
        rules += &format!("- {{ key: {unit}, rate_limit: {limit} }}\n");
    }
    rules
}

/// Starts an instance whose clock stands still, so that no window ends during the test.
async fn start(settings: &[(&str, &str)]) -> InProcess {
    InProcess::start_with(Arc::new(ManualClock::default()), &rules(), settings).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_instance_admits_exactly_the_limit() {
    check(play(&[start(&[]).await]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_on_one_redis_admit_exactly_the_limit() {
    let redis = RedisServer::start();
    let url = redis.url();
    let settings = [("REDIS_URL", url.as_str()), ("REDIS_TIMEOUT", "10s")];
    check(play(&[start(&settings).await, start(&settings).await]).await);
}

/// The statuses of each counter, by its unit and key.
type Statuses = BTreeMap<(&'static str, usize), Vec<DescriptorStatus>>;

/// Each client sends one request for every key, with all units in one request.
async fn play(services: &[InProcess]) -> Statuses {
    let begin = Arc::new(Barrier::new(CLIENTS));
    let mut clients = JoinSet::new();
    for i in 0..CLIENTS {
        let client = services[i % services.len()].grpc().await;
        clients.spawn(ask_for_all(client, Arc::clone(&begin)));
    }
    let mut all = Statuses::new();
    while let Some(statuses) = clients.join_next().await {
        for (counter, status) in statuses.unwrap() {
            all.entry(counter).or_default().push(status);
        }
    }
    all
}

/// Starts together with all other clients.
async fn ask_for_all(
    mut client: Client,
    begin: Arc<Barrier>,
) -> Vec<((&'static str, usize), DescriptorStatus)> {
    begin.wait().await;
    let mut statuses = Vec::new();
    for key in 0..KEYS {
        let value = key.to_string();
        let request = RateLimitRequest {
            domain: "shop".to_owned(),
            descriptors: UNITS.map(|unit| descriptor(&[(unit, &value)])).to_vec(),
            hits_addend: 0,
        };
        let reply = decide(&mut client, request).await;
        for (unit, status) in UNITS.into_iter().zip(reply.statuses) {
            statuses.push(((unit, key), status));
        }
    }
    statuses
}

fn check(all: Statuses) {
    assert_eq!(all.len(), UNITS.len() * KEYS);
    for (counter, statuses) in all {
        assert_eq!(statuses.len(), CLIENTS);
        let mut remaining = Vec::new();
        for status in statuses {
            match status.code() {
                Code::Ok => remaining.push(status.limit_remaining),
                code => {
                    assert_eq!((code, status.limit_remaining), (Code::OverLimit, 0), "{counter:?}");
                }
            }
        }
        remaining.sort_unstable();
        assert_eq!(remaining, (0..LIMIT).collect::<Vec<_>>(), "{counter:?}");
    }
}
