//! Slots that move from one node to another.

use std::sync::Arc;

use tollgate::{engine::Engine, limit::Unit, store::Counters as _, time::ManualClock};

use super::*;
use crate::places::{Counters, Place, Servers, ask, counters, engine, passed};
use testkit::redis_cluster::Cluster;

const RULES: &str = "
domain: game
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

async fn instance(servers: &Servers) -> Engine<Counters> {
    let clock = Arc::new(ManualClock::new(NOON));
    engine(RULES, counters(servers.store(PATIENT).await, 0), &clock)
}

/// The slot of the only counter, its node, and its key.
fn place(cluster: &Cluster) -> (u16, usize, String) {
    let mut found = Vec::new();
    for (place, node) in cluster.primaries.iter().enumerate() {
        let keys: Vec<String> = node.query(&["KEYS", "*"]);
        found.extend(keys.into_iter().map(|it| (place, it)));
    }
    let (place, key) = found.first().cloned().expect("there is a counter");
    let slot = cluster.primaries[0].query(&["CLUSTER", "KEYSLOT", &key]);
    (slot, place, key)
}

/// Marks a slot as moving to the next node. Returns that node.
fn begin(cluster: &Cluster, slot: u16, from: usize) -> usize {
    let to = (from + 1) % 3;
    cluster.begin_migration(slot, from, to);
    to
}

/// Moves all keys ahead of the slot.
fn move_counters(cluster: &Cluster, slot: u16, from: usize) {
    let to = begin(cluster, slot, from);
    let port = cluster.primaries[to].client_port.to_string();
    let keys: Vec<String> = cluster.primaries[from].query(&["KEYS", "*"]);
    for it in keys {
        cluster.primaries[from].query::<()>(&["MIGRATE", "127.0.0.1", &port, &it, "0", "5000"]);
    }
}

/// Cancels the move and removes all keys.
fn give_up(cluster: &Cluster, slot: u16) {
    for node in &cluster.primaries {
        node.query::<()>(&["FLUSHALL"]);
        node.query::<()>(&["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"]);
    }
}

#[tokio::test]
async fn limits_are_decided_while_their_slot_moves() {
    are_decided("plain").await;
}

#[tokio::test]
async fn limits_with_a_penalty_are_decided_while_their_slot_moves() {
    are_decided("pen").await;
    are_decided("bucket").await;
}

#[tokio::test]
async fn dependent_limits_in_one_slot_are_decided_while_it_moves() {
    are_decided("both").await;
}

async fn are_decided(key: &str) {
    let servers = Servers::start(Place::Cluster);
    let Servers::Cluster(cluster) = &servers else { unreachable!("it is a cluster") };
    let engine = instance(&servers).await;
    let request = ask(&[key]);
    // A user without a counter.
    passed(&engine, &request, 1).await;
    let (slot, from, _) = place(cluster);
    cluster.flush();
    begin(cluster, slot, from);
    assert_eq!(passed(&engine, &request, 10).await, 2, "{key} of a new user");
    give_up(cluster, slot);
    // A user whose counter has not moved yet.
    assert_eq!(passed(&engine, &request, 1).await, 1);
    begin(cluster, slot, from);
    assert_eq!(passed(&engine, &request, 10).await, 1, "{key} before it has moved");
    give_up(cluster, slot);
    // A user whose counter has moved before the slot.
    assert_eq!(passed(&engine, &request, 1).await, 1);
    move_counters(cluster, slot, from);
    assert_eq!(passed(&engine, &request, 10).await, 1, "{key} after it has moved");
    give_up(cluster, slot);
}

#[tokio::test]
async fn a_counter_is_reset_while_its_slot_moves() {
    let servers = Servers::start(Place::Cluster);
    let Servers::Cluster(cluster) = &servers else { unreachable!("it is a cluster") };
    let engine = instance(&servers).await;
    assert_eq!(passed(&engine, &ask(&["plain"]), 3).await, 2);
    let (slot, from, _) = place(cluster);
    move_counters(cluster, slot, from);
    let limit = Limit::fixed(2, Window::new(Unit::Hour));
    let part = KeyPart { key: b"plain", value: b"ann", shared: false };
    let counter = KeyFormat::default().key(b"game", [part].into_iter(), &limit, NOON);
    assert!(engine.store.reset(&counter.key).await.expect("the servers answer"));
    assert_eq!(passed(&engine, &ask(&["plain"]), 3).await, 2);
    give_up(cluster, slot);
}
