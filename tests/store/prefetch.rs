//! Hits that an instance has prefetched.

use std::sync::Arc;

use tollgate::{
    config::{self, CompileOptions, SourceFile},
    engine::Engine,
    time::ManualClock,
};

use super::*;
use crate::deployments::{
    Deployment, Servers, SharedRedis, count_passed, engine, request_for, rules, service_store,
};
use testkit::redis_node::command_calls;

fn rules_with_lease(requests: u32, lease: &str) -> String {
    format!(
        "domain: shop\ndescriptors:\n- key: user\n  rate_limit: {{unit: hour, requests_per_unit: \
         {requests}, accuracy: {{lease: {lease}}}}}\n"
    )
}

fn engine_at_noon(rules: &str, store: SharedRedis) -> Engine<deployments::ServiceStore> {
    // The clock stands still, so the call rate is as high as possible.
    engine(rules, service_store(store, 0), &Arc::new(ManualClock::new(NOON)))
}

#[tokio::test]
async fn a_lowered_limit_applies_at_once_to_prefetched_hits() {
    let servers = Servers::start(Deployment::One);
    let engine = engine_at_noon(&rules_with_lease(100_000, "1%"), servers.store(PATIENT).await);
    assert_eq!(count_passed(&engine, &request_for(&["user"]), 1_500).await, 1_500);
    engine.rules.store(rules(&rules_with_lease(100, "1%")).load_full());
    assert_eq!(count_passed(&engine, &request_for(&["user"]), 1_000).await, 0);
    engine.rules.store(rules(&rules_with_lease(100_000, "1%")).load_full());
    assert_eq!(count_passed(&engine, &request_for(&["user"]), 100).await, 100);
}

/// Every share that a rule may lease saves calls; others are rejected by the config.
#[tokio::test]
async fn every_valid_lease_saves_calls_to_redis() {
    let servers = Servers::start(Deployment::One);
    for lease in ["10%", "5%", "1%"] {
        let text = rules_with_lease(10_000, lease);
        let file = SourceFile { name: "rules.yaml".into(), bytes: text.clone().into() };
        if config::compile(&[file], CompileOptions::default()).is_err() {
            continue;
        }
        let mut client = servers.clients().remove(0);
        servers.flush();
        let engine = engine_at_noon(&text, servers.store(PATIENT).await);
        let before = command_calls(&mut client, "incrby");
        assert_eq!(count_passed(&engine, &request_for(&["user"]), 2_000).await, 2_000);
        let calls = command_calls(&mut client, "incrby") - before;
        assert!(calls < 200, "{lease}: {calls} of 2,000 calls asked Redis");
    }
}

#[tokio::test]
async fn prefetching_never_exceeds_the_limit() {
    let servers = Servers::start(Deployment::One);
    for (key, lease) in [("user", "10%"), ("user", "1%")] {
        servers.flush();
        let text = rules_with_lease(2_000, lease);
        let mut sum = 0;
        let mut engines = Vec::new();
        for _ in 0..2 {
            engines.push(engine_at_noon(&text, servers.store(PATIENT).await));
        }
        for _ in 0..1_500 {
            for engine in &engines {
                sum += count_passed(engine, &request_for(&[key]), 1).await;
            }
        }
        assert!((1_500..=2_000).contains(&sum), "{lease}: {sum} of 2,000");
    }
}
