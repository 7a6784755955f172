//! All faults, on every kind of Redis.

use std::time::Duration;

use ::redis::cmd;
use testkit::{
    faulty_proxy::FaultyProxy,
    redis::RedisServer,
    redis_cluster::{Cluster, Sentinels, is_cluster_ok},
    redis_node::Node,
    wait::eventually_async,
};
use tokio::{sync::Mutex, time::sleep};

use crate::load::{Observed, SINGLE_SERVER, observe};

/// Held by each test of this binary: the tests measure latency, so only one of them may
/// load the machine.
pub(crate) static EXCLUSIVE: Mutex<()> = Mutex::const_new(());

/// How long most faults last. The timeout of Redis is 500 ms.
const OUTAGE: Duration = Duration::from_secs(1);

/// Checks the latency of calls, and how many of them passed the limit of 100. The fault
/// may have lost the counters `losses` times, and then the limit applies anew.
#[track_caller]
fn check(fault: &str, observed: &Observed, losses: usize) {
    check_latency(fault, observed);
    assert!(observed.passed <= 100 * (1 + losses), "{fault}: {observed:?}");
}

#[track_caller]
pub(crate) fn check_latency(fault: &str, observed: &Observed) {
    observed.print(fault);
    let [_, p99, p999] = observed.latency;
    let scheduling = 20 * observed.scheduling_delay;
    if observed.is_quiet() {
        // Calls end within the store deadline of 15 ms. On its way a call waits for its turn
        // in several processes, hence the multiple of the delay that the load generator saw.
        assert!(p99 < Duration::from_millis(150) + scheduling, "{fault}: {observed:?}");
        assert!(p999 < Duration::from_millis(400) + scheduling, "{fault}: {observed:?}");
        assert!(observed.recovery < Duration::from_secs(3), "{fault}: {observed:?}");
        // A cancelled call may have been counted, so fewer calls may pass.
        assert!(50 <= observed.passed, "{fault}: {observed:?}");
    } else {
        assert!(p99 < Duration::from_millis(500) + scheduling, "{fault}: {observed:?}");
        assert!(p999 < Duration::from_secs(1) + scheduling, "{fault}: {observed:?}");
    }
    assert!(observed.memory_growth < 64 << 20, "{fault}: {observed:?}");
}

/// Waits for a part of [`OUTAGE`].
pub(crate) async fn outage(parts: u32) {
    sleep(OUTAGE / parts).await;
}

fn client_connections(server: &RedisServer) -> usize {
    let list: String = cmd("CLIENT").arg("LIST").query(&mut server.client()).unwrap();
    list.lines().count()
}

fn flush(server: &RedisServer) {
    cmd("FLUSHALL").exec(&mut server.client()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_server_that_stalls_or_restarts() {
    let _exclusive = EXCLUSIVE.lock().await;
    let mut server = RedisServer::start();
    let url = server.url();
    let settings = [("REDIS_URL", url.as_str())];
    let suspended = observe(&SINGLE_SERVER, &settings, async {
        server.suspend();
        outage(1).await;
        server.resume();
    });
    check("single: SIGSTOP", &suspended.await, 0);
    flush(&server);
    let paused = observe(&SINGLE_SERVER, &settings, async {
        cmd("CLIENT").arg("PAUSE").arg(1_000).exec(&mut server.client()).unwrap();
        outage(1).await;
    });
    check("single: CLIENT PAUSE", &paused.await, 0);
    flush(&server);
    let scripts_lost = observe(&SINGLE_SERVER, &settings, async {
        for _ in 0..20 {
            cmd("SCRIPT").arg("FLUSH").exec(&mut server.client()).unwrap();
            outage(20).await;
        }
    });
    check("single: SCRIPT FLUSH 20 times", &scripts_lost.await, 0);
    flush(&server);
    let restarted = observe(&SINGLE_SERVER, &settings, async {
        server.stop();
        outage(1).await;
        server.restart();
    });
    check("single: kill -9, restarted without data", &restarted.await, 1);
    assert!(client_connections(&server) <= 2, "connections are left open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_server_behind_a_faulty_network() {
    let _exclusive = EXCLUSIVE.lock().await;
    let server = RedisServer::start();
    let proxy = FaultyProxy::start(server.port()).await;
    let url = proxy.address();
    let settings = [("REDIS_URL", url.as_str())];
    let delayed = observe(&SINGLE_SERVER, &settings, async {
        proxy.set_delay(100);
        outage(1).await;
        proxy.set_delay(0);
    });
    check("single: 100 ms delay in each direction", &delayed.await, 0);
    flush(&server);
    let closed = observe(&SINGLE_SERVER, &settings, async {
        for _ in 0..10 {
            proxy.close_connections();
            outage(10).await;
        }
    });
    check("single: connections closed 10 times", &closed.await, 0);
    flush(&server);
    let reset = observe(&SINGLE_SERVER, &settings, async {
        for _ in 0..10 {
            proxy.reset_connections();
            outage(10).await;
        }
    });
    check("single: connections reset 10 times", &reset.await, 0);
    flush(&server);
    let dropped = observe(&SINGLE_SERVER, &settings, async {
        proxy.start_dropping();
        outage(1).await;
        proxy.stop_dropping();
    });
    check("single: all packets lost", &dropped.await, 0);
    flush(&server);
    let refused = observe(&SINGLE_SERVER, &settings, async {
        proxy.refuse_connections();
        outage(1).await;
        proxy.accept_connections();
    });
    check("single: connections refused", &refused.await, 0);
    assert!(client_connections(&server) <= 4, "connections are left open");
}

fn is_master(node: &Node) -> bool {
    let info = node.try_query_text(&["INFO", "replication"]);
    info.is_some_and(|info| info.contains("role:master"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_fails_over_or_moves_slots() {
    let _exclusive = EXCLUSIVE.lock().await;
    for (fault, losses) in [
        ("CLUSTER FAILOVER", 0),
        ("slots move", 0),
        ("kill -9 of a primary", 1),
        ("SIGSTOP of a primary", 1),
    ] {
        let mut cluster = Cluster::with_replicas(3);
        let url = cluster.url();
        let settings = [("REDIS_TYPE", "cluster"), ("REDIS_URL", url.as_str())];
        let observed = observe(&SINGLE_SERVER, &settings, async {
            match fault {
                "CLUSTER FAILOVER" => {
                    cluster.replicas[0].query::<()>(&["CLUSTER", "FAILOVER"]);
                }
                "slots move" => {
                    for number in 0..30 {
                        cluster.migrate(number * 180, 0, 1);
                    }
                    return;
                }
                "kill -9 of a primary" => cluster.primaries[0].kill(),
                _ => cluster.primaries[0].suspend(),
            }
            let promoted = async || is_master(&cluster.replicas[0]);
            eventually_async("the promotion of a replica", promoted).await;
            let alive = [&cluster.replicas[0], &cluster.primaries[1], &cluster.primaries[2]];
            let is_ok = async || alive.iter().all(|node| is_cluster_ok(node));
            eventually_async("the cluster to be ok", is_ok).await;
        });
        check(&format!("cluster: {fault}"), &observed.await, losses);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_that_replace_the_master() {
    let _exclusive = EXCLUSIVE.lock().await;
    for fault in ["SENTINEL FAILOVER", "kill -9 of the master", "SIGSTOP of the master"] {
        let mut sentinels = Sentinels::start();
        let url = sentinels.url();
        let settings = [("REDIS_TYPE", "sentinel"), ("REDIS_URL", url.as_str())];
        let observed = observe(&SINGLE_SERVER, &settings, async {
            match fault {
                "SENTINEL FAILOVER" => sentinels.fail_over(),
                "kill -9 of the master" => sentinels.servers[0].kill(),
                _ => sentinels.servers[0].suspend(),
            }
            let replica = sentinels.servers[1].port;
            let promoted = async || sentinels.master_port() == replica;
            eventually_async("Sentinels to name the replica", promoted).await;
        });
        check(&format!("sentinel: {fault}"), &observed.await, 1);
    }
}
