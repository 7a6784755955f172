//! Every fault, on every kind of Redis.

use std::time::{Duration, Instant};

use ::redis::cmd;
use tokio::{sync::Mutex, time::sleep};

use crate::{
    cluster_servers::{Cluster, Node, Sentinels},
    load::{self, Noticed, during},
    proxy::proxy,
    support::redis::RedisServer,
};

/// One fault at a time: others would take the processor.
pub(crate) static ALONE: Mutex<()> = Mutex::const_new(());

/// What holds of every fault. `lost` says how often the counters may have been
/// lost, or partly lost: each time the limit may be used up once more.
#[track_caller]
fn check(fault: &str, noticed: &Noticed, lost: usize) {
    check_times(fault, noticed);
    assert!(noticed.strict <= 100 * (1 + lost), "{fault}: {noticed:?}");
}

/// What holds of every fault, but for what passes.
#[track_caller]
pub(crate) fn check_times(fault: &str, noticed: &Noticed) {
    noticed.print(fault);
    // The deadline is 15 ms, and Redis is found again within two seconds; the rest is
    // for a machine that has other work. What waits for Redis waits 500 ms. On the way of
    // a call several processes wait for their turn, one after the other.
    let [_, p99, p999] = noticed.worst;
    assert!(p99 < Duration::from_millis(150) + 10 * noticed.noise, "{fault}: {noticed:?}");
    assert!(p999 < Duration::from_millis(400) + 10 * noticed.noise, "{fault}: {noticed:?}");
    // Where the machine is later than the deadline, policies decide whatever Redis does.
    if noticed.noise < Duration::from_millis(15) {
        assert!(noticed.recovered < Duration::from_secs(3), "{fault}: {noticed:?}");
        // What was given up may have been counted: then less passes.
        assert!(50 <= noticed.strict, "{fault}: {noticed:?}");
    }
    assert!(noticed.grown < 64 << 20, "{fault}: {noticed:?}");
}

async fn for_millis(millis: u64) {
    sleep(Duration::from_millis(millis)).await;
}

/// How many connections the server has at the end.
fn connections(server: &RedisServer) -> usize {
    let list: String = cmd("CLIENT").arg("LIST").query(&mut server.client()).unwrap();
    list.lines().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_that_falls_silent_or_dies() {
    let _alone = ALONE.lock().await;
    let mut server = RedisServer::start();
    let url = server.url();
    let settings = [("REDIS_URL", url.as_str())];
    let noticed = during(&load::ALONE, &settings, async {
        server.freeze();
        for_millis(2_000).await;
        server.thaw();
    });
    check("single: SIGSTOP for 2 s", &noticed.await, 0);
    cmd("FLUSHALL").exec(&mut server.client()).unwrap();
    let noticed = during(&load::ALONE, &settings, async {
        cmd("CLIENT").arg("PAUSE").arg(1_500).exec(&mut server.client()).unwrap();
        for_millis(1_500).await;
    });
    check("single: CLIENT PAUSE for 1.5 s", &noticed.await, 0);
    cmd("FLUSHALL").exec(&mut server.client()).unwrap();
    let noticed = during(&load::ALONE, &settings, async {
        for _ in 0..20 {
            cmd("SCRIPT").arg("FLUSH").exec(&mut server.client()).unwrap();
            for_millis(50).await;
        }
    });
    check("single: SCRIPT FLUSH 20 times", &noticed.await, 0);
    cmd("FLUSHALL").exec(&mut server.client()).unwrap();
    let noticed = during(&load::ALONE, &settings, async {
        server.stop();
        for_millis(1_500).await;
        server.start_again();
    });
    check("single: kill -9, empty again after 1.5 s", &noticed.await, 1);
    assert!(connections(&server) <= 2, "connections are left over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_on_a_bad_way() {
    let _alone = ALONE.lock().await;
    let server = RedisServer::start();
    let (port, way) = proxy(server.port()).await;
    let url = format!("127.0.0.1:{port}");
    let settings = [("REDIS_URL", url.as_str())];
    let flush = || cmd("FLUSHALL").exec(&mut server.client()).unwrap();
    let noticed = during(&load::ALONE, &settings, async {
        way.delay(100);
        for_millis(1_500).await;
        way.delay(0);
    });
    check("single: 100 ms later each way for 1.5 s", &noticed.await, 0);
    flush();
    let noticed = during(&load::ALONE, &settings, async {
        for _ in 0..10 {
            way.cut();
            for_millis(150).await;
        }
    });
    check("single: connections closed 10 times", &noticed.await, 0);
    flush();
    let noticed = during(&load::ALONE, &settings, async {
        for _ in 0..10 {
            way.reset();
            for_millis(150).await;
        }
    });
    check("single: connections reset 10 times", &noticed.await, 0);
    flush();
    let noticed = during(&load::ALONE, &settings, async {
        way.hole(true);
        for_millis(1_500).await;
        way.hole(false);
    });
    check("single: everything vanishes for 1.5 s", &noticed.await, 0);
    flush();
    let noticed = during(&load::ALONE, &settings, async {
        way.shut(true);
        for_millis(1_500).await;
        way.shut(false);
    });
    check("single: out of reach for 1.5 s", &noticed.await, 0);
    assert!(connections(&server) <= 4, "connections are left over");
}

/// Waits until `is_well`.
async fn until(what: &str, mut is_well: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_well() {
        assert!(begin.elapsed() < Duration::from_secs(20), "waited 20 s until {what}");
        for_millis(10).await;
    }
}

fn is_master(node: &Node) -> bool {
    let about = node.try_text(&["INFO", "replication"]);
    about.is_some_and(|it| it.contains("role:master"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_which_a_node_is_replaced_dies_or_falls_silent() {
    let _alone = ALONE.lock().await;
    for (fault, lost) in [
        ("CLUSTER FAILOVER", 0),
        ("slots move", 0),
        ("kill -9 of a primary", 1),
        ("SIGSTOP of a primary", 1),
    ] {
        let mut cluster = Cluster::start(3, true);
        let url = cluster.url();
        let settings = [("REDIS_TYPE", "cluster"), ("REDIS_URL", url.as_str())];
        let noticed = during(&load::ALONE, &settings, async {
            match fault {
                "CLUSTER FAILOVER" => {
                    cluster.replicas[0].ask(&["CLUSTER", "FAILOVER"]);
                }
                "slots move" => (0..30).for_each(|it| cluster.migrate(it * 180, 0, 1)),
                "kill -9 of a primary" => cluster.primaries[0].kill(),
                _ => cluster.primaries[0].freeze(),
            }
            if fault != "slots move" {
                until("a replica is promoted", || is_master(&cluster.replicas[0])).await;
                let alive = [&cluster.replicas[0], &cluster.primaries[1], &cluster.primaries[2]];
                let well = |it: &Node| {
                    let about = it.try_text(&["CLUSTER", "INFO"]);
                    about.is_some_and(|it| it.contains("cluster_state:ok"))
                };
                until("the cluster is well", || alive.iter().all(|it| well(it))).await;
            }
        });
        check(&format!("cluster: {fault}"), &noticed.await, lost);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_sentinels_replace() {
    let _alone = ALONE.lock().await;
    for (fault, lost) in
        [("SENTINEL FAILOVER", 1), ("kill -9 of the master", 1), ("SIGSTOP of the master", 1)]
    {
        let mut all = Sentinels::start();
        let url = all.url();
        let settings = [("REDIS_TYPE", "sentinel"), ("REDIS_URL", url.as_str())];
        let noticed = during(&load::ALONE, &settings, async {
            match fault {
                "SENTINEL FAILOVER" => all.fail_over(),
                "kill -9 of the master" => all.servers[0].kill(),
                _ => all.servers[0].freeze(),
            }
            until("Sentinels name another", || all.master() == all.servers[1].port).await;
        });
        check(&format!("sentinel: {fault}"), &noticed.await, lost);
    }
}
