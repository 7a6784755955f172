//! Operations on single counters, in every deployment.

use std::time::Duration;

use tollgate::{
    limit::{Algorithm, Unit},
    store::Counters as _,
};

use super::*;
use crate::places::{Counters, Place, Servers, counters};

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
        Algorithm::Concurrency { lease: Duration::from_secs(3_600) },
    ];
    let mut charges = Vec::new();
    for algorithm in algorithms {
        for unit in [Unit::Second, Unit::Hour] {
            for penalty in [Duration::ZERO, PENALTY] {
                let limit = Limit { penalty, algorithm, ..Limit::fixed(7, Window::new(unit)) };
                let name = charges.len().to_string();
                let part = KeyPart { key: b"name", value: name.as_bytes(), shared: false };
                let keys = KeyFormat::default();
                let counter = keys.key(b"game", [part].into_iter(), &limit, NOON);
                charges.push(Charge { counter, ..charge("", limit, Hits::Add(1), NOON) });
            }
        }
    }
    charges
}

async fn hit(store: &Counters, charge: &Charge, hits: u64) -> Outcome {
    let charge = Charge { hits: Hits::Add(hits), ..charge.clone() };
    outcomes(store, &[charge], NOON).await.expect("the servers answer")[0]
}

async fn look(store: &Counters, charge: &Charge) -> Outcome {
    store.peek(&charge.counter, &charge.limit, NOON).await.expect("the servers answer")
}

async fn reset(store: &Counters, charge: &Charge) -> bool {
    store.reset(&charge.counter.key).await.expect("the servers answer")
}

async fn set(store: &Counters, charge: &Charge, used: u64) {
    let set = store.set(&charge.counter, &charge.limit, used, NOON);
    set.await.expect("the servers answer");
}

async fn at(place: Place) {
    let servers = Servers::start(place);
    let store = counters(servers.store(PATIENT).await, 1 << 20);
    for charge in charges() {
        let what = format!("{place:?}, {:?}", charge.limit);
        assert!(!reset(&store, &charge).await, "{what}");
        assert_eq!(look(&store, &charge).await.used, 0, "{what}");
        assert_eq!(hit(&store, &charge, 7).await.used, 7, "{what}");
        assert_eq!(look(&store, &charge).await.remaining, 0, "{what}");
        assert!(hit(&store, &charge, 1).await.over, "{what}");
        let banned = look(&store, &charge).await.banned;
        assert_eq!(banned, charge.limit.penalty, "{what}");
        // A reset also ends the ban and removes the cached refusal.
        assert!(reset(&store, &charge).await, "{what}");
        assert_eq!(look(&store, &charge).await.used, 0, "{what}");
        assert!(!hit(&store, &charge, 1).await.over, "{what}");
        set(&store, &charge, 6).await;
        assert_eq!(look(&store, &charge).await.used, 6, "{what}");
        let last = [hit(&store, &charge, 1).await.over, hit(&store, &charge, 1).await.over];
        assert_eq!(last, [false, true], "{what}");
        set(&store, &charge, 2).await;
        let used = hit(&store, &charge, 1).await;
        assert_eq!((used.over, used.used, used.banned), (false, 3, Duration::ZERO), "{what}");
    }
}

#[tokio::test]
async fn counters_on_one_server_are_looked_at_reset_and_set() {
    at(Place::One).await;
}

#[tokio::test]
async fn counters_on_two_servers_are_looked_at_reset_and_set() {
    at(Place::PerSecond).await;
}

#[tokio::test]
async fn counters_in_a_cluster_are_looked_at_reset_and_set() {
    at(Place::Cluster).await;
}

#[tokio::test]
async fn counters_behind_sentinels_are_looked_at_reset_and_set() {
    at(Place::Sentinels).await;
}
