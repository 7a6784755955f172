//! Two Redis servers, one of them for limits per second.

use tollgate::store::StoreStats;

use super::*;
use testkit::{redis::RedisServer, redis_node::command_calls};

struct TwoServers {
    main: RedisServer,
    per_second: RedisServer,
    store: Redis,
}

impl TwoServers {
    fn start() -> Self {
        let (main, per_second) = (RedisServer::start(), RedisServer::start());
        let main_settings = RedisSettings::parse(&main.url(), None, PATIENT).unwrap();
        let second_settings = RedisSettings::parse(&per_second.url(), None, PATIENT).unwrap();
        let stats = StoreStats::default();
        let store = Redis::with_per_second(&main_settings, Some(&second_settings), &stats);
        Self { main, per_second, store }
    }

    /// The number of scripts that each server has run.
    fn scripts(&self) -> [u32; 2] {
        let servers = [&self.main, &self.per_second];
        servers.map(|server| command_calls(&mut server.client(), "evalsha"))
    }

    /// Charges a limit of two and a limit of nine on the main server, and between them one
    /// on the other server. Returns the values of the counters. `refused` is whether
    /// another limit has refused the call.
    async fn charge_three(&self, consume: Consume, name: &str, refused: bool) -> Vec<u64> {
        let per_second = Limit::fixed(9, Window::new(Unit::Second));
        let mut charges = Vec::new();
        for (limit_name, limit) in
            [("tight", minutely(2)), ("wide", per_second), ("free", minutely(9))]
        {
            let charge = charge(&format!("{name}{limit_name}"), limit, Hits::Add(1), NOON);
            charges.push(Charge { consume, refused, ..charge });
        }
        after(&self.store, &charges, NOON).await.expect("the servers run")
    }
}

#[tokio::test]
async fn consumption_of_a_call_that_one_of_two_servers_refuses() {
    let servers = TwoServers::start();
    for (consume, third, fourth) in [
        (Consume::Independent, [3, 3, 3], [4, 4, 4]),
        (Consume::AllOrNothing, [2, 2, 2], [2, 2, 2]),
        (Consume::IfRefused, [3, 2, 2], [4, 2, 2]),
    ] {
        let name = format!("{consume:?}");
        for expected in [[1; 3], [2; 3], third, fourth] {
            assert_eq!(servers.charge_three(consume, &name, false).await, expected, "{name}");
        }
    }
    // A call that another limit refused counts no passed charge and reserves nothing.
    let before = servers.scripts();
    for consume in [Consume::IfRefused, Consume::AllOrNothing] {
        assert_eq!(servers.charge_three(consume, "other", true).await, [0, 0, 0]);
    }
    assert_eq!(servers.scripts(), before.map(|scripts| scripts + 2));
}
