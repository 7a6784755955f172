//! Redis is reachable but refuses commands. Policies decide for as long as that lasts, and
//! then Redis again, without any action of an operator.

use std::{thread, time::Instant};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use testkit::{
    grpc::{self, Client, is_degraded, request_for},
    http::json_request,
    redis_cluster::Cluster,
    redis_node::{Node, ServerSetup},
    tollgate::Tollgate,
    unique_value,
    wait::{eventually, eventually_async},
};

const LIMIT: u32 = 1_000;

/// `window` and `bucket` are counted by different Redis scripts.
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

/// A service under test, and the number of hits that Redis has counted for each key.
struct Scenario {
    service: Tollgate,
    client: Client,
    value: String,
    hits: u32,
}

/// The answer to one hit.
#[derive(Debug, PartialEq)]
struct Answer {
    code: Code,
    remaining: u32,
    degraded: bool,
}

impl Scenario {
    async fn start(settings: &[(&str, &str)]) -> Self {
        // Longer than Redis ever takes on a machine with other work.
        let mut all = vec![("STORE_DEADLINE", "5s"), ("RESPONSE_DYNAMIC_METADATA", "always")];
        all.extend(settings);
        let service = Tollgate::start_ready(RULES, &all);
        let client = grpc::connect(service.grpc).await;
        Self { service, client, value: unique_value(), hits: 0 }
    }

    async fn hit(&mut self, key: &str, value: &str) -> Answer {
        let response = grpc::decide(&mut self.client, request_for("shop", &[(key, value)])).await;
        Answer {
            code: response.overall_code(),
            remaining: response.statuses[0].limit_remaining,
            degraded: is_degraded(&response),
        }
    }

    /// Hits each key once. Redis decides and has counted all earlier hits.
    async fn expect_exact(&mut self, cause: &str) {
        self.hits += 1;
        let value = self.value.clone();
        for key in ["window", "bucket", "closed"] {
            let answer = self.hit(key, &value).await;
            let expected = Answer { code: Code::Ok, remaining: LIMIT - self.hits, degraded: false };
            assert_eq!(answer, expected, "{cause}: {key}");
        }
    }

    /// Hits each key several times. Policies decide.
    async fn expect_degraded(&mut self, cause: &str) {
        let value = self.value.clone();
        for _ in 0..10 {
            for (key, code) in
                [("window", Code::Ok), ("bucket", Code::Ok), ("closed", Code::OverLimit)]
            {
                let answer = self.hit(key, &value).await;
                assert_eq!((answer.code, answer.degraded), (code, true), "{cause}: {key}");
            }
        }
    }

    /// Waits until policies decide, or until Redis does. Uses counters of its own.
    async fn wait_until(&mut self, degraded: bool, cause: &str) {
        eventually_async(&format!("{cause}: degraded = {degraded}"), async || {
            self.hit("window", "other").await.degraded == degraded
                && self.hit("bucket", "other").await.degraded == degraded
        })
        .await;
    }

    /// Checks that policies decide between `begin` and `end` of a cause, and Redis before and
    /// after it.
    async fn check_refusal(&mut self, cause: &str, begin: impl FnOnce(), end: impl FnOnce()) {
        self.expect_exact(cause).await;
        begin();
        self.wait_until(true, cause).await;
        self.expect_degraded(cause).await;
        end();
        self.wait_until(false, cause).await;
        self.expect_exact(cause).await;
    }
}

/// A client fills Redis with invented users until no other one can be counted. Three requests
/// of another user, whose limit is 2, then have these statuses.
fn check_full_redis(on_error: &str, expected: [u16; 3]) {
    const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 2 }
";
    let redis =
        Node::start(&["--save", "", "--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]);
    let url = format!("127.0.0.1:{}", redis.port);
    let service = Tollgate::start_ready(RULES, &[("REDIS_URL", &url), ("ON_ERROR", on_error)]);
    eventually(on_error, || {
        let names: Vec<_> = (0..100).map(|_| unique_value()).collect();
        let users: Vec<_> = names.iter().map(|name| ("user", name.as_str())).collect();
        service.post_json(&json_request("shop", &users));
        if !service.log().contains("OOM") {
            return false;
        }
        // A few bytes may become free at any time.
        let request = json_request("shop", &[("user", &unique_value())]);
        [(); 3].map(|()| service.post_json(&request).status) == expected
    });
    let degraded = service.metrics().value("tollgate_degraded_total", &[("policy", "local")]);
    assert_eq!(0.0 < degraded, on_error == "local");
}

#[test]
fn a_client_that_fills_redis_turns_limits_off_only_without_a_policy() {
    check_full_redis("error", [503; 3]);
    check_full_redis("deny", [429; 3]);
    check_full_redis("local", [200, 200, 429]);
}

/// Runs commands that may close the connection before their reply arrives.
fn run(node: &Node, commands: &[&[&str]]) {
    for command in commands {
        let _ = node.try_query(command);
    }
}

/// A reason for Redis to refuse commands.
struct Cause {
    name: &'static str,
    begin: &'static [&'static [&'static str]],
    end: &'static [&'static [&'static str]],
}

/// Nothing listens on port 1.
const FOLLOW: &[&str] = &["REPLICAOF", "127.0.0.1", "1"];
const LEAD: &[&str] = &["REPLICAOF", "NO", "ONE"];
const CAUSES: [Cause; 6] = [
    Cause {
        name: "OOM",
        begin: &[&["CONFIG", "SET", "maxmemory", "1"]],
        end: &[&["CONFIG", "SET", "maxmemory", "0"]],
    },
    Cause { name: "READONLY", begin: &[FOLLOW], end: &[LEAD] },
    Cause {
        name: "MASTERDOWN",
        begin: &[&["CONFIG", "SET", "replica-serve-stale-data", "no"], FOLLOW],
        end: &[LEAD, &["CONFIG", "SET", "replica-serve-stale-data", "yes"]],
    },
    Cause {
        name: "NOPERM",
        begin: &[&["ACL", "SETUSER", "default", "-incrby"]],
        end: &[&["ACL", "SETUSER", "default", "+@all"]],
    },
    Cause {
        name: "NOREPLICAS",
        begin: &[&["CONFIG", "SET", "min-replicas-to-write", "1"]],
        end: &[&["CONFIG", "SET", "min-replicas-to-write", "0"]],
    },
    Cause {
        name: "MISCONF",
        begin: &[
            &["CONFIG", "SET", "save", "1 1"],
            &["CONFIG", "SET", "dir", "/proc"],
            &["BGSAVE"],
        ],
        end: &[&["CONFIG", "SET", "save", ""]],
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_decides_again_once_the_cause_of_a_refusal_is_gone() {
    let redis = Node::start(&["--save", "", "--enable-protected-configs", "yes"]);
    let url = format!("127.0.0.1:{}", redis.port);
    let mut scenario = Scenario::start(&[("REDIS_URL", &url)]).await;
    let full =
        |scenario: &Scenario| scenario.service.metrics().value("tollgate_redis_full_total", &[]);
    for Cause { name, begin, end } in CAUSES {
        let before = full(&scenario);
        scenario.check_refusal(name, || run(&redis, begin), || run(&redis, end)).await;
        assert_eq!(before < full(&scenario), name == "OOM", "{name}");
    }
    // Few of very many refusals are logged.
    let log = scenario.service.log();
    let refusals: Vec<_> = log.lines().filter(|line| line.contains("to Redis failed")).collect();
    assert!(refusals.len() < 9 && refusals[0].contains("OOM"), "{refusals:?}");
    for _ in 0..5 {
        redis.query::<()>(&["SCRIPT", "FLUSH"]);
        scenario.expect_exact("NOSCRIPT").await;
    }
    // This connection stays open and authenticated.
    let mut admin = client(&url);
    let mut run = |command: &[&str]| {
        redis::cmd(command[0]).arg(&command[1..]).exec(&mut admin).unwrap();
    };
    let kill = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
    for (setting, strict, loose) in [("requirepass", "secret", ""), ("maxclients", "1", "1000")] {
        run(&["CONFIG", "SET", setting, strict]);
        scenario.expect_exact("open connections are not affected").await;
        run(&kill);
        scenario.wait_until(true, setting).await;
        scenario.expect_degraded(setting).await;
        run(&["CONFIG", "SET", setting, loose]);
        scenario.wait_until(false, setting).await;
        scenario.expect_exact(setting).await;
    }
}

fn client(url: &str) -> redis::Connection {
    redis::Client::open(format!("redis://{url}")).unwrap().get_connection().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_decides_again_after_a_long_script_and_after_loading_its_data() {
    let mut redis = Node::start(&["--save", "", "--lua-time-limit", "1"]);
    let url = format!("127.0.0.1:{}", redis.port);
    let mut scenario = Scenario::start(&[("REDIS_URL", &url)]).await;
    let mut connection = client(&url);
    let endless = thread::spawn(move || {
        let _ = redis::cmd("EVAL").arg("while true do end").arg(0).exec(&mut connection);
    });
    scenario.wait_until(true, "BUSY").await;
    scenario.expect_degraded("BUSY").await;
    redis.query::<()>(&["SCRIPT", "KILL"]);
    endless.join().unwrap();
    scenario.wait_until(false, "BUSY").await;
    scenario.expect_exact("BUSY").await;

    let filler = "x".repeat(2_000);
    let mut pipe = redis::pipe();
    for number in 0..5_000 {
        pipe.set(format!("filler{number}"), &filler);
    }
    pipe.exec(&mut client(&url)).unwrap();
    redis.query::<()>(&["SAVE"]);
    redis.kill();
    // Microseconds for each key.
    redis.add_arguments(&["--key-load-delay", "4000"]);
    redis.add_arguments(&["--loading-process-events-interval-bytes", "1024"]);
    redis.restart();
    scenario.wait_until(true, "LOADING").await;
    scenario.expect_degraded("LOADING").await;
    let error = redis.try_query(&["PING"]).unwrap_err();
    assert_eq!(error.code(), Some("LOADING"));
    redis.query::<()>(&["CONFIG", "SET", "key-load-delay", "0"]);
    scenario.wait_until(false, "LOADING").await;
    scenario.expect_exact("LOADING").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_keeps_refusing_gets_few_connections_and_fills_no_log() {
    const CALLS: usize = 3_000;
    let redis = Node::start(&["--save", ""]);
    let url = format!("127.0.0.1:{}", redis.port);
    let mut scenario = Scenario::start(&[("REDIS_URL", &url)]).await;
    scenario.expect_exact("before").await;
    redis.query::<()>(FOLLOW);
    scenario.wait_until(true, "READONLY").await;
    let before = redis.info("stats", "total_connections_received");
    let begin = Instant::now();
    for _ in 0..CALLS {
        assert!(scenario.hit("window", "other").await.degraded);
    }
    let minutes = u32::try_from(begin.elapsed().as_secs() / 60).expect("it is short");
    let connections = redis.info("stats", "total_connections_received") - before;
    redis.query::<()>(LEAD);
    scenario.wait_until(false, "READONLY").await;
    scenario.expect_exact("afterwards").await;
    let log = scenario.service.log();
    // One line a minute, and reconnecting is limited by time too.
    let refusals = count(log.matches("refuses: "));
    assert!((1..=2 + minutes).contains(&refusals), "{minutes} minutes: {log}");
    assert!(count(log.lines()) < 20 * (1 + minutes), "{minutes} minutes: {log}");
    let most = 100 * (1 + minutes);
    assert!(connections < most, "{connections} connections for {CALLS} calls: {log}");
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).expect("they are few")
}

/// The node that has the counter of `value`, and the slot.
fn find_counter<'a>(cluster: &'a Cluster, key: &str, value: &str) -> (&'a Node, String) {
    for node in &cluster.primaries {
        let keys: Vec<String> = node.query(&["KEYS", &format!("*{key}*{value}*")]);
        if let [key] = &keys[..] {
            let slot: u16 = node.query(&["CLUSTER", "KEYSLOT", key]);
            return (node, slot.to_string());
        }
    }
    panic!("no node has the counter of {key} {value}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_with_an_unassigned_slot_decides_where_it_can() {
    for full_coverage in ["yes", "no"] {
        let setup = ServerSetup::default()
            .with_arguments(&["--cluster-require-full-coverage", full_coverage]);
        let cluster = Cluster::with_setup(&setup, 3);
        let url = cluster.url();
        let mut scenario = Scenario::start(&[("REDIS_TYPE", "cluster"), ("REDIS_URL", &url)]).await;
        scenario.expect_exact("all slots assigned").await;
        let value = scenario.value.clone();
        let (owner, slot) = find_counter(&cluster, "window", &value);
        for node in &cluster.primaries {
            node.query::<()>(&["CLUSTER", "DELSLOTS", &slot]);
        }
        let cause = format!("CLUSTERDOWN, full coverage: {full_coverage}");
        if full_coverage == "yes" {
            scenario.wait_until(true, &cause).await;
            scenario.expect_degraded(&cause).await;
        } else {
            scenario.hits += 1;
            for key in ["window", "bucket", "closed", "window", "window"] {
                let answer = scenario.hit(key, &value).await;
                let expected = (Code::Ok, key == "window");
                assert_eq!((answer.code, answer.degraded), expected, "{cause}: {key}");
                let exact = answer.remaining == LIMIT - scenario.hits;
                assert!(answer.degraded || exact, "{cause}: {key}");
            }
        }
        owner.query::<()>(&["CLUSTER", "ADDSLOTS", &slot]);
        let remaining = eventually_async(&cause, async || {
            let answer = scenario.hit("window", &value).await;
            (!answer.degraded).then_some(answer.remaining)
        })
        .await;
        assert_eq!(remaining, LIMIT - 2, "{cause}");
        cluster.wait_until_ok();
        scenario.wait_until(false, &cause).await;
        let answer = scenario.hit("bucket", &value).await;
        let remaining = LIMIT - 1 - scenario.hits;
        assert_eq!(answer, Answer { code: Code::Ok, remaining, degraded: false }, "{cause}");
    }
}
