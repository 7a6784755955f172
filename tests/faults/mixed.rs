//! Expensive requests, full lists and large pages delay an ordinary caller no more than as
//! many ordinary requests do.

use std::{
    net::SocketAddr,
    ops::AddAssign,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use testkit::{
    grpc::{self, descriptor, is_degraded, request_for},
    http,
    redis::RedisServer,
    tollgate::Tollgate,
};
use tokio::{
    task::JoinSet,
    time::{Interval, MissedTickBehavior, interval},
};

use crate::suite::EXCLUSIVE;

/// The calls of each ordinary caller during each load.
const CALLS: u64 = 250;
/// The pause of an ordinary caller between two calls.
const PAUSE: Duration = Duration::from_millis(4);

/// The requests of the other callers.
#[derive(Clone, Copy, Debug)]
struct Load {
    callers: u64,
    /// The number of descriptors of each request.
    descriptors: u64,
    /// The key and value of the descriptor with this number.
    descriptor: fn(u64) -> (&'static str, String),
    /// The pause of each caller between two requests, which leaves CPU time for others.
    pause: Duration,
    /// Whether `/metrics` is scraped as well.
    scrapes: bool,
}

const NO_LOAD: Load = Load {
    callers: 0,
    descriptors: 0,
    descriptor: |_| ("user", String::new()),
    pause: Duration::from_millis(5),
    scrapes: false,
};
const ORDINARY: Load = Load {
    callers: 8,
    descriptors: 1,
    descriptor: |number| ("user", format!("o{}", number % 999)),
    ..NO_LOAD
};

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    calls: u64,
    /// Calls that a policy decided, as Redis did not answer in time.
    degraded: u64,
    failed: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.degraded += other.degraded;
        self.failed += other.failed;
    }
}

struct Bench {
    /// Only the first instance gets the load.
    services: [Tollgate; 2],
    _redis: RedisServer,
}

impl Bench {
    fn start() -> Self {
        let mut rules = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 4000000000, on_error: allow }
- key: log
  rate_limit: { unit: year, requests_per_unit: 1000, algorithm: sliding_log, on_error: allow }
- key: dependent
  rate_limit: { unit: year, requests_per_unit: 1000, algorithm: sliding_log, on_error: allow,
                consume: all_or_nothing }
"
        .to_owned();
        for number in 0..20_000 {
            let limit = "rate_limit: { unit: hour, requests_per_unit: 9 }";
            rules += &format!("- {{ key: r, value: v{number}, {limit} }}\n");
        }
        let redis = RedisServer::start();
        let settings = [("REDIS_URL", &*redis.url()), ("RESPONSE_DYNAMIC_METADATA", "always")];
        let services = [(); 2].map(|()| Tollgate::start_ready(&rules, &settings));
        Self { services, _redis: redis }
    }

    /// The results of ordinary callers of each instance during `load`.
    async fn measure(&self, load: Load) -> [Count; 2] {
        let stop = Arc::new(AtomicBool::new(false));
        let mut others = JoinSet::new();
        for caller in 0..load.callers {
            others.spawn(send_load(self.services[0].grpc, load, caller, Arc::clone(&stop)));
        }
        if load.scrapes {
            others.spawn(scrape(self.services[0].http, Arc::clone(&stop)));
        }
        let mut callers = JoinSet::new();
        for number in 0..8 {
            let instance = number % 2;
            let address = self.services[instance].grpc;
            callers.spawn(async move { (instance, call(address, number).await) });
        }
        let mut counts = [Count::default(); 2];
        while let Some(result) = callers.join_next().await {
            let (instance, count) = result.unwrap();
            counts[instance] += count;
        }
        stop.store(true, Relaxed);
        while let Some(other) = others.join_next().await {
            other.unwrap();
        }
        counts
    }
}

/// Ticks that are at least `pause` apart.
fn pauses(pause: Duration) -> Interval {
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn send_load(address: SocketAddr, load: Load, caller: u64, stop: Arc<AtomicBool>) {
    let (mut client, mut number) = (grpc::connect(address).await, caller << 32);
    let mut ticks = pauses(load.pause);
    while !stop.load(Relaxed) {
        let mut request = request_for("shop", &[]);
        request.descriptors.clear();
        for _ in 0..load.descriptors {
            number += 1;
            let (key, value) = (load.descriptor)(number);
            request.descriptors.push(descriptor(&[(key, &value)]));
        }
        let response = grpc::decide(&mut client, request).await;
        assert_eq!(response.statuses.len() as u64, load.descriptors);
        ticks.tick().await;
    }
}

async fn scrape(address: SocketAddr, stop: Arc<AtomicBool>) {
    let mut ticks = pauses(Duration::from_millis(300));
    while !stop.load(Relaxed) {
        let page = tokio::task::spawn_blocking(move || http::get(address, "/metrics", &[]));
        assert_eq!(page.await.unwrap().status, 200);
        ticks.tick().await;
    }
}

/// An ordinary caller: one descriptor in each request, one request at a time.
async fn call(address: SocketAddr, number: usize) -> Count {
    let (mut client, mut count) = (grpc::connect(address).await, Count::default());
    let mut ticks = pauses(PAUSE);
    for call in 0..CALLS {
        let value = format!("w{}", number as u64 + call % 97 * 8);
        count.calls += 1;
        match client.should_rate_limit(request_for("shop", &[("user", &value)])).await {
            Ok(response) if is_degraded(response.get_ref()) => count.degraded += 1,
            Ok(_) => {}
            Err(_) => count.failed += 1,
        }
        ticks.tick().await;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expensive_requests_do_not_delay_ordinary_callers() {
    let _exclusive = EXCLUSIVE.lock().await;
    let bench = Bench::start();
    let full_log = |_| ("log", "full".to_owned());
    // Fills the list.
    bench.measure(Load { descriptor: full_log, ..ORDINARY }).await;
    let hundred =
        Load { callers: 1, descriptors: 100, pause: Duration::from_millis(20), ..ORDINARY };
    let logs = |number| ("log", format!("l{}", number % 50));
    let dependent = |number| ("dependent", format!("t{}", number % 150));
    let loads = [
        ("a full log", Load { descriptor: full_log, ..ORDINARY }),
        ("logs", Load { descriptor: logs, ..ORDINARY }),
        ("a full log 100 times", Load { descriptor: full_log, ..hundred }),
        ("100 logs that depend on each other", Load { descriptor: dependent, ..hundred }),
        ("100 windows", hundred),
        ("scrapes", Load { scrapes: true, ..NO_LOAD }),
    ];
    for (name, load) in loads {
        let control = bench.measure(ORDINARY).await;
        let found = bench.measure(load).await;
        println!("{name}: {found:?}; ordinary requests: {control:?}");
        for (found, control) in found.iter().zip(control) {
            assert_eq!(found.failed, 0, "{name}");
            let most = 2 * control.degraded + found.calls / 10;
            assert!(found.degraded <= most, "{name}: {found:?}, control {control:?}");
        }
    }
}
