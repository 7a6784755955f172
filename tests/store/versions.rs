//! The most important tests on the oldest supported Redis and on Valkey. All other tests
//! run on the installed Redis.

use std::path::{Path, PathBuf};

use ::redis::cmd;
use proptest::prelude::*;
use tollgate::store::redis::RedisType;

use super::*;
use crate::{
    batches,
    cluster::{connect, count, instances, move_slots, ready},
    faults::check_replica_is_not_used,
    load::load_during,
    random_calls::random_calls,
    random_tests::{TestStore, compare, config},
};
use testkit::{
    redis::RedisServer,
    redis_cluster::{Cluster, Sentinels},
    redis_node::ServerSetup,
    wait::eventually_async,
};

/// The path below the directory of test tools, and a line of the reply to `INFO server`.
const SERVERS: [(&str, &str); 2] = [
    ("redis-6.2/redis-server", "redis_version:6.2."),
    ("valkey/usr/bin/valkey-server", "valkey_version:"),
];

/// The rights of a Redis user that docs/redis.md lists.
const RIGHTS: &str = "+eval +evalsha +get +set +del +incrby +decrby +pexpire +pttl \
    +getrange +setrange +strlen +ping";

const ALGORITHMS: [Algorithm; 7] = [
    Algorithm::FixedWindow { count_denied: true },
    Algorithm::FixedWindow { count_denied: false },
    Algorithm::SlidingWindow,
    Algorithm::SlidingLog,
    Algorithm::TokenBucket { burst: 5 },
    Algorithm::LeakyBucket { burst: 5 },
    Algorithm::Concurrency { lifetime: Duration::from_secs(9) },
];

const IN_A_CLUSTER: &str = "+cluster|slots +asking";

/// The paths of the servers, after a check of their versions.
fn programs() -> Vec<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools");
    let mut paths = Vec::new();
    for (program, version) in SERVERS {
        let path = tools.join(program);
        assert!(path.exists(), "{} is missing: run tests/setup.sh", path.display());
        let server = RedisServer::with_program(&path, "");
        let info: String = cmd("INFO").arg("server").query(&mut server.client()).unwrap();
        assert!(info.contains(version), "{} is another version: {info}", path.display());
        paths.push(path);
    }
    paths
}

/// [`programs`] and the installed server.
fn all_programs() -> Vec<PathBuf> {
    let mut programs = programs();
    programs.push("redis-server".into());
    programs
}

#[test]
fn scripts_match_the_model_and_calls_are_batched() {
    for program in programs() {
        let test = TestStore::with_jitter(RedisServer::with_program(&program, "secret"), 0);
        let config = config(300, "tests/store/versions.regressions");
        proptest!(config, |(calls in random_calls(2))| compare(&test, &calls)?);
        batches::check_random_batches(&RedisServer::with_program(&program, ""), 60);
    }
}

#[tokio::test]
async fn a_user_with_few_rights_suffices() {
    for program in all_programs() {
        let server = RedisServer::with_program(&program, "");
        let rights = format!("ACL SETUSER counts on >secret ~* -@all {RIGHTS}");
        let mut words = rights.split(' ');
        let mut user = cmd(words.next().expect("it is not empty"));
        user.arg(words.collect::<Vec<_>>()).exec(&mut server.client()).unwrap();
        let url = format!("redis://counts:secret@127.0.0.1:{}", server.port());
        let store = store(&url, PATIENT);
        for (number, algorithm) in ALGORITHMS.into_iter().enumerate() {
            let limit = Limit { algorithm, penalty: Duration::from_secs(9), ..minutely(5) };
            let most = Hits::Add(u64::MAX);
            for hits in [Hits::Add(1), most, most, Hits::Add(0), Hits::Refund(1)] {
                let name = number.to_string();
                let one = charge(&name, limit.clone(), hits, NOON);
                let plain = charge(&format!("plain{name}"), minutely(5), hits, NOON);
                outcomes(&store, &[one], NOON).await.unwrap();
                outcomes(&store, &[plain], NOON).await.unwrap();
            }
        }
        let select = ["SETUSER", "counts", "+select"];
        cmd("ACL").arg(&select).exec(&mut server.client()).unwrap();
        assert_eq!(hit(&super::store(&format!("{url}/1"), PATIENT), "a").await.unwrap(), 1);
    }
}

/// A call that lacks a right fails. It never appears as if nothing had been counted.
#[tokio::test]
async fn a_missing_right_never_lets_more_requests_pass() {
    for program in all_programs() {
        let server = RedisServer::with_program(&program, "");
        let set_rights = |rights: &str| {
            let words = format!("SETUSER counts {rights}");
            cmd("ACL").arg(words.split(' ').collect::<Vec<_>>()).exec(&mut server.client())
        };
        set_rights(&format!("on >secret ~* -@all {RIGHTS}")).unwrap();
        let url = format!("redis://counts:secret@127.0.0.1:{}", server.port());
        let store = store(&url, PATIENT);
        for (number, algorithm) in ALGORITHMS.into_iter().enumerate() {
            let limit = Limit { algorithm, ..minutely(5) };
            let hit = async |hits| {
                let charge = charge(&number.to_string(), limit.clone(), Hits::Add(hits), NOON);
                Ok::<_, StoreError>(outcomes(&store, &[charge], NOON).await?[0])
            };
            let first = eventually_async("a connection", async || hit(5).await).await;
            assert!(!first.over, "{algorithm:?}");
            for right in RIGHTS.split_whitespace() {
                let right = right.trim_start_matches('+');
                if right == "ping" {
                    continue;
                }
                set_rights(&format!("-{right}")).unwrap();
                assert!(
                    hit(1).await.is_ok_and(|outcome| outcome.over) || hit(1).await.is_err(),
                    "{right}"
                );
                set_rights(&format!("+{right}")).unwrap();
                let again = eventually_async("a connection", async || hit(0).await).await;
                assert!(5 <= again.used && again.remaining == 0, "{right}, {algorithm:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_not_used() {
    for program in programs() {
        check_replica_is_not_used(&RedisServer::with_program(&program, "")).await;
    }
}

#[tokio::test]
async fn scripts_are_sent_again_after_a_flush_and_after_a_restart() {
    for program in programs() {
        let mut server = RedisServer::with_program(&program, "secret");
        let store = store(&server.url(), PATIENT);
        let mut client = server.client();
        for expected in 1..=5 {
            assert_eq!(hit(&store, "a").await.unwrap(), expected);
            cmd("SCRIPT").arg("FLUSH").exec(&mut client).unwrap();
        }
        server.stop();
        hit(&store, "a").await.unwrap_err();
        server.restart();
        assert_eq!(eventually_async("a connection", async || hit(&store, "a").await).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_exact_while_slots_move() {
    for program in programs() {
        let setup = ServerSetup { program, ..ServerSetup::default() };
        let cluster = std::sync::Arc::new(Cluster::with_setup(&setup, 3));
        let rights = format!("ACL SETUSER counts on >secret ~* -@all {RIGHTS} {IN_A_CLUSTER}");
        for node in &cluster.primaries {
            node.query::<()>(&rights.split(' ').collect::<Vec<_>>());
        }
        let url = format!("redis://counts:secret@{}", cluster.url());
        let stores = instances(&url, 2).await;
        let load = load_during(&stores, 300, move_slots(&cluster, 8, 600)).await;
        assert_eq!(load.failed_calls, 0);
        load.assert_exact();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_that_sentinels_name_is_followed() {
    for program in programs() {
        let sentinels = Sentinels::with_setup(&ServerSetup { program, ..ServerSetup::default() });
        let store = connect(RedisType::Sentinel, &sentinels.url(), Duration::from_secs(1));
        ready(&store).await;
        assert_eq!(count(&store, "a").await.unwrap(), 1);
        sentinels.fail_over();
        eventually_async("the failover to be followed", async || {
            count(&store, "b").await.is_ok() && sentinels.servers[1].query::<u64>(&["DBSIZE"]) == 2
        })
        .await;
    }
}
