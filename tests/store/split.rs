//! Two Redis servers, one of them for limits per second.

use ::redis::cmd;
use tollgate::store::StoreStats;

use super::*;
use testkit::redis::RedisServer;

/// The number of scripts that a server has run.
fn scripts(server: &RedisServer) -> u64 {
    let info: String =
        cmd("INFO").arg("commandstats").query(&mut server.client()).expect("it runs");
    let calls = |line: &str| -> Option<u64> {
        let rest = line.strip_prefix("cmdstat_evalsha:calls=")?;
        rest.split(',').next()?.parse().ok()
    };
    info.lines().find_map(calls).unwrap_or_default()
}

#[tokio::test]
async fn consumption_of_a_call_that_one_of_two_servers_refuses() {
    let servers = [(); 2].map(|()| RedisServer::start());
    let settings = servers
        .each_ref()
        .map(|it| RedisSettings::parse(&it.url(), None, PATIENT).expect("the URL is valid"));
    let store = Redis::with_per_second(&settings[0], Some(&settings[1]), &StoreStats::default());
    let secondly = |requests| Limit::fixed(requests, Window::new(Unit::Second));
    let used = async |consume, name: &str, refused| {
        let limits = [("tight", minutely(2)), ("wide", secondly(9)), ("free", minutely(9))];
        let charges = limits.map(|(limit, it)| Charge {
            consume,
            refused,
            ..charge(&format!("{name}{limit}"), it, Hits::Add(1), NOON)
        });
        let outcomes = outcomes(&store, &charges, NOON).await.expect("the servers run");
        outcomes.iter().map(|it| it.used).collect::<Vec<_>>()
    };
    for (consume, third, fourth) in [
        (Consume::Independent, [3, 3, 3], [4, 4, 4]),
        (Consume::AllOrNothing, [2, 2, 2], [2, 2, 2]),
        (Consume::IfRefused, [3, 2, 2], [4, 2, 2]),
    ] {
        let name = format!("{consume:?}");
        for expected in [[1; 3], [2; 3], third, fourth] {
            assert_eq!(used(consume, &name, false).await, expected, "{consume:?}");
        }
    }
    // A call that another limit refused counts no passed charge and reserves nothing.
    let before = servers.each_ref().map(scripts);
    assert_eq!(used(Consume::IfRefused, "other", true).await, [0, 0, 0]);
    assert_eq!(used(Consume::AllOrNothing, "other", true).await, [0, 0, 0]);
    assert_eq!(servers.each_ref().map(scripts), before.map(|it| it + 2));
}
