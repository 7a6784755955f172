//! The CPU time of a charge in a cluster, and the rate of charges to a distant Redis, for
//! docs/decisions.md.

use std::{sync::Arc, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tollgate::store::redis::RedisType;

use super::*;
use crate::cluster::{connect, ready};
use testkit::{redis::RedisServer, redis_cluster::Cluster, redis_node::Node};

/// Callers that each send requests one after the other.
#[derive(Clone)]
struct Load {
    callers: u32,
    requests_per_caller: u32,
    descriptors_per_request: u32,
    /// The number of counters.
    counters: u64,
    limit: Limit,
}

impl Load {
    fn charges(&self) -> f64 {
        f64::from(self.callers * self.requests_per_caller * self.descriptors_per_request)
    }

    async fn run(&self, store: &Arc<Redis>) {
        let mut callers = JoinSet::new();
        for caller in 0..self.callers {
            callers.spawn(self.clone().call(Arc::clone(store), caller));
        }
        callers.join_all().await;
    }

    async fn call(self, store: Arc<Redis>, caller: u32) {
        let first = caller * self.requests_per_caller;
        for request in first..first + self.requests_per_caller {
            let mut charges = Vec::new();
            for descriptor in 0..self.descriptors_per_request {
                let number = request * self.descriptors_per_request + descriptor;
                let name = (u64::from(number) * 7_919 % self.counters).to_string();
                charges.push(charge(&name, self.limit.clone(), Hits::Add(1), NOON));
            }
            outcomes(&store, &charges, NOON).await.expect("the servers run");
        }
    }
}

/// The CPU time of these servers so far, in microseconds.
fn cpu_micros(nodes: &[&Node]) -> f64 {
    let mut seconds = 0.0;
    for node in nodes {
        let info: String = node.query(&["INFO", "cpu"]);
        for field in ["used_cpu_user:", "used_cpu_sys:"] {
            let (_, value) = info.split_once(field).expect("the server reports it");
            let line = value.lines().next().expect("it has a value");
            seconds += line.parse::<f64>().expect("it is a number");
        }
    }
    1e6 * seconds
}

/// Microseconds of CPU time per charge.
async fn cpu_per_charge(store: &Arc<Redis>, nodes: &[&Node], load: &Load) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..5 {
        let before = cpu_micros(nodes);
        load.run(store).await;
        least = least.min((cpu_micros(nodes) - before) / load.charges());
    }
    least
}

/// `cargo test --test store cluster_cpu_time -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures, and asserts nothing"]
async fn cluster_cpu_time() {
    let (one, cluster) = (Node::start(&[]), Cluster::start(3));
    let single_store = connect(RedisType::Single, &format!("127.0.0.1:{}", one.port), PATIENT);
    let cluster_store = connect(RedisType::Cluster, &cluster.url(), PATIENT);
    ready(&single_store).await;
    ready(&cluster_store).await;
    let nodes = [&cluster.primaries[0], &cluster.primaries[1], &cluster.primaries[2]];
    let bucket = Algorithm::TokenBucket { burst: 1_000 };
    let plain = minutely(1_000_000);
    let kinds = [
        ("`fixed_window`", plain.clone()),
        ("`fixed_window`, a penalty", Limit { penalty: Duration::from_secs(60), ..plain.clone() }),
        ("`token_bucket`", Limit { algorithm: bucket, ..plain.clone() }),
        ("`sliding_window`", Limit { algorithm: Algorithm::SlidingWindow, ..plain }),
    ];
    println!("| | descriptors | one server | cluster | ratio |\n|---|---|---|---|---|");
    for (name, limit) in kinds {
        for descriptors in [1, 10] {
            let load = Load {
                callers: 64,
                requests_per_caller: 200,
                descriptors_per_request: descriptors,
                counters: 20_011,
                limit: limit.clone(),
            };
            let one = cpu_per_charge(&single_store, &[&one], &load).await;
            let three = cpu_per_charge(&cluster_store, &nodes, &load).await;
            println!("| {name} | {descriptors} | {one:.1} | {three:.1} | {:.2} |", three / one);
        }
    }
}

/// Copies bytes, each of them `delay` after it has arrived.
async fn copy_with_delay(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin + Send + 'static,
    delay: Duration,
) {
    let (sent, mut arrives) = tokio::sync::mpsc::unbounded_channel::<(_, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((at, bytes)) = arrives.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let at = tokio::time::Instant::now() + delay;
        if sent.send((at, bytes[..count].to_vec())).is_err() {
            return;
        }
    }
}
/// A proxy for `port` that delays each direction by half of `round_trip`.
async fn start_delaying_proxy(port: u16, round_trip: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let own = listener.local_addr().expect("it has one").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.expect("it runs");
            let ((from, back), (answers, to)) = (client.into_split(), server.into_split());
            tokio::spawn(copy_with_delay(from, to, round_trip / 2));
            tokio::spawn(copy_with_delay(answers, back, round_trip / 2));
        }
    });
    own
}

/// `cargo test --test store distant_redis -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures, and asserts nothing"]
async fn rate_of_charges_to_a_distant_redis() {
    let server = RedisServer::start();
    let port = start_delaying_proxy(server.port(), Duration::from_millis(5)).await;
    let store = Arc::new(store(&format!("redis://127.0.0.1:{port}"), PATIENT));
    store.ready().await.expect("the server runs");
    for callers in [64, 256] {
        let load = Load {
            callers,
            requests_per_caller: 300,
            descriptors_per_request: 20,
            counters: 200_003,
            limit: minutely(1_000_000),
        };
        let begin = Instant::now();
        load.run(&store).await;
        let rate = load.charges() / begin.elapsed().as_secs_f64();
        println!("{callers} callers, 20 descriptors, 5 ms away: {rate:.0} charges a second");
    }
}
