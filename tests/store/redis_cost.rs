//! The cost of a charge in Redis, for docs/algorithms.md.

use ::redis::{Commands, Connection, cmd};

use super::*;
use testkit::{redis::RedisServer, redis_node::command_calls};

/// The number of groups of calls for one figure.
const GROUPS: u32 = 10;
const MAX_CALLS_PER_GROUP: u32 = 40;
/// The numbers of charges per script.
const BATCH_SIZES: [u32; 3] = [1, 16, 64];
const LIMIT: u32 = 1_000;

/// The state of a counter before a charge.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Usage {
    None,
    Half,
    /// The charge is refused.
    Full,
    /// Enough time has passed for the charge.
    FullAndExpiring,
}

/// A key and its value; empty if there is no such key.
struct StoredCounter {
    key: Vec<u8>,
    value: Vec<u8>,
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
        store.ready().await.expect("the server runs");
        Self { client: server.client(), store, _server: server }
    }

    /// Makes these charges at the same time.
    async fn charge(&self, charges: &[Charge], now: Timestamp) -> Vec<Outcome> {
        outcomes(&self.store, charges, now).await.expect("the server runs")
    }

    fn reset_statistics(&mut self) {
        cmd("CONFIG").arg("RESETSTAT").exec(&mut self.client).expect("the server runs");
    }

    /// Uses a part of the limit, with one moment for each hit.
    async fn fill(&mut self, limit: &Limit, hits: u32) -> StoredCounter {
        cmd("FLUSHALL").exec(&mut self.client).expect("the server runs");
        if limit.algorithm.info().keeps_each_hit {
            for millis in 0..hits {
                self.fill_at(limit, millis, 1).await;
            }
        } else {
            self.fill_at(limit, LIMIT, hits).await;
        }
        let counter = charge("a", limit.clone(), Hits::Add(1), NOON).counter;
        let key = counter.key.as_bytes().to_vec();
        let value: Option<Vec<u8>> = self.client.get(&key).expect("the server runs");
        StoredCounter { key, value: value.unwrap_or_default() }
    }

    async fn fill_at(&self, limit: &Limit, millis: u32, hits: u32) {
        let now = NOON.plus(Duration::from_millis(millis.into()));
        let charge = charge("a", limit.clone(), Hits::Add(hits.into()), now);
        assert!(!self.charge(&[charge], now).await[0].over);
    }

    /// Microseconds for each charge of a script, in the fastest group of calls: others
    /// may use the machine.
    async fn cost(
        &mut self,
        limit: &Limit,
        usage: Usage,
        batch_size: u32,
        stored: &StoredCounter,
    ) -> f64 {
        let since_noon = match usage {
            Usage::FullAndExpiring => Duration::from_millis(u64::from(batch_size) + 60_000 - 1),
            Usage::None | Usage::Half | Usage::Full => Duration::from_millis(LIMIT.into()),
        };
        let now = NOON.plus(since_noon);
        let charge = charge("a", limit.clone(), Hits::Add(1), now);
        let charges = vec![charge; batch_size as usize];
        let calls = (640 / batch_size).min(MAX_CALLS_PER_GROUP);
        let mut least = f64::INFINITY;
        for _ in 0..GROUPS {
            self.reset_statistics();
            for _ in 0..calls {
                self.restore(stored);
                let outcomes = self.charge(&charges, now).await;
                assert_eq!(outcomes[0].over, usage == Usage::Full, "{limit}");
            }
            let micros = f64::from(self.script_micros());
            least = least.min(micros / f64::from(calls * batch_size));
        }
        least
    }

    fn restore(&mut self, stored: &StoredCounter) {
        if stored.value.is_empty() {
            let _: () = self.client.del(&stored.key).expect("the server runs");
        } else {
            let _: () = self.client.set(&stored.key, &stored.value).expect("the server runs");
        }
    }

    /// The time that all scripts took, in microseconds.
    fn script_micros(&mut self) -> u32 {
        let stats: String =
            cmd("INFO").arg("commandstats").query(&mut self.client).expect("the server runs");
        let (_, script) = stats.split_once("cmdstat_evalsha:").expect("a script ran");
        let (_, micros) = script.split_once("usec=").expect("the time is reported");
        let (micros, _) = micros.split_once(',').expect("other fields follow");
        micros.parse().expect("it is a whole number")
    }

    fn bytes(&mut self, key: &[u8]) -> u64 {
        let bytes: Option<u64> =
            cmd("MEMORY").arg("USAGE").arg(key).query(&mut self.client).expect("the server runs");
        bytes.unwrap_or_default()
    }
}

#[tokio::test]
async fn a_full_list_is_small_and_read_once_by_a_script() {
    let mut bench = Bench::start().await;
    let limit = Limit { algorithm: Algorithm::SlidingLog, ..minutely(LIMIT) };
    let stored = bench.fill(&limit, LIMIT).await;
    let bytes = bench.bytes(&stored.key);
    assert!((8_000..10_000).contains(&bytes), "{bytes}");
    bench.reset_statistics();
    let now = NOON.plus(Duration::from_millis(60_000 + 99));
    let mut used = u64::from(LIMIT) - 100;
    // One batch, and several.
    for (count, scripts) in [(16, 1), (64, 4)] {
        let charges = vec![charge("a", limit.clone(), Hits::Add(1), now); count];
        let last = bench.charge(&charges, now).await[count - 1];
        used += count as u64;
        assert_eq!((last.over, last.used), (false, used));
        for command in ["evalsha", "get", "set"] {
            assert_eq!(command_calls(&mut bench.client, command), scripts, "{command}");
        }
        bench.reset_statistics();
    }
}

/// Independent charges are divided; others run in one script that reads the list once.
#[tokio::test]
async fn a_thousand_charges_of_a_full_list_are_divided_into_short_scripts() {
    for consume in [Consume::Independent, Consume::AllOrNothing] {
        let mut bench = Bench::start().await;
        let limit = Limit { algorithm: Algorithm::SlidingLog, ..minutely(LIMIT) };
        bench.fill(&limit, LIMIT).await;
        bench.reset_statistics();
        for millis in [0, 60_000 + 999] {
            let now = NOON.plus(Duration::from_millis(millis));
            let charge = Charge { consume, ..charge("a", limit.clone(), Hits::Add(1), now) };
            for outcome in bench.charge(&vec![charge; 1_000], now).await {
                assert_eq!(outcome.over, millis == 0);
            }
        }
        let divided = consume == Consume::Independent;
        let scripts = command_calls(&mut bench.client, "evalsha");
        assert_eq!(scripts, if divided { 2 * 63 } else { 2 });
        if divided {
            // An average, as others may use the machine.
            let micros = bench.script_micros() / (2 * 63);
            assert!(micros < 20_000, "{micros} µs");
        }
    }
}

/// A charge of one of many sliding logs, each with a limit of two.
fn log_charge(number: u64, hits: u64) -> Charge {
    let limit = Limit { algorithm: Algorithm::SlidingLog, ..minutely(2) };
    let charge = charge(&format!("log {number}"), limit, Hits::Add(hits), NOON);
    Charge { consume: Consume::AllOrNothing, ..charge }
}

/// The number of counters of each script that the server has run.
fn script_sizes(client: &mut Connection) -> Vec<usize> {
    type Entry = (u64, u64, u64, Vec<Vec<u8>>, String, String);
    let entries: Vec<Entry> =
        cmd("SLOWLOG").arg(&["GET", "-1"]).query(client).expect("the server runs");
    let mut sizes = Vec::new();
    for (_, _, _, command, ..) in entries {
        if command[0] == b"EVALSHA" {
            sizes.push(String::from_utf8_lossy(&command[2]).parse().expect("it is a number"));
        }
    }
    sizes
}

/// Dependent limits are decided together, by scripts that each charge a few counters.
#[tokio::test]
async fn hundreds_of_limits_that_depend_on_each_other_are_divided_by_counter() {
    let mut bench = Bench::start().await;
    let (mut charges, mut peeks) = (Vec::new(), Vec::new());
    for number in 0..600 {
        charges.push(log_charge(number, 1));
        peeks.push(log_charge(number, 0));
    }
    // One counter twice, at both ends.
    charges.push(log_charge(0, 1));
    for setting in [["slowlog-log-slower-than", "0"], ["slowlog-max-len", "10000"]] {
        cmd("CONFIG").arg("SET").arg(&setting).exec(&mut bench.client).expect("the server runs");
    }
    let first = bench.charge(&charges, NOON).await;
    for outcome in &first {
        assert!(!outcome.over);
    }
    assert_eq!((first[0].used, first[599].used, first[600].used), (1, 1, 2));
    // The first limit is used up, so nothing is counted.
    for (index, outcome) in bench.charge(&charges, NOON).await.iter().enumerate() {
        assert_eq!(outcome.over, index == 0 || index == 600, "{index}");
    }
    for (index, outcome) in bench.charge(&peeks, NOON).await.iter().enumerate() {
        assert_eq!(outcome.used, if index == 0 { 2 } else { 1 }, "{index}");
    }
    let sizes = script_sizes(&mut bench.client);
    assert!(8 < sizes.len() && sizes.iter().max() <= Some(&256), "{sizes:?}");
    // Different charges of one counter cannot be divided.
    let mut different = Vec::new();
    for hits in 0..300 {
        different.push(log_charge(0, hits));
    }
    let refused = outcomes(&bench.store, &different, NOON).await.expect_err("it is too much");
    assert!(refused.to_string().contains("more than 256 different charges"), "{refused}");
}

/// `cargo test --test store redis_cost -- --ignored --nocapture`
#[tokio::test]
#[ignore = "it measures, and asserts nothing"]
async fn cost_of_a_charge() {
    let mut bench = Bench::start().await;
    println!("| algorithm | of 1,000 | bytes | alone | of 16 | of 64 |\n|---|---|---|---|---|---|");
    for algorithm in [
        Algorithm::FixedWindow { count_denied: false },
        Algorithm::SlidingWindow,
        Algorithm::TokenBucket { burst: LIMIT },
        Algorithm::SlidingLog,
        Algorithm::Concurrency { lifetime: Duration::from_secs(60) },
    ] {
        let limit = Limit { algorithm, ..minutely(LIMIT) };
        let name = algorithm.info().name;
        for (usage, hits, text) in [
            (Usage::None, 0, "none used"),
            (Usage::Half, LIMIT / 2, "half"),
            (Usage::Full, LIMIT, "all, refused"),
            (Usage::FullAndExpiring, LIMIT, "all, passes as others end"),
        ] {
            if usage == Usage::FullAndExpiring && !algorithm.info().keeps_each_hit {
                continue;
            }
            let stored = bench.fill(&limit, hits).await;
            let bytes = bench.bytes(&stored.key);
            let mut row = format!("| `{name}` | {text} | {bytes} |");
            for batch_size in BATCH_SIZES {
                row += &format!(" {:.1} |", bench.cost(&limit, usage, batch_size, &stored).await);
            }
            println!("{row}");
        }
    }
}
