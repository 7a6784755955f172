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

/// Whether no more passed than the limit, which is on a server that is well, although the
/// requests are about another as well. What this machine itself is late with is decided by
/// policy, too: as many do then that ask about such a limit alone, and at most one in ten
/// whenever the machine is later than a server may be.
#[track_caller]
fn exact(fault: &str, noticed: &Noticed) {
    check_times(fault, noticed);
    let [beyond, alone] = [noticed.strict, noticed.alone].map(|it| it.saturating_sub(100));
    let most = 2 * alone + noticed.missed / 10;
    assert!(beyond <= most, "{fault}: {beyond} beyond the limit, {noticed:?}");
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
