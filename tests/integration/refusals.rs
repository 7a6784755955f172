//! Redis answers, and refuses: whatever the reason is, policies decide while it
//! lasts, and then Redis, all by itself.

use std::{
    thread,
    time::{Duration, Instant},
};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tokio::time::sleep;

use crate::{
    cluster_servers::{Cluster, Node, Setup},
    support::{
        SOON, eventually, fresh,
        grpc::{self, Client, ask},
        http,
        tollgate::Tollgate,
    },
};

/// One for each of the two scripts.
const RULES: &str = "
domain: shop
descriptors:
- key: window
  rate_limit: { unit: year, requests_per_unit: 1000, on_error: allow }
- key: bucket
  rate_limit: { unit: year, requests_per_unit: 1000, algorithm: token_bucket, on_error: allow }
- key: closed
  rate_limit: { unit: year, requests_per_unit: 1000, on_error: deny }
";

/// A service, and how often each of `keys` has been hit.
struct Play {
    service: Tollgate,
    client: Client,
    value: String,
    hits: u32,
}

impl Play {
    async fn start(settings: &[(&str, &str)]) -> Self {
        // Far longer than Redis ever takes to answer on a busy machine.
        let patient = [("STORE_DEADLINE", "5s"), ("RESPONSE_DYNAMIC_METADATA", "always")];
        let service = Tollgate::start(RULES, &[&patient[..], settings].concat());
        let ready = || (http::get(service.http, "/ready", &[]).status == 200).then_some(());
        eventually("readiness", ready);
        let client = grpc::connect(service.grpc).await;
        Self { service, client, value: fresh(), hits: 0 }
    }

    /// The code for one hit, what remains, and whether a policy has decided.
    async fn hit(&mut self, key: &str, value: &str) -> (Code, u32, bool) {
        let answer = self.client.should_rate_limit(ask("shop", &[(key, value)])).await;
        let answer = answer.unwrap().into_inner();
        let metadata = answer.dynamic_metadata.as_ref().unwrap();
        let degraded = metadata.fields.contains_key("degraded");
        (answer.overall_code(), answer.statuses[0].limit_remaining, degraded)
    }

    /// Redis decides, and has missed nothing.
    async fn exact(&mut self, cause: &str) {
        self.hits += 1;
        let (value, expected) = (self.value.clone(), (Code::Ok, 1_000 - self.hits, false));
        for key in ["window", "bucket", "closed"] {
            assert_eq!(self.hit(key, &value).await, expected, "{cause}: {key}");
        }
    }

    /// The policies decide.
    async fn degraded(&mut self, cause: &str) {
        let value = self.value.clone();
        for _ in 0..10 {
            for (key, code) in
                [("window", Code::Ok), ("bucket", Code::Ok), ("closed", Code::OverLimit)]
            {
                let (found, _, degraded) = self.hit(key, &value).await;
                assert_eq!((found, degraded), (code, true), "{cause}: {key}");
            }
        }
    }

    /// Waits until policies decide, or until Redis does.
    async fn until(&mut self, degraded: bool, cause: &str) {
        let begin = Instant::now();
        // Neither counter is asked about otherwise.
        while self.hit("window", "other").await.2 != degraded
            || self.hit("bucket", "other").await.2 != degraded
        {
            assert!(begin.elapsed() < SOON, "{cause}: waited for degraded = {degraded}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// What happens to it when Redis refuses from `begin` to `end`.
    async fn refused(&mut self, cause: &str, begin: impl FnOnce(), end: impl FnOnce()) {
        self.exact(cause).await;
        begin();
        self.until(true, cause).await;
        self.degraded(cause).await;
        end();
        self.until(false, cause).await;
        self.exact(cause).await;
    }
}

/// Asks for things that may end the connection they come by.
fn tell(node: &Node, commands: &[&[&str]]) {
    for command in commands {
        let _ = node.try_ask(command);
    }
}

/// A reason to refuse: what it is called, what brings it about, and what ends it.
type Cause = (&'static str, &'static [&'static [&'static str]], &'static [&'static [&'static str]]);

/// The address is that of nobody.
const FOLLOW: &[&str] = &["REPLICAOF", "127.0.0.1", "1"];
const LEAD: &[&str] = &["REPLICAOF", "NO", "ONE"];
const CAUSES: [Cause; 6] = [
    ("OOM", &[&["CONFIG", "SET", "maxmemory", "1"]], &[&["CONFIG", "SET", "maxmemory", "0"]]),
    ("READONLY", &[FOLLOW], &[LEAD]),
    (
        "MASTERDOWN",
        &[&["CONFIG", "SET", "replica-serve-stale-data", "no"], FOLLOW],
        &[LEAD, &["CONFIG", "SET", "replica-serve-stale-data", "yes"]],
    ),
    (
        "NOPERM",
        &[&["ACL", "SETUSER", "default", "-incrby"]],
        &[&["ACL", "SETUSER", "default", "+@all"]],
    ),
    (
        "NOREPLICAS",
        &[&["CONFIG", "SET", "min-replicas-to-write", "1"]],
        &[&["CONFIG", "SET", "min-replicas-to-write", "0"]],
    ),
    (
        "MISCONF",
        &[&["CONFIG", "SET", "save", "1 1"], &["CONFIG", "SET", "dir", "/proc"], &["BGSAVE"]],
        &[&["CONFIG", "SET", "save", ""]],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_refusal_of_one_server_outlives_its_cause() {
    let redis = Node::start(&["--save", "", "--enable-protected-configs", "yes"]);
    let url = format!("127.0.0.1:{}", redis.port);
    let mut play = Play::start(&[("REDIS_URL", &url)]).await;
    for (cause, begin, end) in CAUSES {
        play.refused(cause, || tell(&redis, begin), || tell(&redis, end)).await;
    }
    // The first, of very many.
    let log = play.service.log();
    let complaints: Vec<_> = log.lines().filter(|it| it.contains("calls to ")).collect();
    assert!(complaints.len() < 9 && complaints[0].contains("OOM"), "{complaints:?}");
    for _ in 0..5 {
        redis.ask(&["SCRIPT", "FLUSH"]);
        play.exact("NOSCRIPT").await;
    }
    let client = redis::Client::open(format!("redis://{url}")).unwrap();
    let mut inside = client.get_connection().unwrap();
    let mut ask = |command: &[&str]| {
        redis::cmd(command[0]).arg(&command[1..]).exec(&mut inside).unwrap();
    };
    let kill = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
    for (setting, hard, easy) in [("requirepass", "secret", ""), ("maxclients", "1", "1000")] {
        ask(&["CONFIG", "SET", setting, hard]);
        play.exact("who is in already stays in").await;
        ask(&kill);
        play.until(true, setting).await;
        play.degraded(setting).await;
        ask(&["CONFIG", "SET", setting, easy]);
        play.until(false, setting).await;
        play.exact(setting).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_busy_with_a_script_or_loads_its_file_is_used_afterwards() {
    let mut redis = Node::start(&["--save", "", "--lua-time-limit", "1"]);
    let url = format!("127.0.0.1:{}", redis.port);
    let mut play = Play::start(&[("REDIS_URL", &url)]).await;
    let mut client =
        redis::Client::open(format!("redis://{url}")).unwrap().get_connection().unwrap();
    let endless = thread::spawn(move || {
        let _ = redis::cmd("EVAL").arg("while true do end").arg(0).exec(&mut client);
    });
    play.until(true, "BUSY").await;
    play.degraded("BUSY").await;
    redis.ask(&["SCRIPT", "KILL"]);
    endless.join().unwrap();
    play.until(false, "BUSY").await;
    play.exact("BUSY").await;

    let filler = "x".repeat(2_000);
    let mut client =
        redis::Client::open(format!("redis://{url}")).unwrap().get_connection().unwrap();
    let mut pipe = redis::pipe();
    for number in 0..5_000 {
        pipe.set(format!("filler{number}"), &filler);
    }
    pipe.exec(&mut client).unwrap();
    redis.ask(&["SAVE"]);
    redis.kill();
    // In microseconds, for each key.
    redis.tell(&["--key-load-delay", "4000", "--loading-process-events-interval-bytes", "1024"]);
    redis.start_again();
    play.until(true, "LOADING").await;
    play.degraded("LOADING").await;
    assert!(redis.try_ask(&["PING"]).is_err_and(|it| it.code() == Some("LOADING")));
    redis.ask(&["CONFIG", "SET", "key-load-delay", "0"]);
    play.until(false, "LOADING").await;
    play.exact("LOADING").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_on_refusing_is_neither_pestered_nor_complained_of() {
    let redis = Node::start(&["--save", ""]);
    let url = format!("127.0.0.1:{}", redis.port);
    let mut play = Play::start(&[("REDIS_URL", &url)]).await;
    play.exact("before").await;
    redis.ask(FOLLOW);
    play.until(true, "READONLY").await;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        assert!(play.hit("window", "other").await.2);
        sleep(Duration::from_millis(1)).await;
    }
    redis.ask(LEAD);
    play.until(false, "READONLY").await;
    play.exact("afterwards").await;
    let log = play.service.log();
    assert_eq!(log.matches("refuses: ").count(), 1, "{log}");
    let about = redis.text(&["INFO", "stats"]);
    let (_, rest) = about.split_once("total_connections_received:").unwrap();
    let connections: u32 = rest.lines().next().unwrap().parse().unwrap();
    assert!(log.lines().count() < 15 && connections < 25, "{connections} connections: {log}");
}

/// The slot of the counter of `key`, and who has it.
fn slot<'a>(cluster: &'a Cluster, key: &str, value: &str) -> (&'a Node, String) {
    for node in &cluster.primaries {
        let keys: Vec<String> =
            redis::from_redis_value(node.ask(&["KEYS", &format!("*{key}*{value}*")])).unwrap();
        if let [key] = &keys[..] {
            let slot: u16 =
                redis::from_redis_value(node.ask(&["CLUSTER", "KEYSLOT", key])).unwrap();
            return (node, slot.to_string());
        }
    }
    panic!("no node has the counter of {key} {value}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_without_all_its_slots_is_used_as_far_as_it_answers() {
    for whole in ["yes", "no"] {
        let setup = Setup::default().tell(&["--cluster-require-full-coverage", whole]);
        let cluster = Cluster::of(&setup, 3, false);
        let url = cluster.url();
        let mut play = Play::start(&[("REDIS_TYPE", "cluster"), ("REDIS_URL", &url)]).await;
        play.exact("a whole cluster").await;
        let value = play.value.clone();
        let (owner, slot) = slot(&cluster, "window", &value);
        for node in &cluster.primaries {
            node.ask(&["CLUSTER", "DELSLOTS", &slot]);
        }
        let cause = format!("CLUSTERDOWN, full coverage: {whole}");
        if whole == "yes" {
            play.until(true, &cause).await;
            play.degraded(&cause).await;
        } else {
            play.hits += 1;
            for key in ["window", "bucket", "closed", "window", "window"] {
                let (code, left, degraded) = play.hit(key, &value).await;
                assert_eq!((code, degraded), (Code::Ok, key == "window"), "{cause}: {key}");
                assert!(degraded || left == 1_000 - play.hits, "{cause}: {key}");
            }
        }
        owner.ask(&["CLUSTER", "ADDSLOTS", &slot]);
        let begin = Instant::now();
        let left = loop {
            let (_, left, degraded) = play.hit("window", &value).await;
            if !degraded {
                break left;
            }
            assert!(begin.elapsed() < SOON, "{cause}");
            sleep(Duration::from_millis(10)).await;
        };
        assert_eq!(left, 998, "{cause}");
        cluster.settled();
        play.until(false, &cause).await;
        let left = play.hit("bucket", &value).await;
        assert_eq!(left, (Code::Ok, 999 - play.hits, false), "{cause}");
    }
}
