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

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use testkit::{
    grpc::{self, Client, descriptor, is_degraded, request_for},
    http,
    redis::RedisServer,
    tollgate::Tollgate,
};
use tokio::{
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior, interval},
};

use crate::suite::EXCLUSIVE;

/// Each load is compared in this number of rounds, as other work may disturb some of them.
const ROUNDS: usize = 5;
/// The length of each half of a round: first with ordinary requests, then with the load.
const PERIOD: Duration = Duration::from_millis(500);
/// The pause of an ordinary caller between two calls.
const PAUSE: Duration = Duration::from_millis(4);
const ORDINARY_CALLERS: usize = 8;
const INSTANCES: usize = 2;

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

/// The calls of the ordinary callers of one instance in one period.
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

/// The counts of one instance, next to each other in time.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    control: Count,
    loaded: Count,
}

impl Round {
    /// Calls made during the load, in percent of those beside ordinary requests.
    fn throughput(&self) -> u64 {
        100 * self.loaded.calls / self.control.calls.max(1)
    }

    /// Whether policies decided one call in 20 more than twice those beside ordinary
    /// requests.
    fn is_degraded(&self) -> bool {
        2 * self.control.degraded + self.loaded.calls / 20 < self.loaded.degraded
    }
}

#[derive(Clone, Copy, Debug)]
struct Verdict {
    /// The median of the rounds.
    throughput: u64,
    degraded_rounds: usize,
    /// All rounds together.
    total: Round,
}

fn judge(rounds: &[Round]) -> Verdict {
    let (mut throughputs, mut degraded_rounds, mut total) = (Vec::new(), 0, Round::default());
    for round in rounds {
        throughputs.push(round.throughput());
        degraded_rounds += usize::from(round.is_degraded());
        total.control += round.control;
        total.loaded += round.loaded;
    }
    throughputs.sort_unstable();
    Verdict { throughput: throughputs[rounds.len() / 2], degraded_rounds, total }
}

/// Checks that ordinary callers get at least half of their calls through during the load, in
/// most rounds or in all together, and that policies decide few more of them: in some round
/// as [`Round::is_degraded`] demands, and in all rounds together, because of other work on
/// the machine, with twice the allowance. A machine that is too busy for half of the calls
/// beside ordinary requests has no CPU time left for the load, so a fifth of the calls and
/// one such round are enough there.
#[track_caller]
fn check(name: &str, rounds: &[Round]) {
    let verdict = judge(rounds);
    println!("{name}: {verdict:?}");
    let Verdict { throughput, degraded_rounds, total: Round { control, loaded } } = verdict;
    assert_eq!((control.failed, loaded.failed), (0, 0), "{name}: {rounds:?}");
    // The time of all callers of an instance in all rounds.
    let time = PERIOD * u32::try_from(ROUNDS * ORDINARY_CALLERS / INSTANCES).unwrap();
    let is_quiet = 2 * u128::from(control.calls) >= time.as_millis() / PAUSE.as_millis();
    let least = if is_quiet { 50 } else { 20 };
    let throughput = throughput.max(verdict.total.throughput());
    assert!(throughput >= least, "{name}: {throughput} % of the calls, {rounds:?}");
    assert!(degraded_rounds < ROUNDS, "{name}: every round is degraded, {rounds:?}");
    let most = 2 * control.degraded + loaded.calls / 10;
    let few = loaded.degraded <= most;
    assert!(few || !is_quiet, "{name}: {} > {most}, {rounds:?}", loaded.degraded);
}

struct Bench {
    /// Only the first instance gets the load.
    services: [Tollgate; INSTANCES],
    /// The connections of ordinary callers, in turn to each instance.
    callers: Vec<Client>,
    _redis: RedisServer,
}

impl Bench {
    async fn start() -> Self {
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
        let services = [(); INSTANCES].map(|()| Tollgate::start_ready(&rules, &settings));
        let mut callers = Vec::new();
        for number in 0..ORDINARY_CALLERS {
            callers.push(grpc::connect(services[number % INSTANCES].grpc).await);
        }
        Self { services, callers, _redis: redis }
    }

    async fn fill_log(&mut self) {
        for _ in 0..10_000 {
            let request = request_for("shop", &[("log", "full")]);
            let response = grpc::decide(&mut self.callers[0], request).await;
            if response.overall_code() == Code::OverLimit {
                return;
            }
        }
        panic!("the log is not full");
    }

    /// Compares `load` with ordinary requests. Returns the rounds of each instance.
    async fn compare(&self, load: Load) -> [Vec<Round>; INSTANCES] {
        let mut rounds = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            let control = self.measure(ORDINARY).await;
            let loaded = self.measure(load).await;
            for instance in 0..INSTANCES {
                let round = Round { control: control[instance], loaded: loaded[instance] };
                rounds[instance].push(round);
            }
        }
        rounds
    }

    /// The calls to each instance during a period of `load`.
    async fn measure(&self, load: Load) -> [Count; INSTANCES] {
        let stop = Arc::new(AtomicBool::new(false));
        let mut others = JoinSet::new();
        for caller in 0..load.callers {
            let client = grpc::connect(self.services[0].grpc).await;
            others.spawn(send_load(client, load, caller, Arc::clone(&stop)));
        }
        if load.scrapes {
            others.spawn(scrape(self.services[0].http, Arc::clone(&stop)));
        }
        let mut callers = JoinSet::new();
        let end = Instant::now() + PERIOD;
        for (number, client) in self.callers.iter().enumerate() {
            callers.spawn(call_until(end, client.clone(), number));
        }
        let mut counts = [Count::default(); INSTANCES];
        while let Some(result) = callers.join_next().await {
            let CallerCount { caller, count } = result.unwrap();
            counts[caller % INSTANCES] += count;
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

async fn send_load(mut client: Client, load: Load, caller: u64, stop: Arc<AtomicBool>) {
    let mut number = caller << 32;
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
    let mut ticks = pauses(PERIOD);
    while !stop.load(Relaxed) {
        let page = tokio::task::spawn_blocking(move || http::get(address, "/metrics", &[]));
        assert_eq!(page.await.unwrap().status, 200);
        ticks.tick().await;
    }
}

struct CallerCount {
    caller: usize,
    count: Count,
}

/// An ordinary caller: one descriptor in each request, one request at a time.
async fn call_until(end: Instant, mut client: Client, caller: usize) -> CallerCount {
    let mut count = Count::default();
    let mut ticks = pauses(PAUSE);
    while Instant::now() < end {
        let value = format!("w{}", caller as u64 + count.calls % 97 * 8);
        count.calls += 1;
        match client.should_rate_limit(request_for("shop", &[("user", &value)])).await {
            Ok(response) if is_degraded(response.get_ref()) => count.degraded += 1,
            Ok(_) => {}
            Err(_) => count.failed += 1,
        }
        ticks.tick().await;
    }
    CallerCount { caller, count }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expensive_requests_do_not_delay_ordinary_callers() {
    let _exclusive = EXCLUSIVE.lock().await;
    let mut bench = Bench::start().await;
    bench.fill_log().await;
    let full_log = |_| ("log", "full".to_owned());
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
        for rounds in bench.compare(load).await {
            check(name, &rounds);
        }
    }
}
