//! A slow server affects only limits whose counters it has.
//!
//! The delay and the deadline are much longer than the delays of a busy machine.

use std::sync::Arc;

use tollgate::{engine::Engine, store::redis::RedisType, time::ManualClock};

use super::*;
use crate::places::{
    Counters, Place, Shared, ask, counters, engine, passed, passed_at_once, remaining, settles,
    within,
};
use testkit::{faulty_proxy::FaultyProxy, redis::RedisServer, redis_cluster::Cluster};

/// The deadline after which policies decide.
const DEADLINE: Duration = Duration::from_millis(600);
/// The delay of each direction, in milliseconds.
const LATE: u64 = 700;

/// Servers, each behind a proxy that can delay it.
struct Late {
    place: Place,
    store: Shared,
    ways: Vec<FaultyProxy>,
    servers: Vec<RedisServer>,
    cluster: Option<Cluster>,
}

impl Late {
    async fn start(place: Place) -> Self {
        match place {
            Place::Cluster => Self::three().await,
            _ => Self::two().await,
        }
    }

    /// Two servers. The second one is for limits per second.
    async fn two() -> Self {
        let servers = vec![RedisServer::start(), RedisServer::start()];
        let (mut urls, mut ways) = (Vec::new(), Vec::new());
        for server in &servers {
            let way = FaultyProxy::start(server.port()).await;
            urls.push(way.address());
            ways.push(way);
        }
        let store = Shared::new(RedisType::Single, &urls[0], Some(&urls[1]), PATIENT);
        store.ready().await;
        Self { place: Place::PerSecond, store, ways, servers, cluster: None }
    }

    /// A cluster whose nodes announce the proxies.
    async fn three() -> Self {
        let cluster = Cluster::start(3);
        let ways = FaultyProxy::for_cluster(&cluster).await;
        let urls: Vec<_> = ways.iter().map(FaultyProxy::address).collect();
        let store = Shared::new(RedisType::Cluster, &urls.join(","), None, PATIENT);
        store.ready().await;
        let (place, cluster) = (Place::Cluster, Some(cluster));
        Self { place, store, ways, servers: Vec::new(), cluster }
    }

    /// An engine with the rules `text`, at noon.
    fn engine(&self, text: &str, bytes: usize) -> Engine<Counters> {
        let clock = Arc::new(ManualClock::new(NOON));
        within(DEADLINE, engine(text, counters(self.store.clone(), bytes), &clock))
    }

    /// The index of the server that has the counter of `key`.
    fn home(&self, key: &str, unit: Unit) -> usize {
        let Some(cluster) = &self.cluster else { return usize::from(unit == Unit::Second) };
        let part = KeyPart { key: key.as_bytes(), value: b"ann", shared: false };
        let limit = Limit::fixed(1, Window::new(unit));
        let named = KeyFormat::default().key(b"game", [part].into_iter(), &limit, NOON);
        let name = String::from_utf8(named.key.as_bytes().to_vec()).expect("it is text");
        let slot: usize = cluster.primaries[0].query(&["CLUSTER", "KEYSLOT", &name]);
        (0..3).rfind(|it| it * 16_384 / 3 <= slot).expect("it is somewhere")
    }

    /// A limit whose counter is on another server than that of `hour`.
    fn elsewhere(&self, name: &str) -> String {
        if self.place == Place::PerSecond {
            return if name == "far" { "second" } else { "shut" }.into();
        }
        let home = self.home("hour", Unit::Hour);
        let mut others = (0..8).map(|it| format!("{name}{it}"));
        others.find(|it| self.home(it, Unit::Minute) != home).expect("not all are on one node")
    }

    /// Delays all servers but the one that has the counter of `hour`.
    fn but_hour(&self) {
        let home = self.home("hour", Unit::Hour);
        let others = self.ways.iter().enumerate().filter(|(place, _)| *place != home);
        others.for_each(|(_, way)| way.set_delay(LATE));
    }

    fn all(&self) {
        self.ways.iter().for_each(|it| it.set_delay(LATE));
    }

    fn well(&self) {
        self.ways.iter().for_each(|it| it.set_delay(0));
    }
}

/// Rules with limits on the same server and on others. With three nodes, at least one
/// limit of each kind is on another node than `hour`.
fn apart(hour: &str, others: &str) -> String {
    let mut text = format!(
        "domain: game\ndescriptors:\n- key: hour\n  rate_limit: {{unit: hour, \
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
async fn beyond(place: Place, hour: &str, others: &str) -> usize {
    let late = Late::start(place).await;
    let engine = late.engine(&apart(hour, others), 0);
    let far = late.elsewhere("far");
    late.but_hour();
    passed_at_once(&engine, &ask(&["hour", &far]), 100).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_server_does_not_disable_limits_of_the_other() {
    for policy in ["allow", "deny", "local"] {
        let hour = format!(", on_error: {policy}");
        assert_eq!(beyond(Place::PerSecond, &hour, ", on_error: allow").await, 5, "{policy}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_node_does_not_disable_limits_of_the_others() {
    for policy in ["allow", "deny"] {
        let hour = format!(", on_error: {policy}");
        assert_eq!(beyond(Place::Cluster, &hour, ", on_error: allow").await, 5, "{policy}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_server_does_not_disable_dependent_limits() {
    let tied = ", consume: all_or_nothing, on_error: allow";
    for place in Place::SEVERAL_SERVERS {
        let found = beyond(place, tied, tied).await;
        assert!(found <= 5, "{place:?}: {found} of 5");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cached_refusal_applies_although_servers_are_slow() {
    let late = Late::start(Place::PerSecond).await;
    let engine = late.engine(&apart(", on_error: allow", ", on_error: allow"), 1 << 20);
    assert_eq!(passed(&engine, &ask(&["hour"]), 6).await, 5);
    late.all();
    for others in [&["hour"][..], &["hour", "far1"], &["second", "hour"]] {
        assert_eq!(passed_at_once(&engine, &ask(others), 5).await, 0, "{others:?}");
    }
}

/// Requests that a limit on a slow server refuses too late do not change a budget.
async fn costs_nothing(place: Place) {
    let late = Late::start(place).await;
    let tied = ", consume: all_or_nothing, on_error: deny";
    let engine = late.engine(&apart(tied, tied), 0);
    for name in ["shut", "far"] {
        let other = late.elsewhere(name);
        late.but_hour();
        assert_eq!(passed_at_once(&engine, &ask(&["hour", &other]), 30).await, 0);
        late.well();
        settles(5, async || remaining(&engine, "hour").await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_server_does_not_drain_a_budget_of_the_other() {
    costs_nothing(Place::PerSecond).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_node_does_not_drain_a_budget_of_the_others() {
    costs_nothing(Place::Cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_does_not_drain_a_budget_of_the_other() {
    let late = Late::start(Place::PerSecond).await;
    let tied = ", consume: all_or_nothing, on_error: deny";
    let engine = late.engine(&apart(tied, tied), 0);
    late.servers[1].suspend();
    for _ in 0..3 {
        assert_eq!(passed_at_once(&engine, &ask(&["hour", "second"]), 30).await, 0);
    }
    late.servers[1].resume();
    settles(5, async || remaining(&engine, "hour").await).await;
}

/// Cancelled while their hits are reserved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_calls_do_not_drain_a_budget() {
    for place in Place::SEVERAL_SERVERS {
        let late = Late::start(place).await;
        let tied = ", consume: all_or_nothing";
        let engine = late.engine(&apart(tied, tied), 0);
        let shut = late.elsewhere("shut");
        late.but_hour();
        let request = ask(&["hour", &shut]);
        let all = (0..30).map(|_| engine.decide(&request, None));
        let all = futures_util::future::join_all(all);
        let left = tokio::time::timeout(Duration::from_millis(300), all).await;
        assert!(left.is_err(), "they have been answered");
        late.well();
        settles(5, async || remaining(&engine, "hour").await).await;
    }
}

const ALONE: &str = "
domain: game
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
    let late = Late::start(Place::PerSecond).await;
    let engine = late.engine(ALONE, 0);
    for (key, all) in [("slots", 20), ("window", 100), ("careful", 100)] {
        late.all();
        assert_eq!(passed_at_once(&engine, &ask(&[key]), 40).await, 0);
        late.well();
        // The clock stands still, so no lease ends.
        settles(all, async || remaining(&engine, key).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_calls_cost_no_slot_and_no_hit() {
    let late = Late::start(Place::PerSecond).await;
    let engine = late.engine(&ALONE.replace(", on_error: deny", ""), 0);
    for (key, all) in [("slots", 20), ("window", 100)] {
        late.all();
        let request = ask(&[key]);
        // The first call is under way, and the others wait for it.
        for _ in 0..3 {
            let several = (0..10).map(|_| engine.decide(&request, None));
            let several = futures_util::future::join_all(several);
            let left = tokio::time::timeout(Duration::from_millis(50), several).await;
            assert!(left.is_err(), "they have been answered");
        }
        late.well();
        settles(all, async || remaining(&engine, key).await).await;
    }
}
