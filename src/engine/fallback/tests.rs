use std::{future::pending, sync::Arc};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

use super::*;
use crate::{
    config::{self, CompileOptions, SourceFile},
    counter::KeyFormat,
    descriptor::{Descriptor, Entry, Request},
    engine::{
        DecideError, Engine,
        decision::{Decision, Mode, Verdict},
    },
    limit::{Algorithm, Unit, Window},
    store::{Consume, Deadline, Enforced, OnTimeout},
    time::ManualClock,
};

const RULES: &str = "
domain: shop
descriptors:
- { key: default, rate_limit: { unit: hour, requests_per_unit: 10 } }
- { key: allow, rate_limit: { unit: hour, requests_per_unit: 10, on_error: allow } }
- { key: deny, rate_limit: { unit: hour, requests_per_unit: 10, on_error: deny } }
- { key: local, rate_limit: { unit: hour, requests_per_unit: 10, on_error: local } }
- { key: free, rate_limit: { unlimited: true } }
- key: spared
  rate_limit: { unit: hour, requests_per_unit: 10, on_error: local, count_denied: false, consume: all_or_nothing }
- key: watched
  shadow_mode: true
  rate_limit: { unit: hour, requests_per_unit: 10, on_error: deny }
- key: both
  rate_limits:
  - { unit: hour, requests_per_unit: 10, on_error: allow }
  - { unit: day, requests_per_unit: 2, on_error: local }
";

const FOREVER: Duration = Duration::from_hours(1);

/// A store that fails.
enum Broken {
    Failing,
    Silent,
}

impl Store for Broken {
    async fn charge(&self, charges: &[Charge], _: Timestamp, deadline: Deadline) -> Results {
        let error = match (self, deadline) {
            (Self::Failing, _) => StoreError::Failed("it is down".into()),
            (Self::Silent, None) => pending().await,
            (Self::Silent, Some(deadline)) => {
                let wait = deadline.saturating_duration_since(Instant::now());
                sleep_until(deadline).await;
                StoreError::Timeout(wait)
            }
        };
        charges.iter().map(|_| Err(error.clone())).collect()
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn settings(on_error: Option<OnError>) -> FallbackSettings {
    FallbackSettings { on_error, deadline: Duration::from_millis(1), ..FallbackSettings::default() }
}

fn engine<S>(store: S, settings: FallbackSettings) -> Engine<S> {
    let file = SourceFile { name: "rules.yaml".into(), bytes: RULES.into() };
    let rules = config::compile(&[file], CompileOptions::default()).expect("they are right").rules;
    Engine {
        rules: Arc::new(ArcSwap::from_pointee(rules)),
        store,
        clock: Arc::new(ManualClock::new(Timestamp::from_secs(1_000))),
        keys: KeyFormat::default(),
        mode: Mode::default(),
        fallback: Fallback::new(settings),
    }
}

fn request(descriptors: &[(&str, Hits)]) -> Request {
    let descriptor = |(key, hits): &(&str, Hits)| Descriptor {
        entries: vec![Entry { key: key.as_bytes().to_vec().into(), value: "x".into() }],
        hits: *hits,
        has_own_hits: true,
        limit: None,
    };
    let descriptors = descriptors.iter().map(descriptor).collect();
    Request { domain: "shop".into(), descriptors, hits_addend: 0 }
}

async fn ask<S: Store>(
    engine: &Engine<S>,
    descriptors: &[(&str, Hits)],
) -> Result<Decision, DecideError> {
    engine.decide(&request(descriptors), None).await
}

/// Sends one hit to each key; returns the refusal and the remaining hits.
async fn hit<S: Store>(engine: &Engine<S>, keys: &[&str]) -> (bool, Vec<u32>) {
    let descriptors: Vec<_> = keys.iter().map(|it| (*it, Hits::Add(1))).collect();
    let decision = ask(engine, &descriptors).await.expect("every limit has a policy");
    assert_eq!(decision.policies.len(), keys.len());
    let remaining = |it: &_| Some(Verdict::status(it)?.outcome.remaining);
    (decision.over_limit, decision.verdicts.iter().filter_map(remaining).collect())
}

#[tokio::test]
async fn the_policy_decides_when_the_store_fails_or_is_silent() {
    use OnError::{Allow, Deny, Local};

    for broken in [|| Broken::Failing, || Broken::Silent] {
        for (key, default, policy) in [
            ("default", Some(Allow), Allow),
            ("default", Some(Deny), Deny),
            ("default", Some(Local), Local),
            ("allow", None, Allow),
            ("deny", Some(Allow), Deny),
            ("local", Some(Deny), Local),
        ] {
            let engine = engine(broken(), settings(default));
            for call in 1..=12 {
                let expected = match policy {
                    Allow => (false, vec![9]),
                    Deny => (true, vec![0]),
                    Local => (call > 10, vec![10_u32.saturating_sub(call)]),
                };
                assert_eq!(hit(&engine, &[key]).await, expected, "{key} {default:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_fails_if_any_of_its_limits_has_no_policy() {
    let engine = engine(Broken::Failing, settings(None));
    for keys in [&["default"][..], &["allow", "default"], &["default", "deny"]] {
        let descriptors: Vec<_> = keys.iter().map(|it| (*it, Hits::Add(1))).collect();
        assert!(matches!(
            ask(&engine, &descriptors).await,
            Err(DecideError::Store(StoreError::Failed(_)))
        ));
    }
    // An override has no policy either.
    let mut overriding = request(&[("allow", Hits::Add(1))]);
    overriding.descriptors[0].limit = Some(Limit::fixed(1, Window::new(Unit::Hour)));
    assert!(engine.decide(&overriding, None).await.is_err());
    // A descriptor without a limit needs no policy.
    let decision = ask(&engine, &[("allow", Hits::Add(1)), ("free", Hits::Add(1))]).await;
    assert!(!decision.expect("it is decided").over_limit);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_policy_waits_for_the_store_until_its_timeout() {
    let engine = engine(Broken::Silent, settings(None));
    let answer = timeout(Duration::from_millis(30), ask(&engine, &[("default", Hits::Add(1))]));
    assert!(answer.await.is_err());
    let patience = Some(Duration::from_millis(4));
    let request = request(&[("default", Hits::Add(1))]);
    let answer = timeout(FOREVER / 180, engine.decide(&request, patience)).await;
    let Ok(Err(DecideError::Store(StoreError::Timeout(after)))) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(after, Duration::from_millis(3));
}

#[tokio::test]
async fn a_timeout_below_the_deadline_is_met() {
    let settings = FallbackSettings { deadline: FOREVER, ..settings(Some(OnError::Allow)) };
    let engine = engine(Broken::Silent, settings);
    let patience = Duration::from_millis(4);
    let request = request(&[("default", Hits::Add(1))]);
    let decision = timeout(FOREVER / 180, engine.decide(&request, Some(patience))).await;
    assert!(!decision.expect("it comes").expect("it is decided").over_limit);
    assert!(engine.fallback.store_timeout(true, Some(patience)).is_some_and(|it| it < patience));
    let wait = engine.fallback.store_timeout(true, None);
    assert!(wait.is_some_and(|it| FOREVER / 2 < it && it < FOREVER));
    assert_eq!(engine.fallback.store_timeout(true, Some(Duration::MAX)), wait);
    assert_eq!(engine.fallback.store_timeout(false, None), None);
}

#[tokio::test]
async fn policies_do_not_change_answers_of_the_store() {
    let engine = engine(Memory::new(256), settings(Some(OnError::Deny)));
    for remaining in [9, 8] {
        let decision = ask(&engine, &[("local", Hits::Add(1))]).await.expect("it is in memory");
        let (_, status) = decision.binding().expect("a limit applies");
        assert_eq!(status.outcome.remaining, remaining);
        assert!(decision.policies.is_empty());
    }
    assert!(engine.fallback.local.is_empty());
}

#[tokio::test]
async fn each_limit_of_a_request_uses_its_own_policy() {
    let engine = engine(Broken::Failing, settings(None));
    for (over, remaining) in [(false, 1), (false, 0), (true, 0)] {
        let decision = ask(&engine, &[("both", Hits::Add(1))]).await.expect("it is decided");
        let (_, status) = decision.binding().expect("a limit applies");
        assert_eq!((decision.over_limit, status.outcome.remaining), (over, remaining));
        assert_eq!(*decision.policies, [OnError::Allow, OnError::Local]);
    }
    assert_eq!(hit(&engine, &["local", "allow", "watched"]).await, (false, vec![9, 9, 0]));
}

/// A store whose second part is down. The first part has the first charge.
struct Half(Memory);

impl Store for Half {
    async fn charge(&self, charges: &[Charge], now: Timestamp, deadline: Deadline) -> Results {
        let mut results = self.0.charge(&charges[..1], now, deadline).await;
        let error = StoreError::Failed("a half is down".into());
        results.extend(charges[1..].iter().map(|_| Err(error.clone())));
        results
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::test]
async fn policies_do_not_change_answers_of_one_part_of_the_store() {
    let engine = engine(Half(Memory::new(256)), settings(None));
    let both = [("default", Hits::Add(4)), ("allow", Hits::Add(1)), ("local", Hits::Add(4))];
    for (over, left) in [(false, [6, 9, 6]), (false, [2, 9, 2]), (true, [0, 9, 0])] {
        let decision = ask(&engine, &both).await.expect("the rest has policies");
        let found = decision.verdicts.iter().filter_map(Verdict::status);
        let found: Vec<_> = found.map(|it| it.outcome.remaining).collect();
        assert_eq!((decision.over_limit, &found[..]), (over, &left[..]));
        assert_eq!(*decision.policies, [OnError::Allow, OnError::Local]);
    }
    // The answering part refuses, so the local share is not charged.
    let both = [("default", Hits::Add(1)), ("spared", Hits::Add(3))];
    let decision = ask(&engine, &both).await.expect("the rest has policies");
    assert!(decision.over_limit);
    assert_eq!(decision.verdicts[1].status().expect("it applies").outcome.remaining, 10);
    let error = ask(&engine, &[("allow", Hits::Add(1)), ("default", Hits::Add(1))]).await;
    assert_eq!(error.unwrap_err().to_string(), "the counter store failed: a half is down");
}

#[tokio::test]
async fn a_known_refusal_needs_no_policy_for_the_rest() {
    let engine = engine(Half(Memory::new(256)), settings(None));
    let twice = |first, hits| [(first, Hits::Add(hits)), ("default", Hits::Add(1))];
    assert!(ask(&engine, &twice("default", 10)).await.is_err());
    let decision = ask(&engine, &twice("default", 1)).await.expect("it is refused in any case");
    assert!(decision.over_limit && decision.policies.is_empty());
    // A limit in shadow mode refuses nothing, so the error stands.
    assert!(ask(&engine, &twice("watched", 11)).await.is_err());
    assert!(ask(&engine, &twice("watched", 11)).await.is_err());
}

/// Records the `on_timeout` of each charge.
struct Asked(Mutex<Vec<OnTimeout>>);

impl Store for Asked {
    async fn charge(&self, charges: &[Charge], now: Timestamp, _: Deadline) -> Results {
        self.0.lock().extend(charges.iter().map(|it| it.on_timeout));
        charges.iter().map(|it| Ok(it.outcome_if_first(now))).collect()
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::test]
async fn charges_carry_the_decision_for_a_timeout() {
    use OnTimeout::{Allow, Deny, Fail};
    for (default, expected) in
        [(None, Fail), (Some(OnError::Deny), Deny), (Some(OnError::Local), Allow)]
    {
        let engine = engine(Asked(Mutex::default()), settings(default));
        let keys = ["free", "default", "allow", "deny", "both", "watched", "local"];
        let hits: Vec<_> = keys.iter().map(|it| (*it, Hits::Add(1))).collect();
        ask(&engine, &hits).await.expect("it is decided");
        let expected = [expected, Allow, Deny, Allow, Allow, Deny, Allow];
        assert_eq!(*engine.store.0.lock(), expected, "{default:?}");
    }
}

#[tokio::test]
async fn a_denied_call_does_not_charge_all_or_nothing_limits() {
    let engine = engine(Broken::Failing, settings(None));
    for _ in 0..20 {
        assert_eq!(hit(&engine, &["spared", "deny"]).await, (true, vec![10, 0]));
    }
    assert_eq!(hit(&engine, &["spared"]).await, (false, vec![9]));
    assert_eq!(hit(&engine, &["spared", "watched"]).await, (false, vec![8, 0]));
}

#[tokio::test]
async fn policies_refuse_impossible_hits_and_no_refunds() {
    let engine = engine(Broken::Failing, settings(None));
    for (key, hits, over) in [
        ("allow", Hits::Add(10), false),
        ("allow", Hits::Add(11), true),
        ("deny", Hits::Add(0), true),
        ("deny", Hits::Refund(1), false),
        ("spared", Hits::Add(10), false),
        ("spared", Hits::Add(1), true),
        ("spared", Hits::Refund(1), false),
        ("spared", Hits::Add(1), false),
    ] {
        let decision = ask(&engine, &[(key, hits)]).await.expect("it is decided");
        assert_eq!(decision.over_limit, over, "{key} {hits:?}");
    }
}

#[test]
fn the_local_share_is_at_least_one_hit() {
    for (requests, part, expected) in [
        (10, 1.0, 10),
        (10, 0.25, 3),
        (10, 0.2, 2),
        (100, 0.57, 57),
        (1, 0.001, 1),
        (0, 0.5, 0),
        (u32::MAX, 1.0, u32::MAX),
    ] {
        let limit = Limit::fixed(requests, Window::new(Unit::Hour));
        assert_eq!(share(&limit, part).requests, expected, "{requests} {part}");
        let bucket = Algorithm::TokenBucket { burst: requests };
        let bucket = share(&Limit { algorithm: bucket, ..limit }, part);
        assert_eq!(bucket.capacity(), expected);
    }
}

#[test]
fn hits_beyond_the_local_share_may_pass_later() {
    let fallback = Fallback::new(FallbackSettings { local_share: 0.5, ..settings(None) });
    let engine = engine(Broken::Failing, settings(None));
    let limit =
        Limit { algorithm: Algorithm::SlidingWindow, ..Limit::fixed(10, Window::new(Unit::Hour)) };
    let now = Timestamp::from_secs(1_000);
    let charge = |hits| Charge {
        counter: engine.keys.counter(b"shop", iter::empty(), &limit, now),
        limit: limit.clone(),
        hits: Hits::Add(hits),
        consume: Consume::Independent,
        refused: false,
        on_timeout: OnTimeout::Fail,
        enforced: Enforced::Yes,
    };
    let answer = |hits| {
        let charges = [charge(hits)];
        let down = [Err(StoreError::Failed("it is down".into()))].into_iter().collect();
        let policies = [Some(OnError::Local)].into_iter().collect();
        let decided = fallback.decide(&charges, &policies, down, now);
        decided.now_or_never().expect("it waits for nothing").expect("it is in memory").outcomes[0]
    };
    assert_eq!((answer(8).over, answer(8).retry_after), (true, Some(OUTAGE_RETRY_AFTER)));
    assert_eq!((answer(11).over, answer(11).retry_after), (true, None));
    assert!(!answer(5).over && answer(1).over);
}
