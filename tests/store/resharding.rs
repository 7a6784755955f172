//! Slots that move from one node to another.

use std::sync::Arc;

use tollgate::{
    engine::Engine,
    limit::Unit,
    store::{CallTime, CounterChange, Counters as _},
    time::ManualClock,
};

use super::*;
use crate::deployments::{
    Deployment, Servers, ServiceStore, count_passed, engine, request_for, service_store,
};
use testkit::redis_cluster::Cluster;

const RULES: &str = "
domain: shop
descriptors:
- key: pen
  rate_limit: {unit: hour, requests_per_unit: 2, penalty: 10m}
- key: bucket
  rate_limit: {unit: hour, requests_per_unit: 2, algorithm: token_bucket, penalty: 10m}
- key: plain
  rate_limit: {unit: hour, requests_per_unit: 2}
- key: both
  rate_limits:
  - {unit: hour, requests_per_unit: 2, penalty: 10m, consume: all_or_nothing}
  - {unit: day, requests_per_unit: 100, penalty: 20m, consume: all_or_nothing}
";

async fn instance(servers: &Servers) -> Engine<ServiceStore> {
    let clock = Arc::new(ManualClock::new(NOON));
    engine(RULES, service_store(servers.store(PATIENT).await, 0), &clock)
}

/// The slot of the only counter, and the index of its node.
struct Location {
    slot: u16,
    node: usize,
}

fn locate_counter(cluster: &Cluster) -> Location {
    for (node, server) in cluster.primaries.iter().enumerate() {
        let keys: Vec<String> = server.query(&["KEYS", "*"]);
        if let Some(key) = keys.first() {
            return Location { slot: server.query(&["CLUSTER", "KEYSLOT", key]), node };
        }
    }
    unreachable!("there is no counter")
}

/// Marks the slot as moving to the next node. Returns that node.
fn begin_migration(cluster: &Cluster, from: &Location) -> usize {
    let to = (from.node + 1) % 3;
    cluster.begin_migration(from.slot, from.node, to);
    to
}

/// Moves all keys ahead of the slot.
fn migrate_keys(cluster: &Cluster, from: &Location) {
    let to = begin_migration(cluster, from);
    let port = cluster.primaries[to].client_port.to_string();
    let source = &cluster.primaries[from.node];
    let keys: Vec<String> = source.query(&["KEYS", "*"]);
    for key in keys {
        source.query::<()>(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]);
    }
}

/// Cancels the move and removes all keys.
fn cancel_migration(cluster: &Cluster, location: &Location) {
    for node in &cluster.primaries {
        node.query::<()>(&["FLUSHALL"]);
        node.query::<()>(&["CLUSTER", "SETSLOT", &location.slot.to_string(), "STABLE"]);
    }
}

#[tokio::test]
async fn limits_are_decided_while_their_slot_moves() {
    check_decisions("plain").await;
}

#[tokio::test]
async fn limits_with_a_penalty_are_decided_while_their_slot_moves() {
    check_decisions("pen").await;
    check_decisions("bucket").await;
}

#[tokio::test]
async fn dependent_limits_in_one_slot_are_decided_while_it_moves() {
    check_decisions("both").await;
}

async fn check_decisions(key: &str) {
    let servers = Servers::start(Deployment::Cluster);
    let Servers::Cluster(cluster) = &servers else { unreachable!("it is a cluster") };
    let engine = instance(&servers).await;
    let request = request_for(&[key]);
    // A user without a counter.
    count_passed(&engine, &request, 1).await;
    let location = locate_counter(cluster);
    cluster.flush();
    begin_migration(cluster, &location);
    assert_eq!(count_passed(&engine, &request, 10).await, 2, "{key} of a new user");
    cancel_migration(cluster, &location);
    // A user whose counter has not moved yet.
    assert_eq!(count_passed(&engine, &request, 1).await, 1);
    begin_migration(cluster, &location);
    assert_eq!(count_passed(&engine, &request, 10).await, 1, "{key} before it has moved");
    cancel_migration(cluster, &location);
    // A user whose counter has moved before the slot.
    assert_eq!(count_passed(&engine, &request, 1).await, 1);
    migrate_keys(cluster, &location);
    assert_eq!(count_passed(&engine, &request, 10).await, 1, "{key} after it has moved");
    cancel_migration(cluster, &location);
}

#[tokio::test]
async fn a_counter_is_reset_while_its_slot_moves() {
    let servers = Servers::start(Deployment::Cluster);
    let Servers::Cluster(cluster) = &servers else { unreachable!("it is a cluster") };
    let engine = instance(&servers).await;
    assert_eq!(count_passed(&engine, &request_for(&["plain"]), 3).await, 2);
    let location = locate_counter(cluster);
    migrate_keys(cluster, &location);
    let limit = Limit::fixed(2, Window::new(Unit::Hour));
    let part = KeyPart { key: b"plain", value: b"ann", shared: false };
    let counter = KeyFormat::default().counter(b"shop", [part].into_iter(), &limit, NOON);
    let reset =
        engine.store.change(&counter, &limit, CounterChange::Reset, CallTime::at(NOON)).await;
    reset.expect("the servers answer");
    assert_eq!(count_passed(&engine, &request_for(&["plain"]), 3).await, 2);
    cancel_migration(cluster, &location);
}
