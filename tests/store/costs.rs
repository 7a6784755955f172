//! The cost of a charge in Redis, for docs/algorithms.md.

use ::redis::{Client, Commands, Connection, cmd};

use std::sync::Arc;

use tollgate::store::redis::RedisType;

use super::*;
use testkit::{redis::RedisServer, redis_cluster::Cluster, redis_node::Node};

/// The number of groups of calls for one figure.
const GROUPS: u32 = 10;
const EACH: u32 = 40;
/// The numbers of charges per script.
const BATCHES: [u32; 3] = [1, 16, 64];
const LIMIT: u32 = 1_000;

/// The state of a counter before a charge.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    New,
    Half,
    /// The charge is refused.
    Full,
    /// Enough time has passed for the charge.
    Passed,
}

struct Bench {
    client: Connection,
    store: Redis,
    _server: RedisServer,
}

impl Bench {
    async fn start() -> Self {
        let server = RedisServer::start();
        let store = store(&server.url(), PATIENT);
        store.ready().await.expect("it decides");
        let client = Client::open(server.url()).and_then(|it| it.get_connection());
        Self { client: client.expect("it runs"), store, _server: server }
    }

    /// Uses a part of the limit, with one moment for each hit.
    async fn fill(&mut self, limit: &Limit, hits: u32) -> (Vec<u8>, Vec<u8>) {
        cmd("FLUSHALL").exec(&mut self.client).expect("it runs");
        let listed = limit.algorithm.info().keeps_each_hit;
        let (times, each) = if listed { (hits, 1) } else { (1, hits) };
        for at in 0..times {
            let at = if listed { at } else { LIMIT };
            let now = NOON.plus(Duration::from_millis(at.into()));
            let one = charge("a", limit.clone(), Hits::Add(each.into()), now);
            assert!(!outcomes(&self.store, &[one], now).await.expect("it runs")[0].over);
        }
        let key = charge("a", limit.clone(), Hits::Add(1), NOON).counter.key.as_bytes().to_vec();
        let value: Option<Vec<u8>> = self.client.get(&key).expect("it runs");
        (key, value.unwrap_or_default())
    }

    /// Microseconds for each charge of a script, in the fastest group of calls: others
    /// may use the machine.
    async fn cost(
        &mut self,
        limit: &Limit,
        case: Case,
        batch: u32,
        kept: &(Vec<u8>, Vec<u8>),
    ) -> f64 {
        let since = match case {
            Case::Passed => Duration::from_millis(u64::from(batch) + 60_000 - 1),
            Case::New | Case::Half | Case::Full => Duration::from_millis(LIMIT.into()),
        };
        let now = NOON.plus(since);
        let hit = charge("a", limit.clone(), Hits::Add(1), now);
        let charges: Vec<_> = (0..batch).map(|_| hit.clone()).collect();
        let (mut least, times) = (f64::INFINITY, (640 / batch).min(EACH));
        for _ in 0..GROUPS {
            cmd("CONFIG").arg("RESETSTAT").exec(&mut self.client).expect("it runs");
            for _ in 0..times {
                if kept.1.is_empty() {
                    let _: () = self.client.del(&kept.0).expect("it runs");
                } else {
                    let _: () = self.client.set(&kept.0, &kept.1).expect("it runs");
                }
                let outcomes = outcomes(&self.store, &charges, now).await.expect("it runs");
                assert_eq!(outcomes[0].over, case == Case::Full, "{limit}");
            }
            least = least.min(f64::from(self.stat("evalsha", "usec")) / f64::from(times * batch));
        }
        least
    }

    /// A statistic of a command.
    fn stat(&mut self, command: &str, what: &str) -> u32 {
        let stats: String =
            cmd("INFO").arg("commandstats").query(&mut self.client).expect("it runs");
        let line = stats.lines().find_map(|it| it.strip_prefix(&format!("cmdstat_{command}:")));
        let all = line.unwrap_or_default().split(',').filter_map(|it| it.split_once('='));
        let mut of = all.filter(|(name, _)| *name == what);
        of.next().map_or(0, |(_, number)| number.parse().expect("it is a whole number"))
    }

    fn bytes(&mut self, key: &[u8]) -> u64 {
        let bytes: Option<u64> =
            cmd("MEMORY").arg("USAGE").arg(key).query(&mut self.client).expect("it runs");
        bytes.unwrap_or_default()
    }
}

#[tokio::test]
async fn a_full_list_is_small_and_read_once_by_a_script() {
    let mut bench = Bench::start().await;
    let limit = Limit { algorithm: Algorithm::SlidingLog, ..minutely(LIMIT) };
    let (key, _) = bench.fill(&limit, LIMIT).await;
    let bytes = bench.bytes(&key);
    assert!((8_000..10_000).contains(&bytes), "{bytes}");
    cmd("CONFIG").arg("RESETSTAT").exec(&mut bench.client).expect("it runs");
    let now = NOON.plus(Duration::from_millis(60_000 + 99));
    let mut used = u64::from(LIMIT) - 100;
    // One batch, and several.
    for (count, scripts) in [(16, 1), (64, 4)] {
        let charges = vec![charge("a", limit.clone(), Hits::Add(1), now); count];
        let last = outcomes(&bench.store, &charges, now).await.expect("it runs")[count - 1];
        used += count as u64;
        assert_eq!((last.over, last.used), (false, used));
        let commands = ["evalsha", "get", "set"].map(|it| bench.stat(it, "calls"));
        assert_eq!(commands, [scripts; 3]);
        cmd("CONFIG").arg("RESETSTAT").exec(&mut bench.client).expect("it runs");
    }
}

/// Independent charges are divided; others run in one script that reads the list once.
#[tokio::test]
async fn a_thousand_charges_of_a_full_list_are_divided_into_short_scripts() {
    for consume in [Consume::Independent, Consume::AllOrNothing] {
        let mut bench = Bench::start().await;
        let limit = Limit { algorithm: Algorithm::SlidingLog, ..minutely(LIMIT) };
        bench.fill(&limit, LIMIT).await;
        cmd("CONFIG").arg("RESETSTAT").exec(&mut bench.client).expect("it runs");
        for passed in [0, 60_000 + 999] {
            let now = NOON.plus(Duration::from_millis(passed));
            let hit = Charge { consume, ..charge("a", limit.clone(), Hits::Add(1), now) };
            let outcomes = outcomes(&bench.store, &vec![hit; 1_000], now).await.expect("it runs");
            assert!(outcomes.iter().all(|it| it.over == (passed == 0)));
        }
        let divided = consume == Consume::Independent;
        assert_eq!(bench.stat("evalsha", "calls"), if divided { 2 * 63 } else { 2 });
        if divided {
            // An average, as others may use the machine.
            let each = bench.stat("evalsha", "usec") / (2 * 63);
            assert!(each < 20_000, "{each} µs");
        }
    }
}

/// Dependent limits are decided together, by scripts that each charge a few counters.
#[tokio::test]
async fn hundreds_of_limits_that_depend_on_each_other_are_divided_by_counter() {
    let mut bench = Bench::start().await;
    let limit = Limit { algorithm: Algorithm::SlidingLog, ..minutely(2) };
    let log = |name: usize| Charge {
        consume: Consume::AllOrNothing,
        ..charge(&format!("log {name}"), limit.clone(), Hits::Add(1), NOON)
    };
    // One counter twice, at both ends.
    let all: Vec<_> = (0..600).chain([0]).map(log).collect();
    cmd("CONFIG").arg(&["SET", "slowlog-log-slower-than", "0"]).exec(&mut bench.client).expect("");
    cmd("CONFIG").arg(&["SET", "slowlog-max-len", "10000"]).exec(&mut bench.client).expect("");
    let used = |it: &[Outcome]| it.iter().map(|it| it.used).collect::<Vec<_>>();
    let first = outcomes(&bench.store, &all, NOON).await.expect("it runs");
    assert!(first.iter().all(|it| !it.over));
    assert_eq!((first[0].used, first[599].used, first[600].used), (1, 1, 2));
    // The first limit is used up, so nothing is counted.
    let second = outcomes(&bench.store, &all, NOON).await.expect("it runs");
    let over: Vec<_> = (0..=600).filter(|it| second[*it].over).collect();
    assert_eq!(over, [0, 600]);
    let looks: Vec<_> = (0..600).map(|it| Charge { hits: Hits::Add(0), ..log(it) }).collect();
    let found = outcomes(&bench.store, &looks, NOON).await.expect("it runs");
    assert_eq!(used(&found), [&[2][..], &[1; 599]].concat());
    type Entry = (u64, u64, u64, Vec<Vec<u8>>, String, String);
    let slow: Vec<Entry> =
        cmd("SLOWLOG").arg(&["GET", "-1"]).query(&mut bench.client).expect("it runs");
    let scripts = slow.iter().map(|it| &it.3).filter(|it| it[0] == b"EVALSHA");
    let counters: Vec<usize> = scripts
        .map(|it| String::from_utf8_lossy(&it[2]).parse().expect("it is a number"))
        .collect();
    assert!(8 < counters.len() && counters.iter().all(|it| *it <= 256), "{counters:?}");
    // Different charges of one counter cannot be divided.
    let different = (0..300).map(|it| Charge { hits: Hits::Add(it), ..log(0) }).collect::<Vec<_>>();
    let refused = outcomes(&bench.store, &different, NOON).await.expect_err("it is too much");
    assert!(refused.to_string().contains("more than 256 different charges"), "{refused}");
}

/// `cargo test --test store costs -- --ignored --nocapture`
#[tokio::test]
#[ignore = "it measures, and asserts nothing"]
async fn what_a_charge_costs_redis() {
    let mut bench = Bench::start().await;
    println!("| algorithm | of 1,000 | bytes | alone | of 16 | of 64 |\n|---|---|---|---|---|---|");
    for algorithm in [
        Algorithm::FixedWindow { count_denied: false },
        Algorithm::SlidingWindow,
        Algorithm::TokenBucket { burst: LIMIT },
        Algorithm::SlidingLog,
        Algorithm::Concurrency { lease: Duration::from_secs(60) },
    ] {
        let limit = Limit { algorithm, ..minutely(LIMIT) };
        let name = algorithm.info().name;
        for (case, hits, text) in [
            (Case::New, 0, "none used"),
            (Case::Half, LIMIT / 2, "half"),
            (Case::Full, LIMIT, "all, refused"),
            (Case::Passed, LIMIT, "all, passes as others end"),
        ] {
            if case == Case::Passed && !algorithm.info().keeps_each_hit {
                continue;
            }
            let kept = bench.fill(&limit, hits).await;
            let bytes = bench.bytes(&kept.0);
            let mut row = format!("| `{name}` | {text} | {bytes} |");
            for batch in BATCHES {
                row += &format!(" {:.1} |", bench.cost(&limit, case, batch, &kept).await);
            }
            println!("{row}");
        }
    }
}

/// The CPU time of these servers so far, in microseconds.
fn cpu(nodes: &[&Node]) -> f64 {
    let used = |node: &&Node| {
        let text: String = node.query(&["INFO", "cpu"]);
        let of = |name: &str| {
            let line = text.lines().find_map(|it| it.strip_prefix(name)).expect("it is told");
            line.trim_start_matches(':').parse::<f64>().expect("it is a number")
        };
        1e6 * (of("used_cpu_user") + of("used_cpu_sys"))
    };
    nodes.iter().map(used).sum()
}

/// Microseconds of CPU time per charge, with 64 callers whose requests have `each`
/// charges.
async fn load(store: &Arc<Redis>, nodes: &[&Node], limit: &Limit, descriptors_each: u32) -> f64 {
    const EACH: u32 = 200;
    let mut least = f64::INFINITY;
    for _ in 0..5 {
        let before = cpu(nodes);
        let caller = |caller: u64| {
            let descriptors = u64::from(descriptors_each);
            let (store, limit) = (Arc::clone(store), limit.clone());
            tokio::spawn(async move {
                for call in 0..u64::from(EACH) {
                    let name = |it| {
                        ((caller * u64::from(EACH) + call) * descriptors + it) * 7_919 % 20_011
                    };
                    let charges: Vec<_> = (0..descriptors)
                        .map(|it| charge(&name(it).to_string(), limit.clone(), Hits::Add(1), NOON))
                        .collect();
                    outcomes(&store, &charges, NOON).await.expect("it runs");
                }
            })
        };
        futures_util::future::join_all((0..64).map(caller)).await;
        least = least.min((cpu(nodes) - before) / f64::from(64 * EACH * descriptors_each));
    }
    least
}

/// `cargo test --test store cluster_costs -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures, and asserts nothing"]
async fn what_a_cluster_costs() {
    let (one, cluster) = (Node::start(&[]), Cluster::start(3));
    let alone =
        crate::cluster::connect(RedisType::Single, &format!("127.0.0.1:{}", one.port), PATIENT);
    let store = crate::cluster::connect(RedisType::Cluster, &cluster.url(), PATIENT);
    crate::cluster::ready(&alone).await;
    crate::cluster::ready(&store).await;
    let nodes: Vec<_> = cluster.primaries.iter().collect();
    let bucket = Algorithm::TokenBucket { burst: LIMIT };
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
            let one = load(&alone, &[&one], &limit, descriptors).await;
            let three = load(&store, &nodes, &limit, descriptors).await;
            println!("| {name} | {descriptors} | {one:.1} | {three:.1} | {:.2} |", three / one);
        }
    }
}

/// A proxy for `port` that delays each direction by half of `round_trip`.
async fn far_away(port: u16, round_trip: Duration) -> u16 {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };
    async fn one_way(
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
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let own = listener.local_addr().expect("it has one").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.expect("it runs");
            let ((from, back), (answers, to)) = (client.into_split(), server.into_split());
            tokio::spawn(one_way(from, to, round_trip / 2));
            tokio::spawn(one_way(answers, back, round_trip / 2));
        }
    });
    own
}

/// `cargo test --test store far_away -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures, and asserts nothing"]
async fn what_a_redis_far_away_takes() {
    const REQUESTS: u32 = 300;
    let server = RedisServer::start();
    let port = far_away(server.port(), Duration::from_millis(5)).await;
    let store = Arc::new(store(&format!("redis://127.0.0.1:{port}"), PATIENT));
    store.ready().await.expect("it decides");
    for callers in [64, 256] {
        let caller = |caller: u32| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for request in 0..REQUESTS {
                    let name = |it| ((caller * REQUESTS + request) * 20 + it) * 7_919 % 200_003;
                    let charges: Vec<_> = (0..20)
                        .map(|it| {
                            let name = name(it).to_string();
                            charge(&name, minutely(1_000_000), Hits::Add(1), NOON)
                        })
                        .collect();
                    outcomes(&store, &charges, NOON).await.expect("it runs");
                }
            })
        };
        let begin = std::time::Instant::now();
        futures_util::future::join_all((0..callers).map(caller)).await;
        let charges = f64::from(callers * REQUESTS * 20);
        let each_second = charges / begin.elapsed().as_secs_f64();
        println!("{callers} callers, 20 descriptors, 5 ms away: {each_second:.0} charges a second");
    }
}
