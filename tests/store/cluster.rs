//! Clusters and Sentinels.

use std::{collections::HashMap, sync::Arc};

use testkit::{
    redis_cluster::{Cluster, Sentinels},
    redis_node::{Node, ServerSetup, command_calls, info_field},
    wait::{eventually, eventually_async, holds_for},
};
use tokio::time::Instant;
use tollgate::store::redis::RedisType;

use super::*;
use crate::load::load_during;

pub(crate) fn connect(kind: RedisType, url: &str, timeout: Duration) -> Arc<Redis> {
    let settings = RedisSettings::from_url(kind, url, None, timeout).expect("the URL is valid");
    Arc::new(Redis::new(&settings))
}

pub(crate) async fn ready(store: &Redis) {
    eventually_async("readiness", async || store.ready().await).await;
}

/// Connects `count` stores, each as another instance would.
pub(crate) async fn instances(url: &str, count: usize) -> Vec<Arc<Redis>> {
    let mut stores = Vec::new();
    for _ in 0..count {
        let store = connect(RedisType::Cluster, url, PATIENT);
        ready(&store).await;
        stores.push(store);
    }
    stores
}

/// Hits a counter whose limit is never reached, and returns its value.
pub(crate) async fn count(store: &Redis, name: &str) -> Result<u64, StoreError> {
    let charge = charge(name, minutely(1_000_000), Hits::Add(1), NOON);
    Ok(after(store, &[charge], NOON).await?[0])
}

/// Moves `count` slots, every `step`th, from the first primary to the others.
pub(crate) async fn move_slots(cluster: &Arc<Cluster>, count: u16, step: u16) {
    let cluster = Arc::clone(cluster);
    let moving = tokio::task::spawn_blocking(move || {
        for number in 0..count {
            cluster.migrate(number * step, 0, 1 + usize::from(number % 2));
        }
    });
    moving.await.expect("the slots move");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_share_a_cluster_return_every_value_once() {
    let cluster = Cluster::start(3);
    let stores = instances(&cluster.url(), 3).await;
    for counters in [1, 500] {
        cluster.flush();
        let load = load_during(&stores, counters, std::future::ready(())).await;
        assert_eq!(load.failed_calls, 0);
        load.assert_exact();
    }
    for node in &cluster.primaries {
        assert_ne!(node.query::<u64>(&["DBSIZE"]), 0, "a node has no counter");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_under_load_lose_no_hit_and_fail_no_call() {
    let cluster = Arc::new(Cluster::start(3));
    let stores = instances(&cluster.url(), 2).await;
    let load = load_during(&stores, 300, move_slots(&cluster, 20, 250)).await;
    assert_eq!(load.failed_calls, 0);
    load.assert_exact();
}

/// Charges to six counters, the last of which has a limit of two.
fn six_charges(consume: Consume) -> Vec<Charge> {
    let mut charges = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        let limit = if name == "f" { minutely(2) } else { minutely(100) };
        charges.push(Charge { consume, ..charge(name, limit, Hits::Add(1), NOON) });
    }
    charges
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dependent_charges_on_several_nodes_are_all_made_or_none() {
    let cluster = Cluster::start(3);
    let store = connect(RedisType::Cluster, &cluster.url(), PATIENT);
    ready(&store).await;
    let dependent = six_charges(Consume::AllOrNothing);
    for expected in [1, 2, 2, 2] {
        assert_eq!(after(&store, &dependent, NOON).await.unwrap(), [expected; 6]);
    }
    let refused = outcomes(&store, &dependent, NOON).await.unwrap();
    for (index, outcome) in refused.iter().enumerate() {
        assert_eq!((outcome.over, outcome.counted), (index == 5, false), "{index}");
    }
    assert_eq!(after(&store, &six_charges(Consume::Independent), NOON).await.unwrap(), [3; 6]);
    let mut if_refused = six_charges(Consume::IfRefused);
    for last in [4, 5] {
        let used = after(&store, &if_refused, NOON).await.unwrap();
        assert_eq!(used, [3, 3, 3, 3, 3, last], "only the refusing counter is charged");
    }
    if_refused.truncate(5);
    for charge in &mut if_refused {
        charge.refused = true;
    }
    let used = after(&store, &if_refused, NOON).await.unwrap();
    assert_eq!(used, [3; 5], "a call that another limit refused is not counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_penalty_is_stored_in_the_slot_of_its_counter() {
    let cluster = Cluster::start(3);
    let store = connect(RedisType::Cluster, &cluster.url(), PATIENT);
    ready(&store).await;
    for name in ["a", "b", "{", "}", "{}", "{x}", "a}b{c"] {
        let limit = Limit { penalty: Duration::from_secs(60), ..minutely(1) };
        let hit = [charge(name, limit, Hits::Add(1), NOON)];
        let first = outcomes(&store, &hit, NOON).await.unwrap();
        assert!(!first[0].over, "{name}");
        let second = outcomes(&store, &hit, NOON).await.unwrap();
        assert_eq!((second[0].over, second[0].banned.as_secs()), (true, 60), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeds_under_other_names_than_the_nodes_are_not_connected_again() {
    let cluster = Cluster::start(3);
    let store = connect(RedisType::Cluster, &cluster.url_at("localhost"), PATIENT);
    ready(&store).await;
    for number in 0..50 {
        count(&store, &format!("k{number}")).await.unwrap();
    }
    let mut admins = admin_connections(&cluster.primaries);
    let before = slot_map_refreshes(&mut admins);
    let connected_before = connections_received(&mut admins[0]);
    // The store refreshes its slot map by itself.
    eventually("two refreshes", || before + 2 <= slot_map_refreshes(&mut admins));
    assert_eq!(connections_received(&mut admins[0]), connected_before);
}

fn admin_connections(nodes: &[Node]) -> Vec<::redis::Connection> {
    let mut admins = Vec::new();
    for node in nodes {
        let url = format!("redis://127.0.0.1:{}", node.port);
        admins.push(::redis::Client::open(url).unwrap().get_connection().unwrap());
    }
    admins
}

fn connections_received(admin: &mut ::redis::Connection) -> u32 {
    let info: String = ::redis::cmd("INFO").arg("stats").query(admin).unwrap();
    info_field(&info, "total_connections_received")
}

/// How often all these nodes have returned the slot map.
fn slot_map_refreshes(admins: &mut [::redis::Connection]) -> u32 {
    let mut calls = 0;
    for admin in admins {
        calls += command_calls(admin, "cluster|slots");
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_do_not_know_their_own_address_are_reached_by_that_of_the_seed() {
    for kind in ["unknown-endpoint", "hostname"] {
        let setup =
            ServerSetup::default().with_arguments(&["--cluster-preferred-endpoint-type", kind]);
        let cluster = Arc::new(Cluster::with_setup(&setup, 3));
        let stores = instances(&cluster.url(), 1).await;
        let load = load_during(&stores, 300, move_slots(&cluster, 4, 1_000)).await;
        assert_eq!(load.failed_calls, 0, "{kind}");
        load.assert_exact();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_failover_of_a_node_is_followed() {
    let cluster = Cluster::with_replicas(3);
    let stores = instances(&cluster.url(), 1).await;
    let failover = async {
        let replica = &cluster.replicas[0];
        replica.query::<()>(&["CLUSTER", "FAILOVER"]);
        eventually_async("the promotion of the replica", async || {
            let info = replica.try_query_text(&["INFO", "replication"]).unwrap_or_default();
            info.contains("role:master")
        })
        .await;
    };
    let load = load_during(&stores, 300, failover).await;
    println!("planned failover of a node: {} calls failed", load.failed_calls);
    load.assert_exact();
    for number in 0..50 {
        let name = format!("k{number}");
        eventually_async(&name, async || count(&stores[0], &name).await).await;
    }
}

/// Waits until every one of 50 counters is served.
async fn wait_for_recovery(store: &Redis) {
    for number in 0..50 {
        let name = format!("r{number}");
        eventually_async(&name, async || count(store, &name).await).await;
    }
}

/// Names of counters.
struct Counters {
    on_first_node: Vec<String>,
    on_others: Vec<String>,
}

/// Divides the names of 60 counters by the node that has their slot.
fn divide_counters(cluster: &Cluster) -> Counters {
    let mut counters = Counters { on_first_node: Vec::new(), on_others: Vec::new() };
    for number in 0..60 {
        let name = format!("n{number}");
        let key = charge(&name, minutely(1), Hits::Add(1), NOON).counter.key;
        let key = String::from_utf8(key.as_bytes().to_vec()).expect("keys are text");
        let slot: usize = cluster.primaries[1].query(&["CLUSTER", "KEYSLOT", &key]);
        if slot < 16_384 / 3 {
            counters.on_first_node.push(name);
        } else {
            counters.on_others.push(name);
        }
    }
    counters
}

#[tokio::test]
async fn results_of_healthy_nodes_are_kept_if_another_node_is_dead() {
    let mut cluster = Cluster::start(3);
    let store = connect(RedisType::Cluster, &cluster.url(), PATIENT);
    ready(&store).await;
    let Counters { on_first_node: dead, on_others: healthy } = divide_counters(&cluster);
    cluster.primaries[0].kill();
    let first = count(&store, &healthy[0]).await.unwrap();
    let used = async |names: [&String; 2]| {
        let charges = names.map(|name| charge(name, minutely(1_000), Hits::Add(2), NOON));
        let mut used = Vec::new();
        for result in store.charge(&charges, NOON, None).await {
            used.push(result.ok().map(|outcome| outcome.used));
        }
        used
    };
    assert_eq!(used([&dead[0], &healthy[0]]).await, [None, Some(first + 2)]);
    assert_eq!(used([&dead[0], &dead[1]]).await, [None; 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_or_silent_node_affects_only_its_own_counters_until_it_is_replaced() {
    for silent in [false, true] {
        let mut cluster = Cluster::with_replicas(3);
        // Calls that waited for the node would time out.
        let store = connect(RedisType::Cluster, &cluster.url(), Duration::from_secs(2));
        ready(&store).await;
        let healthy = divide_counters(&cluster).on_others;
        if silent {
            cluster.primaries[0].suspend();
        } else {
            cluster.primaries[0].kill();
        }
        for _ in 0..5 {
            for name in &healthy {
                count(&store, name).await.unwrap();
            }
        }
        wait_for_recovery(&store).await;
        if silent {
            cluster.primaries[0].resume();
            cluster.wait_until_ok();
            wait_for_recovery(&store).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_nodes_are_rarely_asked_for_the_slot_map_while_a_node_is_silent() {
    let cluster = Cluster::start(3);
    let store = connect(RedisType::Cluster, &cluster.url(), Duration::from_millis(100));
    ready(&store).await;
    let lost = divide_counters(&cluster).on_first_node;
    let mut admins = admin_connections(&cluster.primaries[1..]);
    let mut refreshes = || {
        let [one, other] = &mut admins[..] else { unreachable!("there are two") };
        [one, other].map(|admin| command_calls(admin, "cluster|slots"))
    };
    cluster.primaries[0].suspend();
    let before = refreshes();
    let begin = Instant::now();
    let refreshed = eventually_async("six refreshes", async || {
        count(&store, &lost[0]).await.unwrap_err();
        let now = refreshes();
        let since = [now[0] - before[0], now[1] - before[1]];
        (since[0] >= 6 && since[1] >= 6).then_some(since)
    })
    .await;
    // Four while the pause between refreshes grows, and then one in 0.75 s at most.
    let most = 5 + begin.elapsed().as_millis() / 750;
    let more = u128::from(refreshed[0].max(refreshed[1]));
    assert!(more <= most, "{refreshed:?} > {most}");
    cluster.primaries[0].resume();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_by_sentinels_is_followed() {
    let mut sentinels = Sentinels::start();
    let store = connect(RedisType::Sentinel, &sentinels.url(), Duration::from_millis(500));
    ready(&store).await;
    assert_eq!(count(&store, "a").await.unwrap(), 1);
    // Planned: the old master becomes a replica.
    let first = sentinels.servers[0].port;
    assert_eq!(sentinels.master_port(), first);
    sentinels.fail_over();
    eventually("a planned failover", || sentinels.master_port() != first);
    eventually_async("the failover to be followed", async || {
        count(&store, "b").await.is_ok() && sentinels.servers[1].query::<u64>(&["DBSIZE"]) == 2
    })
    .await;

    // Unplanned, once the old master is a replica that can be promoted.
    eventually("the old master to be in sync", || {
        let info = sentinels.servers[0].try_query_text(&["INFO", "replication"]);
        info.is_some_and(|info| info.contains("master_link_status:up"))
    });
    eventually("the Sentinels to know the replica", || {
        sentinels.sentinels.iter().all(has_one_healthy_replica)
    });
    sentinels.servers[1].kill();
    eventually("an unplanned failover", || sentinels.master_port() == first);
    eventually_async("the failover to be followed", async || count(&store, "c").await).await;

    // Without Sentinels the master is still used.
    for sentinel in &mut sentinels.sentinels {
        sentinel.kill();
    }
    let mut expected = count(&store, "d").await.unwrap();
    holds_for(Duration::from_millis(1_500), "the use of the master", async || {
        expected += 1;
        count(&store, "d").await.unwrap() == expected
    })
    .await;
}

fn has_one_healthy_replica(sentinel: &Node) -> bool {
    let replicas: Vec<HashMap<String, String>> = sentinel.query(&["SENTINEL", "REPLICAS", "main"]);
    matches!(&replicas[..], [replica] if replica["flags"] == "slave")
}

/// Makes all Sentinels report this server.
fn report_as_master(sentinels: &Sentinels, server: &Node) {
    let port = server.client_port.to_string();
    for sentinel in &sentinels.sentinels {
        sentinel.query::<()>(&["SENTINEL", "REMOVE", "main"]);
        sentinel.query::<()>(&["SENTINEL", "MONITOR", "main", "127.0.0.1", &port, "2"]);
    }
}

/// A replica would answer with old values and count nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_sentinels_report_as_master_is_not_used() {
    let sentinels = Sentinels::start();
    report_as_master(&sentinels, &sentinels.servers[1]);
    let store = connect(RedisType::Sentinel, &sentinels.url(), PATIENT);
    for _ in 0..5 {
        let error = store.ready().await.unwrap_err().to_string();
        assert!(error.ends_with("is not a master"), "{error}");
    }
    report_as_master(&sentinels, &sentinels.servers[0]);
    ready(&store).await;
    assert_eq!(count(&store, "a").await.unwrap(), 1);
}
