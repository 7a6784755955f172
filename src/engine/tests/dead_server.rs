//! Requests with counters on several servers, one of them down.

use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    config::{self, CompileOptions, SourceFile},
    descriptor::{Descriptor, Entry},
    engine::fallback::FallbackSettings,
    limit::{Hits, step::State},
    store::redis::simulated::{Condition, SharedRng, Simulated},
    time::Timestamp,
};

/// Sends 40 requests for `keys` while server `b` is down. Returns the number that pass and
/// the hits used of the counter that starts with `a0`.
async fn passed(rules: &str, keys: &[&str]) -> (usize, u64) {
    let file = SourceFile { name: "rules.yaml".into(), bytes: rules.to_owned().into() };
    let compiled =
        config::compile(&[file], CompileOptions::default()).expect("the rules are valid");
    let servers = Simulated::servers(2, &Arc::new(SharedRng::new(1)));
    servers[1].set_condition(Condition::Down);
    let engine = Engine {
        rules: SharedRules::new(ArcSwap::from_pointee(compiled.rules)),
        store: Simulated::on(&servers, Duration::from_millis(200)),
        clock: Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000))),
        keys: KeyFormat::default(),
        mode: Mode::default(),
        fallback: Fallback::new(FallbackSettings::default()),
    };
    let descriptor = |key: &&str| Descriptor {
        entries: vec![Entry { key: key.as_bytes().to_vec().into(), value: "x".into() }],
        hits: Hits::Add(1),
        has_own_hits: true,
        limit: None,
    };
    let descriptors = keys.iter().map(descriptor).collect();
    let request = Request { domain: "d".into(), descriptors, hits_addend: 0 };
    let mut passed = 0;
    for _ in 0..40 {
        let decision = engine.decide(&request, None).await.expect("policies decide");
        passed += usize::from(!decision.over_limit);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let records = servers[0].records();
    let record = records.iter().find(|(key, _)| key.starts_with(b"d|a0"));
    let used = match record.and_then(|(_, it)| it.state.as_ref()) {
        Some(State::Count(it)) => it.count,
        _ => 0,
    };
    (passed, used)
}

const TIED: &str = "domain: d\ndescriptors:\n- {key: a0, rate_limit: {unit: year, \
                    requests_per_unit: 5, consume: all_or_nothing}}\n";

#[tokio::test(start_paused = true)]
async fn an_exhausted_local_share_charges_no_other_counter() {
    let rules = format!(
        "{TIED}- {{key: b0, rate_limit: {{unit: year, requests_per_unit: 1, on_error: local}}}}\n"
    );
    assert_eq!(passed(&rules, &["a0", "b0"]).await, (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_quota_turns_off_no_other_limit() {
    for policy in ["deny", "allow", "local"] {
        let rules = format!(
            "{TIED}- {{key: a1, quota_mode: true, rate_limit: {{unit: year, requests_per_unit: \
             1000}}}}\n- {{key: b0, quota_mode: true, rate_limit: {{unit: year, \
             requests_per_unit: 1, on_error: {policy}}}}}\n"
        );
        assert_eq!(passed(&rules, &["a0", "a1", "b0"]).await, (5, 5), "{policy}");
    }
}
