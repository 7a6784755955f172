//! Hits that an instance has prefetched.

use std::sync::Arc;

use tollgate::{
    config::{self, CompileOptions, SourceFile},
    engine::Engine,
    time::ManualClock,
};

use super::*;
use crate::{
    batches::ran,
    places::{Place, Servers, Shared, ask, counters, engine, passed, rules},
};

fn limited(requests: u32, lease: &str) -> String {
    format!(
        "domain: game\ndescriptors:\n- key: user\n  rate_limit: {{unit: hour, requests_per_unit: \
         {requests}, accuracy: {{lease: {lease}}}}}\n"
    )
}

fn busy(text: &str, store: Shared) -> Engine<places::Counters> {
    // The clock stands still, so the call rate is as high as possible.
    engine(text, counters(store, 0), &Arc::new(ManualClock::new(NOON)))
}

#[tokio::test]
async fn a_lowered_limit_applies_at_once_to_prefetched_hits() {
    let servers = Servers::start(Place::One);
    let engine = busy(&limited(100_000, "1%"), servers.store(PATIENT).await);
    assert_eq!(passed(&engine, &ask(&["user"]), 1_500).await, 1_500);
    engine.rules.store(rules(&limited(100, "1%")).load_full());
    assert_eq!(passed(&engine, &ask(&["user"]), 1_000).await, 0);
    engine.rules.store(rules(&limited(100_000, "1%")).load_full());
    assert_eq!(passed(&engine, &ask(&["user"]), 100).await, 100);
}

/// Every share that a rule may lease saves calls; others are rejected by the config.
#[tokio::test]
async fn every_valid_lease_saves_calls_to_redis() {
    let Servers::One(server) = Servers::start(Place::One) else { unreachable!("it is one") };
    let servers = Servers::One(server);
    for lease in ["10%", "5%", "1%"] {
        let text = limited(10_000, lease);
        let file = SourceFile { name: "rules.yaml".into(), bytes: text.clone().into() };
        if config::compile(&[file], CompileOptions::default()).is_err() {
            continue;
        }
        let mut client = servers.clients().remove(0);
        ::redis::cmd("FLUSHALL").exec(&mut client).expect("it runs");
        let engine = busy(&text, servers.store(PATIENT).await);
        let before = ran(&mut client, "incrby");
        assert_eq!(passed(&engine, &ask(&["user"]), 2_000).await, 2_000);
        let calls = ran(&mut client, "incrby") - before;
        assert!(calls < 200, "{lease}: {calls} of 2,000 calls asked Redis");
    }
}

#[tokio::test]
async fn prefetching_never_exceeds_the_limit() {
    let servers = Servers::start(Place::One);
    for (key, lease) in [("user", "10%"), ("user", "1%")] {
        let mut client = servers.clients().remove(0);
        ::redis::cmd("FLUSHALL").exec(&mut client).expect("it runs");
        let text = limited(2_000, lease);
        let both = [(); 2];
        let mut sum = 0;
        let mut engines = Vec::new();
        for () in both {
            engines.push(busy(&text, servers.store(PATIENT).await));
        }
        for _ in 0..1_500 {
            for engine in &engines {
                sum += passed(engine, &ask(&[key]), 1).await;
            }
        }
        assert!((1_500..=2_000).contains(&sum), "{lease}: {sum} of 2,000");
    }
}
