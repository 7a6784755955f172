//! Servers that are slow and not dead: what the others hold is decided by them.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{
    cluster_servers::Cluster,
    load::{Noticed, TOGETHER, during},
    proxy::{Faults, proxies, proxy},
    suite::{ALONE, check_times},
    support::redis::RedisServer,
};

/// How much later one of the servers answers, in milliseconds.
const LATE: [u64; 3] = [5, 20, 40];

/// Whether the store let no more pass than the limit, which is on a server that is well,
/// and decided although the requests are about another server as well. What this machine
/// itself is late with is decided by policy: few requests, unless it is those about such a
/// limit alone, too.
#[track_caller]
fn exact(fault: &str, noticed: &Noticed) {
    check_times(fault, noticed);
    let Noticed { together, alone, .. } = noticed;
    assert!(together.known <= 100 && alone.known <= 100, "{fault}: {noticed:?}");
    let most = together.asked / 25 + 2 * alone.by_policy;
    assert!(together.by_policy <= most, "{fault}: {noticed:?}");
}

async fn late(way: &Faults, millis: u64) {
    way.late(millis);
    sleep(Duration::from_secs(2)).await;
    way.late(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_servers_that_is_slow() {
    let _alone = ALONE.lock().await;
    for millis in LATE {
        let (main, second) = (RedisServer::start(), RedisServer::start());
        let (port, way) = proxy(second.port()).await;
        let urls = [main.url(), format!("127.0.0.1:{port}")];
        let settings = [
            ("REDIS_URL", urls[0].as_str()),
            ("REDIS_PERSECOND", "true"),
            ("REDIS_PERSECOND_URL", urls[1].as_str()),
        ];
        let noticed = during(&TOGETHER, &settings, late(&way, millis)).await;
        exact(&format!("two servers: one answers {millis} ms late"), &noticed);
    }
}

/// The way to a node that does not have the counters of `strict`.
fn elsewhere(cluster: &Cluster, ways: &[Arc<Faults>]) -> Arc<Faults> {
    let has_none = |place: &usize| {
        let keys = cluster.primaries[*place].ask(&["KEYS", "*strict*"]);
        let keys: Vec<String> = redis::from_redis_value(keys).unwrap();
        keys.is_empty()
    };
    Arc::clone(&ways[(0..3).find(has_none).unwrap()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_of_three_that_is_slow() {
    let _alone = ALONE.lock().await;
    for millis in LATE {
        let cluster = Cluster::start(3, false);
        let (ports, ways) = proxies(&cluster).await;
        let url = ports.iter().map(|it| format!("127.0.0.1:{it}")).collect::<Vec<_>>().join(",");
        let settings = [("REDIS_TYPE", "cluster"), ("REDIS_URL", url.as_str())];
        let fault = async { late(&elsewhere(&cluster, &ways), millis).await };
        let noticed = during(&TOGETHER, &settings, fault).await;
        exact(&format!("cluster: one node answers {millis} ms late"), &noticed);
    }
}
