//! Callers that never stop, and what they notice.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitResponse, rate_limit_response::Code,
};
use tokio::{task::JoinSet, time::sleep};

use crate::support::{
    eventually,
    grpc::{Client, ask, connect, descriptor},
    http,
    tollgate::Tollgate,
};

/// Rules, and what is asked about them.
pub(crate) struct Traffic {
    rules: &'static str,
    /// What each request is about, by its number.
    about: fn(usize) -> Vec<(&'static str, String)>,
}

/// `strict` has a limit that the load reaches soon, the others never.
pub(crate) const ALONE: Traffic = Traffic {
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
    about: |number| match number % 10 {
        0 => vec![("strict", "all".to_owned())],
        1..4 => vec![("bucket", format!("b{}", number % 97))],
        _ => vec![("user", format!("u{}", number % 199))],
    },
};

/// The value of `strict` about which requests ask alone.
const ALONE_VALUE: &str = "alone";

/// Nearly all requests need counters that are in different places, and all of them pass if
/// nothing is known. A twentieth asks about a limit alone, to compare with.
pub(crate) const TOGETHER: Traffic = Traffic {
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
    about: |number| {
        let second = ("second", format!("s{}", number % 199));
        match number % 20 {
            0 => vec![("strict", "all".to_owned()), second],
            10 => vec![("strict", ALONE_VALUE.to_owned())],
            _ => vec![("user", format!("u{}", number % 97)), second],
        }
    },
};

const CALLERS: usize = 32;
/// How many instances of the service there are.
const INSTANCES: usize = 2;
/// How long each caller waits between two calls.
const PACE: Duration = Duration::from_millis(15);

/// One answer.
struct Answer {
    at: Instant,
    took: Duration,
    degraded: bool,
    /// How much later than it should the caller went on.
    late: Duration,
}

/// What became of requests about the limit `strict`, which has 100.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Strict {
    pub(crate) asked: usize,
    /// What the store let pass.
    pub(crate) known: usize,
    /// What its policy did.
    pub(crate) by_policy: usize,
}

impl Strict {
    /// A policy answers as if nobody had asked before.
    fn answered(&mut self, answer: &RateLimitResponse, degraded: bool) {
        let by_policy = degraded && answer.statuses[0].limit_remaining == 99;
        let passed = usize::from(answer.overall_code() == Code::Ok);
        let of = if by_policy { &mut self.by_policy } else { &mut self.known };
        *of += passed;
        self.asked += 1;
    }
}

/// What is noticed of a fault.
#[derive(Debug)]
pub(crate) struct Noticed {
    calls: usize,
    by_policy: usize,
    pub(crate) worst: [Duration; 3],
    /// What the machine itself is late with, at p99: it may have other work.
    pub(crate) noise: Duration,
    pub(crate) recovered: Duration,
    /// What passed `strict`.
    pub(crate) strict: usize,
    pub(crate) together: Strict,
    /// Of requests about that limit alone.
    pub(crate) alone: Strict,
    pub(crate) grown: usize,
}

impl Noticed {
    pub(crate) fn print(&self, fault: &str) {
        let Self { calls, by_policy, worst: [p50, p99, p999], recovered, strict, grown, .. } = self;
        println!(
            "| {fault} | {calls} | {:.1} | {:.1} | {:.1} | {by_policy} | {:.1} s | {} | {} MiB |",
            millis(*p50),
            millis(*p99),
            millis(*p999),
            recovered.as_secs_f64(),
            strict.saturating_sub(100),
            grown >> 20,
        );
    }
}

fn millis(it: Duration) -> f64 {
    it.as_secs_f64() * 1e3
}

/// Loads `INSTANCES` of the service with `traffic` while `fault` is under way. It ends
/// once the backend is well again.
pub(crate) async fn during(
    traffic: &'static Traffic,
    settings: &[(&str, &str)],
    fault: impl Future<Output = ()>,
) -> Noticed {
    let settings =
        [&[("RESPONSE_DYNAMIC_METADATA", "always"), ("REDIS_TIMEOUT", "500ms")], settings];
    let settings = settings.concat();
    let services = [(); INSTANCES].map(|()| Tollgate::start(traffic.rules, &settings));
    for service in &services {
        let ready = || (http::get(service.http, "/ready", &[]).status == 200).then_some(());
        eventually("readiness", ready);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let answers = Arc::new(Mutex::new(Vec::new()));
    let strict = Arc::new(Mutex::new([Strict::default(); 2]));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let client = connect(services[caller % INSTANCES].grpc).await;
        let (stop, answers, strict) =
            (Arc::clone(&stop), Arc::clone(&answers), Arc::clone(&strict));
        callers.spawn(call(client, (traffic, caller), stop, answers, strict));
    }
    sleep(Duration::from_millis(500)).await;
    let memory = |all: &[Tollgate]| all.iter().map(Tollgate::peak_memory).max().unwrap();
    let before = memory(&services);
    let begin = Instant::now();
    fault.await;
    let lifted = Instant::now();
    sleep(Duration::from_millis(3_500)).await;
    stop.store(true, Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller.expect("every call is answered");
    }
    let answers = std::mem::take(&mut *answers.lock().unwrap());
    let since = || answers.iter().filter(|it| begin <= it.at);
    let part = |of: fn(&Answer) -> Duration, thousandths: usize| {
        let mut times: Vec<_> = since().map(of).collect();
        times.sort_unstable();
        times[(times.len() - 1) * thousandths / 1_000]
    };
    let [together, alone] = *strict.lock().unwrap();
    Noticed {
        calls: since().count(),
        by_policy: answers.iter().filter(|it| it.degraded).count(),
        worst: [500, 990, 999].map(|it| part(|it| it.took, it)),
        noise: part(|it| it.late, 990),
        recovered: recovered(&answers, begin, lifted),
        strict: together.known + together.by_policy,
        together,
        alone,
        grown: memory(&services).saturating_sub(before),
    }
}

/// The beginning of the first half second after `lifted` in which at most a quarter of
/// the answers was degraded that had not been before `begin`. Fewer are what a busy
/// machine is late with; a node that is missing in a cluster has a third of the counters.
fn recovered(answers: &[Answer], begin: Instant, lifted: Instant) -> Duration {
    const STEP: Duration = Duration::from_millis(100);
    const STEPS: usize = 40;
    let mut steps = vec![(0, 0); STEPS];
    for answer in answers.iter().filter(|it| lifted <= it.at) {
        let step = (answer.at - lifted).as_millis() / STEP.as_millis();
        if let Some((all, degraded)) = usize::try_from(step).ok().and_then(|it| steps.get_mut(it)) {
            *all += 1;
            *degraded += u32::from(answer.degraded);
        }
    }
    let before = answers.iter().filter(|it| it.at < begin);
    let before = before.fold((0, 0), |sum, it| (sum.0 + 1, sum.1 + u32::from(it.degraded)));
    let share = |(all, degraded): (u32, u32)| f64::from(degraded) / f64::from(all.max(1));
    let is_well = |steps: &[(u32, u32)]| {
        share(steps.iter().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1)))
            <= 0.25 + share(before)
    };
    let first = steps.windows(5).position(is_well).unwrap_or(STEPS);
    STEP * u32::try_from(first).unwrap_or(u32::MAX)
}

/// Asks until `stop`.
async fn call(
    mut client: Client,
    (traffic, caller): (&'static Traffic, usize),
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<Answer>>>,
    strict: Arc<Mutex<[Strict; 2]>>,
) {
    let mut number = caller;
    while !stop.load(Relaxed) {
        number += CALLERS;
        let about = (traffic.about)(number);
        let mut request = ask("shop", &[]);
        request.descriptors =
            about.iter().map(|(key, value)| descriptor(&[(key, value)])).collect();
        let at = Instant::now();
        let answer = client.should_rate_limit(request).await;
        let answer = answer.expect("every call is answered").into_inner();
        let metadata = answer.dynamic_metadata.as_ref().unwrap();
        let degraded = metadata.fields.contains_key("degraded");
        if about[0].0 == "strict" {
            let alone = usize::from(about[0].1 == ALONE_VALUE);
            strict.lock().unwrap()[alone].answered(&answer, degraded);
        }
        let (took, pause) = (at.elapsed(), Instant::now());
        sleep(PACE).await;
        let late = pause.elapsed().saturating_sub(PACE);
        answers.lock().unwrap().push(Answer { at, took, degraded, late });
    }
}
