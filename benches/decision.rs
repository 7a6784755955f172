//! What a decision costs: CPU time per call, of the service and of a bare tonic
//! server that answers the same messages without deciding anything. Both run in
//! this one run, so the ratio between them holds on a noisy machine too.
//!
//! `cargo bench --bench decision` asks for [`CALLS`] decisions, [`IN_FLIGHT`] at
//! a time over [`CONNECTIONS`] connections, about [`KEYS`] different keys. CPU
//! time is the kernel's account of each process.

use std::{
    env,
    error::Error,
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tollgate::wire::pb::envoy::{
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
const RULES: &str = "
domain: bench
descriptors:
- key: tenant
  descriptors:
  - key: user
    rate_limit: {unit: hour, requests_per_unit: 1000000}
";

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    if env::args().any(|it| it == "--bare-server") {
        return bare_server().await;
    }
    let rules = tempfile::NamedTempFile::with_suffix(".yaml")?;
    fs::write(&rules, RULES)?;
    let bare = measure("bare tonic server", Process::bare()?).await?;
    let memory = measure("tollgate, memory", Process::tollgate(&rules, None)?).await?;
    println!("tollgate, memory: {:.2} times the bare server", memory / bare);
    if let Ok(url) = env::var("BENCH_REDIS_URL") {
        let redis = measure("tollgate, Redis", Process::tollgate(&rules, Some(&url))?).await?;
        println!("tollgate, Redis: {:.2} times the bare server", redis / bare);
    }
    Ok(())
}

/// A server, ended on drop.
struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn bare() -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        Self::start(command.arg("--bare-server").stdout(Stdio::piped()), |it| it.stdout.take())
    }

    fn tollgate(rules: &tempfile::NamedTempFile, redis: Option<&str>) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.env("TOLLGATE_CONFIG", rules.path()).stderr(Stdio::piped());
        for (host, port) in
            [("HOST", "PORT"), ("GRPC_HOST", "GRPC_PORT"), ("DEBUG_HOST", "DEBUG_PORT")]
        {
            command.env(host, "127.0.0.1").env(port, "0");
        }
        command.env("REDIS_URL", redis.unwrap_or_default()).env("REDIS_TIMEOUT", "5s");
        Self::start(&mut command, |it| it.stderr.take())
    }

    fn start<R: std::io::Read>(
        command: &mut Command,
        output: impl Fn(&mut Child) -> Option<R>,
    ) -> Result<Self> {
        let mut child = command.spawn()?;
        let lines = BufReader::new(output(&mut child).ok_or("no output")?).lines();
        for line in lines {
            let line = line?;
            if let Some((_, address)) = line.split_once("listener=\"grpc\" address=") {
                let address = format!("http://{}", address.trim());
                return Ok(Self { child, address });
            }
        }
        Err("the server ended before it listened".into())
    }

    /// What the process has used so far. The kernel counts in hundredths of a
    /// second.
    fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<_> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Duration::from_millis(ticks * 10))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time per call in microseconds.
async fn measure(name: &str, server: Process) -> Result<f64> {
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(Channel::from_shared(server.address.clone())?.connect().await?);
    }
    run(&channels, CALLS / 10).await?;
    let (cpu, started) = (server.cpu()?, Instant::now());
    run(&channels, CALLS).await?;
    let (cpu, time) = (server.cpu()? - cpu, started.elapsed());
    let each = cpu.as_secs_f64() * 1e6 / f64::from(CALLS);
    println!(
        "{name}: {each:.1} µs of CPU per call, {:.0} calls per second",
        f64::from(CALLS) / time.as_secs_f64()
    );
    Ok(each)
}

async fn run(channels: &[Channel], calls: u32) -> Result<()> {
    let next = Arc::new(AtomicU32::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..IN_FLIGHT {
        let mut client = RateLimitServiceClient::new(channels[worker % channels.len()].clone());
        let next = Arc::clone(&next);
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if calls <= number {
                    return Result::Ok(());
                }
                let answer = client.should_rate_limit(request(number)).await?.into_inner();
                assert_eq!(answer.overall_code(), Code::Ok);
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(())
}

fn request(number: u32) -> RateLimitRequest {
    // Spread over the keys without a pattern that a cache would like.
    let user = number.wrapping_mul(0x9e37_79b9) % KEYS;
    let entry =
        |key: &str, value: String| Entry { key: key.to_owned().into(), value: value.into() };
    RateLimitRequest {
        domain: "bench".into(),
        descriptors: vec![RateLimitDescriptor {
            entries: vec![entry("tenant", "acme".into()), entry("user", format!("user-{user}"))],
            ..Default::default()
        }],
        hits_addend: 0,
    }
}

/// Answers like the service, and decides nothing.
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
