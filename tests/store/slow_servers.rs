//! A slow server affects only limits whose counters it has.
//!
//! The delay and the deadline are much longer than the delays of a busy machine.

use std::sync::Arc;

use tollgate::{descriptor::Request, engine::Engine, store::redis::RedisType, time::ManualClock};

use super::*;
use crate::deployments::{
    Deployment, ServiceStore, SharedRedis, count_passed, count_passed_concurrently, engine,
    remaining, request_for, service_store, wait_until_equal, with_deadline,
};
use testkit::{faulty_proxy::FaultyProxy, redis::RedisServer, redis_cluster::Cluster};

/// The deadline after which policies decide.
const DEADLINE: Duration = Duration::from_millis(600);
/// The delay of each direction.
const DELAY_MILLIS: u64 = 700;

/// Servers, each behind a proxy that can delay it.
struct ProxiedServers {
    store: SharedRedis,
    proxies: Vec<FaultyProxy>,
    servers: Vec<RedisServer>,
    cluster: Option<Cluster>,
}

impl ProxiedServers {
    async fn start(deployment: Deployment) -> Self {
        if deployment == Deployment::Cluster {
            Self::start_cluster().await
        } else {
            Self::start_two_servers().await
        }
    }

    /// The second server is for limits per second.
    async fn start_two_servers() -> Self {
        let servers = vec![RedisServer::start(), RedisServer::start()];
        let mut proxies = Vec::new();
        for server in &servers {
            proxies.push(FaultyProxy::start(server.port()).await);
        }
        let [main, per_second] = [proxies[0].address(), proxies[1].address()];
        let store = SharedRedis::new(RedisType::Single, &main, Some(&per_second), PATIENT);
        store.ready().await;
        Self { store, proxies, servers, cluster: None }
    }

    /// A cluster whose nodes announce the proxies.
    async fn start_cluster() -> Self {
        let cluster = Cluster::start(3);
        let proxies = FaultyProxy::for_cluster(&cluster).await;
        let mut urls = Vec::new();
        for proxy in &proxies {
            urls.push(proxy.address());
        }
        let store = SharedRedis::new(RedisType::Cluster, &urls.join(","), None, PATIENT);
        store.ready().await;
        Self { store, proxies, servers: Vec::new(), cluster: Some(cluster) }
    }

    /// An engine with these rules, at noon.
    fn engine(&self, rules: &str, cache_bytes: usize) -> Engine<ServiceStore> {
        let clock = Arc::new(ManualClock::new(NOON));
        let store = service_store(self.store.clone(), cache_bytes);
        with_deadline(DEADLINE, engine(rules, store, &clock))
    }

    /// The index of the server that has the counter of `key`.
    fn server_of(&self, key: &str, unit: Unit) -> usize {
        let Some(cluster) = &self.cluster else { return usize::from(unit == Unit::Second) };
        let part = KeyPart { key: key.as_bytes(), value: b"ann", shared: false };
        let limit = Limit::fixed(1, Window::new(unit));
        let counter = KeyFormat::default().counter(b"shop", [part].into_iter(), &limit, NOON);
        let name = String::from_utf8(counter.key.as_bytes().to_vec()).expect("keys are text");
        let slot: usize = cluster.primaries[0].query(&["CLUSTER", "KEYSLOT", &name]);
        let mut owner = 0;
        while owner < 2 && (owner + 1) * 16_384 / 3 <= slot {
            owner += 1;
        }
        owner
    }

    /// A key with this prefix whose counter is on another server than that of `hour`.
    fn key_on_other_server(&self, prefix: &str) -> String {
        if self.cluster.is_none() {
            return if prefix == "far" { "second" } else { "shut" }.into();
        }
        let hour = self.server_of("hour", Unit::Hour);
        for number in 0..8 {
            let key = format!("{prefix}{number}");
            if self.server_of(&key, Unit::Minute) != hour {
                return key;
            }
        }
        unreachable!("all counters are on one node")
    }

    /// Delays all servers but the one that has the counter of `hour`.
    fn delay_all_but_hour(&self) {
        let hour = self.server_of("hour", Unit::Hour);
        for (index, proxy) in self.proxies.iter().enumerate() {
            if index != hour {
                proxy.set_delay(DELAY_MILLIS);
            }
        }
    }

    fn delay_all(&self) {
        for proxy in &self.proxies {
            proxy.set_delay(DELAY_MILLIS);
        }
    }

    fn end_delays(&self) {
        for proxy in &self.proxies {
            proxy.set_delay(0);
        }
    }
}

/// Rules with limits on the same server and on others. With three nodes, at least one
/// limit of each kind is on another node than `hour`.
fn rules_for_several_servers(hour: &str, others: &str) -> String {
    let mut text = format!(
        "domain: shop\ndescriptors:\n- key: hour\n  rate_limit: {{unit: hour, \
         requests_per_unit: 5{hour}}}\n- key: second\n  rate_limit: {{unit: second, \
         requests_per_unit: 100000{others}}}\n"
    );
    for number in 0..8 {
        text += &format!(
            "- key: far{number}\n  rate_limit: {{unit: minute, requests_per_unit: \
             100000{others}}}\n- key: shut{number}\n  rate_limit: {{unit: minute, \
             requests_per_unit: 0{others}}}\n"
        );
    }
    text + "- key: shut\n  rate_limit: {unit: second, requests_per_unit: 0, consume: all_or_nothing, on_error: deny}\n"
}

/// The number of 100 requests that pass. They need a limit of five on a fast server, and
/// a limit that is never reached on a slow one.
async fn passed_with_slow_server(deployment: Deployment, hour: &str, others: &str) -> usize {
    let servers = ProxiedServers::start(deployment).await;
    let engine = servers.engine(&rules_for_several_servers(hour, others), 0);
    let far = servers.key_on_other_server("far");
    servers.delay_all_but_hour();
    count_passed_concurrently(&engine, &request_for(&["hour", &far]), 100).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_server_does_not_disable_limits_of_the_other() {
    for policy in ["allow", "deny", "local"] {
        let hour = format!(", on_error: {policy}");
        assert_eq!(
            passed_with_slow_server(Deployment::PerSecond, &hour, ", on_error: allow").await,
            5,
            "{policy}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_node_does_not_disable_limits_of_the_others() {
    for policy in ["allow", "deny"] {
        let hour = format!(", on_error: {policy}");
        assert_eq!(
            passed_with_slow_server(Deployment::Cluster, &hour, ", on_error: allow").await,
            5,
            "{policy}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_server_does_not_disable_dependent_limits() {
    let dependent = ", consume: all_or_nothing, on_error: allow";
    for deployment in Deployment::SEVERAL_SERVERS {
        let passed = passed_with_slow_server(deployment, dependent, dependent).await;
        assert!(passed <= 5, "{deployment:?}: {passed} of 5");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cached_refusal_applies_although_servers_are_slow() {
    let servers = ProxiedServers::start(Deployment::PerSecond).await;
    let engine = servers
        .engine(&rules_for_several_servers(", on_error: allow", ", on_error: allow"), 1 << 20);
    assert_eq!(count_passed(&engine, &request_for(&["hour"]), 6).await, 5);
    servers.delay_all();
    for others in [&["hour"][..], &["hour", "far1"], &["second", "hour"]] {
        assert_eq!(
            count_passed_concurrently(&engine, &request_for(others), 5).await,
            0,
            "{others:?}"
        );
    }
}

/// Requests that a limit on a slow server refuses too late do not change a budget.
async fn check_no_hit_is_lost(deployment: Deployment) {
    let servers = ProxiedServers::start(deployment).await;
    let dependent = ", consume: all_or_nothing, on_error: deny";
    let engine = servers.engine(&rules_for_several_servers(dependent, dependent), 0);
    for name in ["shut", "far"] {
        let other = servers.key_on_other_server(name);
        servers.delay_all_but_hour();
        assert_eq!(
            count_passed_concurrently(&engine, &request_for(&["hour", &other]), 30).await,
            0
        );
        servers.end_delays();
        wait_until_equal(5, async || remaining(&engine, "hour").await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_server_does_not_drain_a_budget_of_the_other() {
    check_no_hit_is_lost(Deployment::PerSecond).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_node_does_not_drain_a_budget_of_the_others() {
    check_no_hit_is_lost(Deployment::Cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_does_not_drain_a_budget_of_the_other() {
    let servers = ProxiedServers::start(Deployment::PerSecond).await;
    let dependent = ", consume: all_or_nothing, on_error: deny";
    let engine = servers.engine(&rules_for_several_servers(dependent, dependent), 0);
    servers.servers[1].suspend();
    for _ in 0..3 {
        assert_eq!(
            count_passed_concurrently(&engine, &request_for(&["hour", "second"]), 30).await,
            0
        );
    }
    servers.servers[1].resume();
    wait_until_equal(5, async || remaining(&engine, "hour").await).await;
}

/// Makes several calls at the same time, and cancels them after `time`.
async fn cancel_calls(
    engine: &Engine<ServiceStore>,
    request: &Request,
    count: usize,
    time: Duration,
) {
    let mut calls = Vec::new();
    for _ in 0..count {
        calls.push(engine.decide(request, None));
    }
    let result = tokio::time::timeout(time, futures_util::future::join_all(calls)).await;
    assert!(result.is_err(), "they have been answered");
}

/// Cancelled while their hits are reserved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_calls_do_not_drain_a_budget() {
    for deployment in Deployment::SEVERAL_SERVERS {
        let servers = ProxiedServers::start(deployment).await;
        let dependent = ", consume: all_or_nothing";
        let engine = servers.engine(&rules_for_several_servers(dependent, dependent), 0);
        let shut = servers.key_on_other_server("shut");
        servers.delay_all_but_hour();
        let request = request_for(&["hour", &shut]);
        cancel_calls(&engine, &request, 30, Duration::from_millis(300)).await;
        servers.end_delays();
        wait_until_equal(5, async || remaining(&engine, "hour").await).await;
    }
}

const SINGLE_SERVER_RULES: &str = "
domain: shop
descriptors:
- key: slots
  rate_limit: {requests_per_unit: 20, algorithm: concurrency, lease: 30s, on_error: deny}
- key: window
  rate_limit: {unit: hour, requests_per_unit: 100, on_error: deny}
- key: careful
  rate_limit: {unit: hour, requests_per_unit: 100, count_denied: false, on_error: deny}
";

/// Hits that are granted after the request was denied are refunded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_delay_costs_no_slot_and_no_hit() {
    let servers = ProxiedServers::start(Deployment::PerSecond).await;
    let engine = servers.engine(SINGLE_SERVER_RULES, 0);
    for (key, limit) in [("slots", 20), ("window", 100), ("careful", 100)] {
        servers.delay_all();
        assert_eq!(count_passed_concurrently(&engine, &request_for(&[key]), 40).await, 0);
        servers.end_delays();
        // The clock stands still, so no permit expires.
        wait_until_equal(limit, async || remaining(&engine, key).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_calls_cost_no_slot_and_no_hit() {
    let servers = ProxiedServers::start(Deployment::PerSecond).await;
    let engine = servers.engine(&SINGLE_SERVER_RULES.replace(", on_error: deny", ""), 0);
    for (key, limit) in [("slots", 20), ("window", 100)] {
        servers.delay_all();
        let request = request_for(&[key]);
        // The first call is under way, and the others wait for it.
        for _ in 0..3 {
            cancel_calls(&engine, &request, 10, Duration::from_millis(50)).await;
        }
        servers.end_delays();
        wait_until_equal(limit, async || remaining(&engine, key).await).await;
    }
}
