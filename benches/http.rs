//! The cost of an HTTP check, compared with `/healthcheck` of the same server.

use std::{
    fs, process,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use tollgate::{
    answer::AnswerSettings,
    config::{self, CompileOptions, SourceFile},
    counter::KeyFormat,
    descriptor::{Descriptor, Entry, Request},
    engine::{
        Engine,
        decision::Mode,
        fallback::{Fallback, FallbackSettings},
    },
    limit::Hits,
    metrics::Metrics,
    service::{InProgress, Service},
    store::memory::Memory,
    time::SystemClock,
    warnings::WarningLimiter,
};

use crate::{CALLS, IN_FLIGHT, KEYS, Process, Result, cpu, cpu_of};

/// The rounds, each with all kinds of calls, so that all share the noise of the machine.
const ROUNDS: u32 = 4;

/// A kind of call.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    path: &'static str,
    uri: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind { name: "/healthcheck", path: "/healthcheck", uri: "/" },
    Kind { name: "/check that is skipped", path: "/check/forwarded/bench", uri: "/free" },
    Kind { name: "/check of one limit, memory", path: "/check/forwarded/bench", uri: "/" },
];

/// Prints the CPU time of each kind of call, over keep-alive connections with one call at a
/// time on each.
pub(crate) async fn measure_checks(rules: &tempfile::NamedTempFile) -> Result<()> {
    let server = Process::tollgate(rules, None, "0")?;
    let address = server.http.clone().ok_or("no HTTP port")?;
    let calls = CALLS / ROUNDS;
    let mut sums = [Duration::ZERO; KINDS.len()];
    let mut times = sums;
    for round in 0..=ROUNDS {
        for (index, kind) in KINDS.into_iter().enumerate() {
            let before = cpu(&server.child)?;
            let started = Instant::now();
            run(&address, kind, calls).await?;
            // The first round warms up.
            if 0 < round {
                sums[index] += cpu(&server.child)? - before;
                times[index] += started.elapsed();
            }
        }
    }
    let each = |it: Duration| it.as_secs_f64() * 1e6 / f64::from(calls * ROUNDS);
    for (index, kind) in KINDS.into_iter().enumerate() {
        let rate = f64::from(calls * ROUNDS) / times[index].as_secs_f64();
        println!(
            "{}: {:.1} µs of CPU per call, {rate:.0} calls per second",
            kind.name,
            each(sums[index])
        );
        println!("    {:.2} times /healthcheck", each(sums[index]) / each(sums[0]));
    }
    let decision = decision_alone(rules)?.as_secs_f64() * 1e6 / f64::from(CALLS);
    let rest = each(sums[KINDS.len() - 1]) - decision;
    println!("its decision: {decision:.1} µs of CPU");
    println!("    without it, {:.2} times /healthcheck", rest / each(sums[0]));
    Ok(())
}

/// The CPU time of the decisions of all checks, in this process.
fn decision_alone(rules: &tempfile::NamedTempFile) -> Result<Duration> {
    let file = SourceFile { name: "rules.yaml".into(), bytes: fs::read(rules)? };
    let compiled = config::compile(&[file], CompileOptions::default());
    let rules = compiled.map_err(|errors| errors.to_string())?.rules;
    let metrics = Arc::new(Metrics::new(0.8));
    metrics.install_rules(&rules);
    let service = Service {
        engine: Engine {
            rules: Arc::new(ArcSwap::from_pointee(rules)),
            store: Memory::new(usize::try_from(2 * KEYS)?),
            clock: Arc::new(SystemClock),
            keys: KeyFormat::default(),
            mode: Mode::default(),
            fallback: Fallback::new(FallbackSettings::default()),
        },
        metrics,
        live: None,
        max_descriptors: 100,
        invalid: WarningLimiter::new("", ""),
        answers: AnswerSettings::default(),
        decision_log: None,
        spans: None,
        in_progress: InProgress::default(),
    };
    let requests: Vec<Request> = (0..KEYS).map(check_request).collect();
    let mut before = Duration::ZERO;
    for round in 0..=CALLS / KEYS {
        // The first round warms up.
        if round == 1 {
            before = cpu_of(process::id())?;
        }
        for request in &requests {
            let decision = service.decide(request, None).now_or_never();
            assert!(decision.is_some_and(|it| it.is_ok_and(|it| !it.over_limit)));
        }
    }
    Ok(cpu_of(process::id())? - before)
}

/// The request that the rules make of a check.
fn check_request(number: u32) -> Request {
    let entry = |key: &'static str, value: String| Entry { key: key.into(), value: value.into() };
    let user = number.wrapping_mul(0x9e37_79b9) % KEYS;
    let entries = vec![entry("tenant", "acme".into()), entry("user", format!("user-{user}"))];
    let descriptor = Descriptor { entries, hits: Hits::Add(1), has_own_hits: false, limit: None };
    Request { domain: "bench".into(), descriptors: vec![descriptor], hits_addend: 0 }
}

async fn run(address: &str, kind: Kind, calls: u32) -> Result<()> {
    let next = Arc::new(AtomicU32::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (next, address) = (Arc::clone(&next), address.to_owned());
        workers.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut reply = vec![0; 4_096];
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if calls <= number {
                    return Result::Ok(());
                }
                stream.write_all(request(kind, number).as_bytes()).await?;
                // Answers are short, so they arrive at once.
                let length = stream.read(&mut reply).await?;
                assert!(reply[..length].starts_with(b"HTTP/1.1 200 OK"));
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(())
}

/// All kinds have the same headers.
fn request(Kind { path, uri, .. }: Kind, number: u32) -> String {
    let user = number.wrapping_mul(0x9e37_79b9) % KEYS;
    format!(
        "GET {path} HTTP/1.1\r\nhost: tollgate\r\nx-forwarded-method: GET\r\nx-forwarded-uri: {uri}\r\n\
         x-forwarded-host: shop.example\r\nx-forwarded-for: 192.0.2.1\r\nx-user: user-{user}\r\n\r\n"
    )
}
