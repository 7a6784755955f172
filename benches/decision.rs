//! The cost of a decision: CPU time per call of the service, of Redis if it is used, and
//! of a bare tonic server that answers the same messages without deciding anything. All
//! of them run at the same time, so their ratio is valid on a noisy machine as well.
//!
//! `cargo bench --bench decision` sends [`CALLS`] requests, [`IN_FLIGHT`] at a time over
//! [`CONNECTIONS`] connections, for [`KEYS`] different keys: uniformly distributed, or by
//! Zipf's law with the exponent [`SKEW`]. CPU time is taken from the kernel's statistics
//! of each process. The benchmark starts its own redis-server.
//!
//! The rows of HTTP come from one server: `/healthcheck` with the headers of a check, checks
//! without a limit, and checks with one. Another row has the decision of such a check alone, with
//! counters in memory, so that the rest can be compared.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tollgate::grpc::pb::envoy::{
    extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
    service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse,
        rate_limit_response::{Code, DescriptorStatus, RateLimit, rate_limit::Unit},
        rate_limit_service_client::RateLimitServiceClient,
        rate_limit_service_server::{RateLimitService, RateLimitServiceServer},
    },
};
use tonic::transport::{Channel, Server};

const CALLS: u32 = 400_000;
const IN_FLIGHT: usize = 64;
const CONNECTIONS: usize = 4;
const KEYS: u32 = 100_000;
const SKEW: f64 = 1.1;
/// The first limit is never reached. The second one is reached by the few most frequent
/// keys if keys are skewed.
const RULES: &str = "
domain: bench
http:
  skip: [{path: /free}]
  descriptors: [[{key: tenant, value: acme}, {header: x-user, key: user}]]
descriptors:
- key: tenant
  descriptors:
  - key: user
    rate_limit: {unit: hour, requests_per_unit: 1000000}
- key: small
  descriptors:
  - key: user
    rate_limit: {unit: hour, requests_per_unit: 1000}
";

/// Keys whose value is matched against this number of patterns.
const PATTERNS: [(&str, usize); 2] = [("ten", 10), ("many", 10_000)];

/// Rules with patterns. Only the last one matches.
fn patterns() -> String {
    let mut text = String::new();
    for (name, count) in PATTERNS {
        let _ = write!(text, "- key: {name}\n  descriptors:\n");
        for it in 1..count {
            let _ = writeln!(text, "  - {{key: user, value: 'user-*x{it}'}}");
        }
        let limit = "rate_limit: {unit: hour, requests_per_unit: 1000000}";
        let _ = writeln!(text, "  - {{key: user, value: 'user-*', {limit}}}");
    }
    text
}

mod http;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    if env::args().any(|it| it == "--bare-server") {
        return bare_server().await;
    }
    let rules = tempfile::NamedTempFile::with_suffix(".yaml")?;
    fs::write(&rules, format!("{RULES}{}", patterns()))?;
    let uniform = Arc::new(Load { rule: "tenant", keys: Keys::Uniform });
    let bare = measure("bare tonic server", Process::bare()?, None, &uniform).await?;
    let memory = Process::tollgate(&rules, None, "0")?;
    let memory = measure("tollgate, memory", memory, None, &uniform).await?;
    println!("    {:.2} times the bare server", memory / bare);
    http::measure_checks(&rules).await?;
    let mut of_ten = None;
    for (name, count) in PATTERNS {
        let load = Arc::new(Load { rule: name, keys: Keys::Uniform });
        let server = Process::tollgate(&rules, None, "0")?;
        let each = measure(&format!("the last of {count} patterns"), server, None, &load).await?;
        println!("    {:.2} times that of 10", each / *of_ten.get_or_insert(each));
    }
    let zipf = Arc::new(zipf());
    for (name, cache, rule, keys) in [
        ("tollgate, Redis", "0", "tenant", Keys::Uniform),
        ("tollgate, Redis, skewed keys", "0", "tenant", Keys::Zipf(Arc::clone(&zipf))),
        (
            "tollgate, Redis, skewed keys, small limit, deny cache",
            "16777216",
            "small",
            Keys::Zipf(zipf),
        ),
    ] {
        let redis = RedisServer::start()?;
        let server = Process::tollgate(&rules, Some(&redis.url()), cache)?;
        let each = measure(name, server, Some(&redis), &Arc::new(Load { rule, keys })).await?;
        println!("    {:.2} times the bare server", each / bare);
    }
    Ok(())
}

/// The distribution of the keys.
struct Load {
    rule: &'static str,
    keys: Keys,
}

enum Keys {
    Uniform,
    /// The cumulative frequency of each key, as a fraction of 2^64.
    Zipf(Arc<Vec<u64>>),
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
fn zipf() -> Vec<u64> {
    let weights = || (1..=KEYS).map(|it| f64::from(it).powf(-SKEW));
    let sum: f64 = weights().sum();
    let mut so_far = 0.0;
    let share = |it: f64| {
        so_far += it / sum;
        (so_far * u64::MAX as f64) as u64
    };
    weights().map(share).collect()
}

impl Load {
    /// The index of the key of a call, in an order without locality.
    fn key(&self, number: u32) -> usize {
        let mixed = u64::from(number).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        match &self.keys {
            Keys::Uniform => usize::try_from(mixed % u64::from(KEYS)).unwrap_or_default(),
            Keys::Zipf(shares) => shares.partition_point(|it| *it < mixed),
        }
    }
}

/// A redis-server. It is killed when dropped.
struct RedisServer {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl RedisServer {
    fn start() -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let directory = tempfile::tempdir()?;
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()])
            .current_dir(&directory)
            .stdout(Stdio::null())
            .spawn()?;
        let server = Self { child, port, _directory: directory };
        for _ in 0..500 {
            if server.commands().is_ok() {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("redis-server does not answer".into())
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The number of commands so far, including those of scripts.
    fn commands(&self) -> Result<u64> {
        let mut client = redis::Client::open(self.url())?.get_connection()?;
        let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut client)?;
        let mut run = 0;
        for line in stats.lines().filter_map(|it| it.strip_prefix("cmdstat_")) {
            let (_, rest) = line.split_once(":calls=").ok_or("not a statistic")?;
            run += rest.split(',').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(run)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server process. It is killed when dropped.
struct Process {
    child: Child,
    /// Of gRPC.
    address: String,
    /// Of HTTP, if it has such a port.
    http: Option<String>,
}

impl Process {
    fn bare() -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        Self::start(command.arg("--bare-server").stdout(Stdio::piped()), false, |it| {
            it.stdout.take()
        })
    }

    fn tollgate(rules: &tempfile::NamedTempFile, redis: Option<&str>, cache: &str) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.env("TOLLGATE_CONFIG", rules.path()).stderr(Stdio::piped());
        for (host, port) in
            [("HOST", "PORT"), ("GRPC_HOST", "GRPC_PORT"), ("DEBUG_HOST", "DEBUG_PORT")]
        {
            command.env(host, "127.0.0.1").env(port, "0");
        }
        command.env("REDIS_URL", redis.unwrap_or_default()).env("REDIS_TIMEOUT", "5s");
        command.env("LOCAL_CACHE_SIZE_IN_BYTES", cache);
        Self::start(&mut command, true, |it| it.stderr.take())
    }

    fn start<R: std::io::Read>(
        command: &mut Command,
        has_http: bool,
        output: impl Fn(&mut Child) -> Option<R>,
    ) -> Result<Self> {
        let mut child = command.spawn()?;
        let lines = BufReader::new(output(&mut child).ok_or("no output")?).lines();
        let mut address = String::new();
        for line in lines {
            let line = line?;
            if let Some((_, grpc)) = line.split_once("listener=\"grpc\" address=") {
                address = format!("http://{}", grpc.trim());
                if !has_http {
                    return Ok(Self { child, address, http: None });
                }
            }
            if let Some((_, http)) = line.split_once("listener=\"http\" address=") {
                return Ok(Self { child, address, http: Some(http.trim().to_owned()) });
            }
        }
        Err("the server ended before it listened".into())
    }
}

/// The CPU time of the process so far. The kernel counts in hundredths of a second.
fn cpu(process: &Child) -> Result<Duration> {
    cpu_of(process.id())
}

fn cpu_of(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time per call in microseconds, including that of Redis.
async fn measure(
    name: &str,
    server: Process,
    redis: Option<&RedisServer>,
    load: &Arc<Load>,
) -> Result<f64> {
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(Channel::from_shared(server.address.clone())?.connect().await?);
    }
    let of_redis = || {
        redis.map_or(Ok((Duration::ZERO, 0)), |it| Result::Ok((cpu(&it.child)?, it.commands()?)))
    };
    run(&channels, CALLS / 10, load).await?;
    let (before, (redis_before, run_before)) = (cpu(&server.child)?, of_redis()?);
    let started = Instant::now();
    run(&channels, CALLS, load).await?;
    let time = started.elapsed();
    let (after, (redis_after, run_after)) = (cpu(&server.child)?, of_redis()?);
    let each = |it: Duration| it.as_secs_f64() * 1e6 / f64::from(CALLS);
    let (own, redis_own) = (each(after - before), each(redis_after - redis_before));
    let rate = f64::from(CALLS) / time.as_secs_f64();
    println!("{name}: {:.1} µs of CPU per call, {rate:.0} calls per second", own + redis_own);
    if redis.is_some() {
        let per_call = |it: u64| u32::try_from(it).map(|it| f64::from(it) / f64::from(CALLS));
        println!(
            "    {own:.1} µs in tollgate, {redis_own:.1} µs in Redis, which ran {:.2} commands per call",
            per_call(run_after - run_before)?,
        );
    }
    Ok(own + redis_own)
}

async fn run(channels: &[Channel], calls: u32, load: &Arc<Load>) -> Result<()> {
    let next = Arc::new(AtomicU32::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..IN_FLIGHT {
        let mut client = RateLimitServiceClient::new(channels[worker % channels.len()].clone());
        let (next, load) = (Arc::clone(&next), Arc::clone(load));
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if calls <= number {
                    return Result::Ok(());
                }
                let request = request(load.rule, load.key(number));
                let answer = client.should_rate_limit(request).await?.into_inner();
                assert!(answer.overall_code() == Code::Ok || load.rule == "small");
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(())
}

fn request(rule: &str, user: usize) -> RateLimitRequest {
    let entry =
        |key: &str, value: String| Entry { key: key.to_owned().into(), value: value.into() };
    RateLimitRequest {
        domain: "bench".into(),
        descriptors: vec![RateLimitDescriptor {
            entries: vec![entry(rule, "acme".into()), entry("user", format!("user-{user}"))],
            ..Default::default()
        }],
        hits_addend: 0,
    }
}

/// Answers like the service without deciding anything.
struct Bare;

#[tonic::async_trait]
impl RateLimitService for Bare {
    async fn should_rate_limit(
        &self,
        _: tonic::Request<RateLimitRequest>,
    ) -> std::result::Result<tonic::Response<RateLimitResponse>, tonic::Status> {
        Ok(tonic::Response::new(RateLimitResponse {
            overall_code: Code::Ok.into(),
            statuses: vec![DescriptorStatus {
                code: Code::Ok.into(),
                current_limit: Some(RateLimit {
                    requests_per_unit: 1_000_000,
                    unit: Unit::Hour.into(),
                    ..Default::default()
                }),
                limit_remaining: 999_999,
                duration_until_reset: Some(prost_types::Duration { seconds: 1234, nanos: 0 }),
            }],
            ..Default::default()
        }))
    }
}

async fn bare_server() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listener=\"grpc\" address={}", listener.local_addr()?);
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .add_service(RateLimitServiceServer::new(Bare))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}
