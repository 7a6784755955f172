//! Callers that send requests without pause during a fault, and the figures they observe.

use std::{
    future::Future,
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitResponse, rate_limit_response::Code,
};
use testkit::{
    grpc::{self, Client, descriptor, is_degraded, request_for},
    tollgate::Tollgate,
    wait::eventually_async,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Rules, and the requests that callers send.
pub(crate) struct Traffic {
    rules: &'static str,
    /// The keys and values of the request with this number, each in a descriptor.
    descriptors: fn(usize) -> Vec<(&'static str, String)>,
}

/// Each request has one descriptor. The load reaches the limit of `strict` soon and the
/// others never.
pub(crate) const SINGLE_SERVER: Traffic = Traffic {
    rules: "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 4000000000, on_error: allow }
- key: bucket
  rate_limit: { unit: year, requests_per_unit: 4000000000, algorithm: token_bucket, on_error: allow }
- key: strict
  rate_limit: { unit: year, requests_per_unit: 100, on_error: deny }
",
    descriptors: |number| match number % 10 {
        0 => vec![("strict", "all".to_owned())],
        1..4 => vec![("bucket", format!("b{}", number % 97))],
        _ => vec![("user", format!("u{}", number % 199))],
    },
};

/// The value of `strict` in requests with a single descriptor.
const SINGLE: &str = "single";

/// Nearly all requests need counters on different servers, and policies let all of them
/// pass. One in twenty has a single descriptor, for comparison.
pub(crate) const CROSS_SERVER: Traffic = Traffic {
    rules: "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 4000000000, on_error: allow }
- key: second
  rate_limit: { unit: second, requests_per_unit: 4000000000, on_error: allow }
- key: strict
  rate_limit: { unit: year, requests_per_unit: 100, on_error: allow }
",
    descriptors: |number| {
        let second = ("second", format!("s{}", number % 199));
        match number % 20 {
            0 => vec![("strict", "all".to_owned()), second],
            10 => vec![("strict", SINGLE.to_owned())],
            _ => vec![("user", format!("u{}", number % 97)), second],
        }
    },
};

const CALLERS: usize = 32;
const INSTANCES: usize = 2;
/// The pause of each caller between two calls.
const PAUSE: Duration = Duration::from_millis(15);
/// The calls that are made before a fault.
const WARM_UP_CALLS: usize = 500;
/// Redis counts as recovered once so many calls in sequence are rarely degraded.
const RECOVERY_CALLS: usize = 400;

struct Answer {
    sent_at: Instant,
    latency: Duration,
    degraded: bool,
    /// By how much the pause after the call exceeded [`PAUSE`].
    scheduling_delay: Duration,
}

fn count_degraded(answers: &[Answer]) -> usize {
    let mut degraded = 0;
    for answer in answers {
        degraded += usize::from(answer.degraded);
    }
    degraded
}

/// Results of requests about `strict`, which has a limit of 100.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StrictCount {
    pub(crate) requests: usize,
    pub(crate) passed_by_store: usize,
    pub(crate) passed_by_policy: usize,
}

impl StrictCount {
    fn add(&mut self, response: &RateLimitResponse) {
        self.requests += 1;
        if response.overall_code() != Code::Ok {
            return;
        }
        // The policy reports an unused limit.
        if is_degraded(response) && response.statuses[0].limit_remaining == 99 {
            self.passed_by_policy += 1;
        } else {
            self.passed_by_store += 1;
        }
    }
}

/// Figures of the calls since the begin of a fault.
#[derive(Debug)]
pub(crate) struct Observed {
    calls: usize,
    degraded: usize,
    /// Percentiles 50, 99 and 99.9.
    pub(crate) latency: [Duration; 3],
    /// The 99th percentile of how late callers were because the machine has other work.
    pub(crate) scheduling_delay: Duration,
    /// The time from the end of the fault until Redis decides again.
    pub(crate) recovery: Duration,
    /// Requests that passed the limit of `strict`.
    pub(crate) passed: usize,
    /// Requests about `strict` and another limit.
    pub(crate) combined: StrictCount,
    /// Requests about `strict` only.
    pub(crate) single: StrictCount,
    /// Growth of the peak memory of an instance, in bytes.
    pub(crate) memory_growth: usize,
}

impl Observed {
    /// Whether calls reach the store before its deadline of 15 ms. If not, policies decide
    /// whatever Redis does. A call waits for its turn in the load generator, in tollgate and
    /// in Redis.
    pub(crate) fn is_quiet(&self) -> bool {
        self.scheduling_delay < Duration::from_millis(5)
    }

    /// Prints a row of the table in docs/redis.md.
    pub(crate) fn print(&self, fault: &str) {
        let Self { calls, degraded, latency: [p50, p99, p999], recovery, passed, .. } = self;
        println!(
            "| {fault} | {calls} | {:.1} | {:.1} | {:.1} | {degraded} | {:.1} s | {} | {} MiB |",
            millis(*p50),
            millis(*p99),
            millis(*p999),
            recovery.as_secs_f64(),
            passed.saturating_sub(100),
            self.memory_growth >> 20,
        );
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The results that all callers share.
#[derive(Default)]
struct Record {
    stop: AtomicBool,
    answers: Mutex<Vec<Answer>>,
    combined: Mutex<StrictCount>,
    single: Mutex<StrictCount>,
}

impl Record {
    fn calls(&self) -> usize {
        self.answers.lock().unwrap().len()
    }

    /// How many of the last [`RECOVERY_CALLS`] before call number `end` were degraded.
    fn degraded_before(&self, end: usize) -> usize {
        let answers = self.answers.lock().unwrap();
        count_degraded(&answers[end - RECOVERY_CALLS..end])
    }
}

/// Sends `traffic` to [`INSTANCES`] instances while `fault` is under way, and until Redis
/// decides again. `fault` returns once its cause has ended.
pub(crate) async fn observe(
    traffic: &'static Traffic,
    settings: &[(&str, &str)],
    fault: impl Future<Output = ()>,
) -> Observed {
    let mut all = vec![("RESPONSE_DYNAMIC_METADATA", "always"), ("REDIS_TIMEOUT", "500ms")];
    all.extend(settings);
    let services = [(); INSTANCES].map(|()| Tollgate::start_ready(traffic.rules, &all));
    let record = Arc::new(Record::default());
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let client = grpc::connect(services[number % INSTANCES].grpc).await;
        let caller = Caller { client, traffic, number, record: Arc::clone(&record) };
        callers.spawn(caller.run());
    }
    let warm = async || record.calls() >= WARM_UP_CALLS;
    eventually_async("the first calls", warm).await;
    let degraded_before = record.degraded_before(record.calls());
    let memory_before = peak_memory(&services);
    let begin = Instant::now();
    fault.await;
    let ended = Instant::now();
    let calls_at_end = record.calls();
    // A busy machine makes some calls late, and a cluster that misses one of three nodes
    // has a third of its calls degraded: a quarter is between the two.
    let most = degraded_before + RECOVERY_CALLS / 4;
    let recovered = async || {
        let calls = record.calls();
        calls >= calls_at_end + RECOVERY_CALLS && record.degraded_before(calls) <= most
    };
    eventually_async("Redis to decide again", recovered).await;
    let recovery = ended.elapsed();
    record.stop.store(true, Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller.expect("every call is answered");
    }

    let mut answers = mem::take(&mut *record.answers.lock().unwrap());
    answers.retain(|answer| begin <= answer.sent_at);
    let (mut latencies, mut delays) = (Vec::new(), Vec::new());
    for answer in &answers {
        latencies.push(answer.latency);
        delays.push(answer.scheduling_delay);
    }
    let (latency, scheduling) = (Percentiles::new(latencies), Percentiles::new(delays));
    let (combined, single) = (*record.combined.lock().unwrap(), *record.single.lock().unwrap());
    Observed {
        calls: answers.len(),
        degraded: count_degraded(&answers),
        latency: [latency.at(500), latency.at(990), latency.at(999)],
        scheduling_delay: scheduling.at(990),
        recovery,
        passed: combined.passed_by_store + combined.passed_by_policy,
        combined,
        single,
        memory_growth: peak_memory(&services).saturating_sub(memory_before),
    }
}

fn peak_memory(services: &[Tollgate]) -> usize {
    services.iter().map(Tollgate::peak_memory).max().unwrap()
}

struct Percentiles(Vec<Duration>);

impl Percentiles {
    fn new(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    fn at(&self, thousandths: usize) -> Duration {
        self.0[(self.0.len() - 1) * thousandths / 1_000]
    }
}

/// Sends one request after the other.
struct Caller {
    client: Client,
    traffic: &'static Traffic,
    number: usize,
    record: Arc<Record>,
}

impl Caller {
    async fn run(mut self) {
        let mut number = self.number;
        while !self.record.stop.load(Relaxed) {
            number += CALLERS;
            let keys = (self.traffic.descriptors)(number);
            let mut request = request_for("shop", &[]);
            request.descriptors.clear();
            for (key, value) in &keys {
                request.descriptors.push(descriptor(&[(key, value)]));
            }
            let sent_at = Instant::now();
            let response = grpc::decide(&mut self.client, request).await;
            let latency = sent_at.elapsed();
            let (key, value) = &keys[0];
            if *key == "strict" && value == SINGLE {
                self.record.single.lock().unwrap().add(&response);
            } else if *key == "strict" {
                self.record.combined.lock().unwrap().add(&response);
            }
            let due = Instant::now() + PAUSE;
            sleep_until(due).await;
            let scheduling_delay = due.elapsed();
            let degraded = is_degraded(&response);
            let answer = Answer { sent_at, latency, degraded, scheduling_delay };
            self.record.answers.lock().unwrap().push(answer);
        }
    }
}
