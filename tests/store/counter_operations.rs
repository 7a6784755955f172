//! Operations on single counters, in every deployment.

use std::time::Duration;

use tollgate::{
    limit::{Algorithm, Unit},
    store::Counters as _,
};

use super::*;
use crate::deployments::{Deployment, Servers, ServiceStore, service_store};

const PENALTY: Duration = Duration::from_secs(600);

/// One hit on each of many counters with a limit of seven: of all algorithms, per second
/// and per hour, with and without a penalty.
fn charges() -> Vec<Charge> {
    let algorithms = [
        Algorithm::FixedWindow { count_denied: true },
        Algorithm::FixedWindow { count_denied: false },
        Algorithm::SlidingWindow,
        Algorithm::SlidingLog,
        Algorithm::TokenBucket { burst: 7 },
        Algorithm::LeakyBucket { burst: 7 },
        Algorithm::Concurrency { lifetime: Duration::from_secs(3_600) },
    ];
    let mut charges = Vec::new();
    for algorithm in algorithms {
        for unit in [Unit::Second, Unit::Hour] {
            for penalty in [Duration::ZERO, PENALTY] {
                let limit = Limit { penalty, algorithm, ..Limit::fixed(7, Window::new(unit)) };
                let name = charges.len().to_string();
                let part = KeyPart { key: b"name", value: name.as_bytes(), shared: false };
                let keys = KeyFormat::default();
                let counter = keys.counter(b"shop", [part].into_iter(), &limit, NOON);
                charges.push(Charge { counter, ..charge("", limit, Hits::Add(1), NOON) });
            }
        }
    }
    charges
}

async fn hit(store: &ServiceStore, charge: &Charge, hits: u64) -> Outcome {
    let charge = Charge { hits: Hits::Add(hits), ..charge.clone() };
    outcomes(store, &[charge], NOON).await.expect("the servers answer")[0]
}

async fn peek(store: &ServiceStore, charge: &Charge) -> Outcome {
    store.peek(&charge.counter, &charge.limit, NOON).await.expect("the servers answer")
}

async fn reset(store: &ServiceStore, charge: &Charge) -> bool {
    store.reset(&charge.counter.key).await.expect("the servers answer")
}

async fn set(store: &ServiceStore, charge: &Charge, used: u64) {
    let set = store.set(&charge.counter, &charge.limit, used, NOON);
    set.await.expect("the servers answer");
}

async fn check_operations(deployment: Deployment) {
    let servers = Servers::start(deployment);
    let store = service_store(servers.store(PATIENT).await, 1 << 20);
    for charge in charges() {
        let context = format!("{deployment:?}, {:?}", charge.limit);
        assert!(!reset(&store, &charge).await, "{context}");
        assert_eq!(peek(&store, &charge).await.used, 0, "{context}");
        assert_eq!(hit(&store, &charge, 7).await.used, 7, "{context}");
        assert_eq!(peek(&store, &charge).await.remaining, 0, "{context}");
        assert!(hit(&store, &charge, 1).await.over, "{context}");
        let banned = peek(&store, &charge).await.banned;
        assert_eq!(banned, charge.limit.penalty, "{context}");
        // A reset also ends the ban and removes the cached refusal.
        assert!(reset(&store, &charge).await, "{context}");
        assert_eq!(peek(&store, &charge).await.used, 0, "{context}");
        assert!(!hit(&store, &charge, 1).await.over, "{context}");
        set(&store, &charge, 6).await;
        assert_eq!(peek(&store, &charge).await.used, 6, "{context}");
        let last = [hit(&store, &charge, 1).await.over, hit(&store, &charge, 1).await.over];
        assert_eq!(last, [false, true], "{context}");
        set(&store, &charge, 2).await;
        let used = hit(&store, &charge, 1).await;
        assert_eq!((used.over, used.used, used.banned), (false, 3, Duration::ZERO), "{context}");
    }
}

#[tokio::test]
async fn counters_on_one_server_are_read_reset_and_set() {
    check_operations(Deployment::One).await;
}

#[tokio::test]
async fn counters_on_two_servers_are_read_reset_and_set() {
    check_operations(Deployment::PerSecond).await;
}

#[tokio::test]
async fn counters_in_a_cluster_are_read_reset_and_set() {
    check_operations(Deployment::Cluster).await;
}

#[tokio::test]
async fn counters_behind_sentinels_are_read_reset_and_set() {
    check_operations(Deployment::Sentinels).await;
}
