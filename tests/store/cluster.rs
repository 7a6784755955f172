//! Clusters and Sentinels.

use std::{collections::HashMap, sync::Arc, time::Instant};

use tokio::time::sleep;
use tollgate::store::redis::RedisType;

use super::*;
use testkit::{
    redis_cluster::{Cluster, Sentinels},
    redis_node::{Node, ServerSetup},
};

pub(crate) fn of(kind: RedisType, url: &str, timeout: Duration) -> Arc<Redis> {
    let settings = RedisSettings::from_url(kind, url, None, timeout).expect("the URL is valid");
    Arc::new(Redis::new(&settings))
}

pub(crate) async fn ready(store: &Redis) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = store.ready().await {
        assert!(Instant::now() < deadline, "{error}");
        sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn count(store: &Redis, name: &str) -> Result<u64, StoreError> {
    let charge = charge(name, minutely(1_000_000), Hits::Add(1), NOON);
    Ok(after(store, &[charge], NOON).await?[0])
}

/// What 16 callers of each of `stores` are handed out for `keys` counters, until
/// `stop`; also how many calls failed.
pub(crate) async fn load(
    stores: &[Arc<Redis>],
    keys: usize,
    stop: Instant,
) -> (HashMap<usize, Vec<u64>>, usize) {
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..16 * stores.len() {
        let store = Arc::clone(&stores[caller % stores.len()]);
        callers.spawn(async move {
            let (mut values, mut failed, mut key) = (Vec::new(), 0, caller);
            while Instant::now() < stop {
                key = (key * 31 + 7) % keys;
                match count(&store, &format!("k{key}")).await {
                    Ok(value) => values.push((key, value)),
                    Err(_) => {
                        failed += 1;
                        sleep(Duration::from_millis(1)).await;
                    }
                }
                key += caller;
            }
            (values, failed)
        });
    }
    let (mut all, mut failures) = (HashMap::<_, Vec<_>>::new(), 0);
    while let Some(caller) = callers.join_next().await {
        let (values, failed) = caller.expect("no caller fails");
        values.into_iter().for_each(|(key, value)| all.entry(key).or_default().push(value));
        failures += failed;
    }
    (all, failures)
}

/// Asserts that each counter handed out 1..N, each once, if no call failed.
#[track_caller]
pub(crate) fn assert_exact(handed_out: HashMap<usize, Vec<u64>>, failed: usize) {
    let mut calls = 0;
    for (key, mut values) in handed_out {
        values.sort_unstable();
        assert!(values.windows(2).all(|it| it[0] < it[1]), "k{key} handed out a value twice");
        calls += values.len();
        if failed == 0 {
            let last = values.last().copied();
            assert_eq!(last, Some(values.len() as u64), "k{key} did not hand out 1..N");
        }
    }
    println!("{calls} calls were answered, {failed} were not");
    assert!(calls > 100, "{calls}");
}

pub(crate) fn soon(millis: u64) -> Instant {
    Instant::now() + Duration::from_millis(millis)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_share_a_cluster_hand_out_every_value_once() {
    let cluster = Cluster::start(3);
    let stores = [(); 3].map(|()| of(RedisType::Cluster, &cluster.url(), PATIENT));
    for store in &stores {
        ready(store).await;
    }
    for keys in [1, 500] {
        cluster.flush();
        let (values, failed) = load(&stores, keys, soon(700)).await;
        assert_eq!(failed, 0);
        assert_exact(values, failed);
    }
    let has = |it: &testkit::redis_node::Node| {
        it.query::<String>(&["INFO", "keyspace"]).contains("keys=")
    };
    assert!(cluster.primaries.iter().all(has), "a node has no counter");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_under_load_lose_no_hit_and_fail_no_call() {
    let cluster = Arc::new(Cluster::start(3));
    let stores = [(); 2].map(|()| of(RedisType::Cluster, &cluster.url(), PATIENT));
    for store in &stores {
        ready(store).await;
    }
    let moving = tokio::task::spawn_blocking({
        let cluster = Arc::clone(&cluster);
        move || (0..20).for_each(|it| cluster.migrate(it * 250, 0, 1 + usize::from(it % 2)))
    });
    let (values, failed) = load(&stores, 300, soon(2_500)).await;
    moving.await.expect("the slots move");
    assert_eq!(failed, 0);
    assert_exact(values, failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_on_counters_of_several_nodes_are_made_whole_or_not_at_all() {
    let cluster = Cluster::start(3);
    let store = of(RedisType::Cluster, &cluster.url(), PATIENT);
    ready(&store).await;
    let names = ["a", "b", "c", "d", "e", "f"];
    let charges = |consume| -> Vec<Charge> {
        let limit = |name| if name == "f" { minutely(2) } else { minutely(100) };
        let one = |name| charge(name, limit(name), Hits::Add(1), NOON);
        names.iter().map(|it| Charge { consume, ..one(*it) }).collect()
    };
    for expected in [1, 2, 2, 2] {
        let outcomes = outcomes(&store, &charges(Consume::AllOrNothing), NOON).await.unwrap();
        let used: Vec<_> = outcomes.iter().map(|it| it.used).collect();
        assert_eq!(used, [expected; 6], "{outcomes:?}");
    }
    let outcomes = outcomes(&store, &charges(Consume::AllOrNothing), NOON).await.unwrap();
    assert_eq!(
        outcomes.iter().map(|it| it.over).collect::<Vec<_>>(),
        [false, false, false, false, false, true]
    );
    assert!(outcomes.iter().all(|it| !it.counted));
    assert_eq!(after(&store, &charges(Consume::Independent), NOON).await.unwrap(), [3; 6]);
    let stopped = charges(Consume::IfRefused);
    for refused in [4, 5] {
        let used = after(&store, &stopped, NOON).await.unwrap();
        assert_eq!(used, [3, 3, 3, 3, 3, refused], "only what is over its limit is counted");
    }
    let known = stopped[..5].iter().map(|it| Charge { refused: true, ..it.clone() });
    let used = after(&store, &known.collect::<Vec<_>>(), NOON).await.unwrap();
    assert_eq!(used, [3; 5], "nothing is counted of a call that is refused anyway");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_penalty_is_in_the_slot_of_its_counter() {
    let cluster = Cluster::start(3);
    let store = of(RedisType::Cluster, &cluster.url(), PATIENT);
    ready(&store).await;
    for name in ["a", "b", "{", "}", "{}", "{x}", "a}b{c"] {
        let limit = Limit { penalty: Duration::from_secs(60), ..minutely(1) };
        let hit = || charge(name, limit.clone(), Hits::Add(1), NOON);
        let first = outcomes(&store, &[hit()], NOON).await.unwrap();
        let second = outcomes(&store, &[hit()], NOON).await.unwrap();
        assert_eq!(
            (first[0].over, second[0].over, second[0].banned.as_secs()),
            (false, true, 60),
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeds_with_other_names_than_the_nodes_are_not_connected_to_again_and_again() {
    let cluster = Cluster::start(3);
    let store = of(RedisType::Cluster, &cluster.url_at("localhost"), PATIENT);
    ready(&store).await;
    for key in 0..50 {
        count(&store, &format!("k{key}")).await.unwrap();
    }
    let first = &cluster.primaries[0];
    // Each time that this is asked is one more.
    let connections = || {
        let about = first.query::<String>(&["INFO", "stats"]);
        let (_, rest) = about.split_once("total_connections_received:").expect("it is there");
        rest.lines().next().and_then(|it| it.parse::<u32>().ok()).expect("it is a number")
    };
    let before = connections();
    // Twice as long as the map is good for.
    sleep(Duration::from_millis(4_500)).await;
    assert_eq!(connections(), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_do_not_know_their_own_names_are_where_they_were_asked() {
    for kind in ["unknown-endpoint", "hostname"] {
        let setup =
            ServerSetup::default().with_arguments(&["--cluster-preferred-endpoint-type", kind]);
        let cluster = Arc::new(Cluster::with_setup(&setup, 3));
        let store = of(RedisType::Cluster, &cluster.url(), PATIENT);
        ready(&store).await;
        let moving = tokio::task::spawn_blocking({
            let cluster = Arc::clone(&cluster);
            move || (0..4).for_each(|it| cluster.migrate(it * 1_000, 0, 1))
        });
        let (values, failed) = load(&[store], 300, soon(800)).await;
        moving.await.expect("the slots move");
        assert_eq!(failed, 0, "{kind}");
        assert_exact(values, failed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_failover_of_a_node_is_followed() {
    let cluster = Cluster::with_replicas(3);
    let stores = [of(RedisType::Cluster, &cluster.url(), PATIENT)];
    ready(&stores[0]).await;
    let running = load(&stores, 300, soon(2_500));
    let failover = async {
        sleep(Duration::from_millis(500)).await;
        cluster.replicas[0].query::<()>(&["CLUSTER", "FAILOVER"]);
    };
    let ((values, failed), ()) = tokio::join!(running, failover);
    println!("planned failover of a node: {failed} calls failed");
    assert_exact(values, failed);
    for key in 0..50 {
        count(&stores[0], &format!("k{key}")).await.unwrap();
    }
}

/// How long until every one of 50 counters is served.
async fn recovers(store: &Redis) -> Duration {
    let begin = Instant::now();
    for key in 0..50 {
        while count(store, &format!("r{key}")).await.is_err() {
            assert!(begin.elapsed() < Duration::from_secs(20), "r{key} is not served");
            sleep(Duration::from_millis(5)).await;
        }
    }
    begin.elapsed()
}

/// Names of 60 counters: those on the first node of three, and the others.
fn on_the_first(cluster: &Cluster) -> (Vec<String>, Vec<String>) {
    (0..60).map(|it| format!("n{it}")).partition(|name| {
        let key = charge(name, minutely(1), Hits::Add(1), NOON).counter.key;
        let text = String::from_utf8(key.as_bytes().to_vec()).expect("it is text");
        let slot: usize = cluster.primaries[1].query(&["CLUSTER", "KEYSLOT", &text]);
        slot < 16_384 / 3
    })
}

#[tokio::test]
async fn what_healthy_nodes_say_of_a_call_is_known_whatever_the_others_do() {
    let mut cluster = Cluster::start(3);
    let store = of(RedisType::Cluster, &cluster.url(), Duration::from_secs(5));
    ready(&store).await;
    let (dead, healthy) = on_the_first(&cluster);
    cluster.primaries[0].kill();
    let charge = |name: &str| charge(name, minutely(1_000), Hits::Add(2), NOON);
    let first = count(&store, &healthy[0]).await.unwrap();
    let used = async |names: [&String; 2]| {
        let charges = names.map(|it| charge(it));
        let results = store.charge(&charges, NOON, None).await;
        results.iter().map(|it| it.as_ref().ok().map(|it| it.used)).collect::<Vec<_>>()
    };
    assert_eq!(used([&dead[0], &healthy[0]]).await, [None, Some(first + 2)]);
    assert_eq!(used([&dead[0], &dead[1]]).await, [None; 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_or_falls_silent_hurts_only_its_own_counters_until_it_is_replaced() {
    for frozen in [false, true] {
        let mut cluster = Cluster::with_replicas(3);
        let store = of(RedisType::Cluster, &cluster.url(), Duration::from_secs(2));
        ready(&store).await;
        let (_, healthy) = on_the_first(&cluster);
        if frozen {
            cluster.primaries[0].suspend();
        } else {
            cluster.primaries[0].kill();
        }
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(800) {
            for name in &healthy {
                let call = Instant::now();
                count(&store, name).await.unwrap();
                assert!(
                    call.elapsed() < Duration::from_millis(1_500),
                    "{name}: {:?}",
                    call.elapsed()
                );
            }
        }
        let took = recovers(&store).await + begin.elapsed();
        println!("frozen {frozen}: all counters are served again after {took:?}");
        if frozen {
            cluster.primaries[0].resume();
            cluster.wait_until_ok();
            recovers(&store).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stays_silent_does_not_keep_the_others_busy() {
    let cluster = Cluster::start(3);
    let store = of(RedisType::Cluster, &cluster.url(), Duration::from_millis(100));
    ready(&store).await;
    let (lost, _) = on_the_first(&cluster);
    let times = |node: &Node| {
        let stats: String = node.query(&["INFO", "commandstats"]);
        let (_, rest) = stats.split_once("cmdstat_cluster|slots:calls=").expect("it was asked");
        rest.split(',').next().and_then(|it| it.parse::<u32>().ok()).expect("it is a number")
    };
    cluster.primaries[0].suspend();
    let before = cluster.primaries[1..].iter().map(times).collect::<Vec<_>>();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(6) {
        count(&store, &lost[0]).await.unwrap_err();
        sleep(Duration::from_millis(5)).await;
    }
    let after = cluster.primaries[1..].iter().map(times);
    // Four while the pause grows, and then once in three quarters of a second at most.
    for asked in after.zip(before).map(|(after, before)| after - before) {
        assert!((3..=4 + 8).contains(&asked), "{asked}");
    }
    cluster.primaries[0].resume();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_that_sentinels_name_is_used_and_a_failover_is_followed() {
    let mut all = Sentinels::start();
    let store = of(RedisType::Sentinel, &all.url(), Duration::from_millis(500));
    ready(&store).await;
    assert_eq!(count(&store, "a").await.unwrap(), 1);
    // Planned: the old master goes on as a replica.
    let first = all.master_port();
    all.fail_over();
    let begin = Instant::now();
    while all.master_port() == first {
        assert!(begin.elapsed() < Duration::from_secs(20), "no failover");
        sleep(Duration::from_millis(10)).await;
    }
    let begin = Instant::now();
    let second = all.servers.iter().find(|it| it.port != first).expect("there are two");
    let counted = || second.query::<u64>(&["DBSIZE"]) == 2;
    while count(&store, "b").await.is_err() || !counted() {
        assert!(begin.elapsed() < Duration::from_secs(20), "the failover is not followed");
        sleep(Duration::from_millis(10)).await;
    }
    println!("planned failover by Sentinels: followed after {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());

    // Unplanned, once the old one is a replica that may be promoted.
    sleep(Duration::from_secs(4)).await;
    let second = all.servers.iter_mut().find(|it| it.port != first).expect("there are two");
    second.kill();
    let begin = Instant::now();
    while all.master_port() != first {
        assert!(begin.elapsed() < Duration::from_secs(30), "no failover");
        sleep(Duration::from_millis(10)).await;
    }
    let promoted = begin.elapsed();
    while count(&store, "c").await.is_err() {
        assert!(begin.elapsed() < Duration::from_secs(40), "the failover is not followed");
        sleep(Duration::from_millis(10)).await;
    }
    println!("a dead master: replaced after {promoted:?}, followed after {:?}", begin.elapsed());
    assert!(begin.elapsed() - promoted < Duration::from_secs(3), "{:?}", begin.elapsed());

    // Without Sentinels the master is still there.
    all.sentinels.iter_mut().for_each(testkit::redis_node::Node::kill);
    let begin = Instant::now();
    let mut expected = count(&store, "d").await.unwrap();
    while begin.elapsed() < Duration::from_millis(1_500) {
        expected += 1;
        assert_eq!(count(&store, "d").await.unwrap(), expected);
        sleep(Duration::from_millis(5)).await;
    }
}

/// It would answer looks as its own primary had it a while ago, and count nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_sentinels_name_is_not_used() {
    let all = Sentinels::start();
    let name = |server: &Node| {
        let port = server.client_port.to_string();
        for sentinel in &all.sentinels {
            sentinel.query::<()>(&["SENTINEL", "REMOVE", "main"]);
            sentinel.query::<()>(&["SENTINEL", "MONITOR", "main", "127.0.0.1", &port, "2"]);
        }
    };
    name(&all.servers[1]);
    let store = of(RedisType::Sentinel, &all.url(), Duration::from_secs(5));
    for _ in 0..5 {
        let error = store.ready().await.unwrap_err().to_string();
        assert!(error.ends_with("is not a master"), "{error}");
    }
    name(&all.servers[0]);
    ready(&store).await;
    assert_eq!(count(&store, "a").await.unwrap(), 1);
}
