//! Servers that are slow but alive: limits on other servers are decided as usual.

use testkit::{faulty_proxy::FaultyProxy, redis::RedisServer, redis_cluster::Cluster};

use crate::{
    load::{CROSS_SERVER, Observed, observe},
    suite::{EXCLUSIVE, check_latency, outage},
};

/// The delay of each reply of the slow server, in milliseconds.
const DELAYS: [u64; 3] = [5, 20, 40];

/// Checks that the fast server enforced its limit and decided requests that also need the
/// slow server. Because this machine may be late, policies may decide a few of them: as
/// many as of the requests that need the fast server only, and many if the machine delays
/// calls by more than the store's deadline.
#[track_caller]
fn check_exact(fault: &str, observed: &Observed) {
    check_latency(fault, observed);
    let Observed { combined, single, .. } = observed;
    assert!(combined.passed_by_store <= 100, "{fault}: {observed:?}");
    assert!(single.passed_by_store <= 100, "{fault}: {observed:?}");
    let allowance = combined.requests / if observed.is_quiet() { 25 } else { 4 };
    let most = allowance + 2 * single.passed_by_policy;
    assert!(combined.passed_by_policy <= most, "{fault}: {observed:?}");
}

async fn delay_replies(proxy: &FaultyProxy, millis: u64) {
    proxy.set_reply_delay(millis);
    outage(1).await;
    proxy.set_reply_delay(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_server_for_limits_per_second_does_not_affect_other_limits() {
    let _exclusive = EXCLUSIVE.lock().await;
    for millis in DELAYS {
        let (main, second) = (RedisServer::start(), RedisServer::start());
        let proxy = FaultyProxy::start(second.port()).await;
        let (main_url, second_url) = (main.url(), proxy.address());
        let settings = [
            ("REDIS_URL", main_url.as_str()),
            ("REDIS_PERSECOND", "true"),
            ("REDIS_PERSECOND_URL", &second_url),
        ];
        let observed = observe(&CROSS_SERVER, &settings, delay_replies(&proxy, millis)).await;
        check_exact(&format!("two servers: one answers {millis} ms late"), &observed);
    }
}

/// The proxy of a node that has no counter of `strict`.
fn proxy_without_strict(cluster: &Cluster, proxies: &[FaultyProxy]) -> FaultyProxy {
    for (node, proxy) in cluster.primaries.iter().zip(proxies) {
        let keys: Vec<String> = node.query(&["KEYS", "*strict*"]);
        if keys.is_empty() {
            return proxy.clone();
        }
    }
    panic!("every node has a counter of `strict`")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_node_of_a_cluster_does_not_affect_limits_on_other_nodes() {
    let _exclusive = EXCLUSIVE.lock().await;
    for millis in DELAYS {
        let cluster = Cluster::start(3);
        let proxies = FaultyProxy::for_cluster(&cluster).await;
        let mut addresses = Vec::new();
        for proxy in &proxies {
            addresses.push(proxy.address());
        }
        let url = addresses.join(",");
        let settings = [("REDIS_TYPE", "cluster"), ("REDIS_URL", url.as_str())];
        let fault =
            async { delay_replies(&proxy_without_strict(&cluster, &proxies), millis).await };
        let observed = observe(&CROSS_SERVER, &settings, fault).await;
        check_exact(&format!("cluster: one node answers {millis} ms late"), &observed);
    }
}
