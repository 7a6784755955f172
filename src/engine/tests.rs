use std::{sync::atomic::AtomicBool, sync::atomic::Ordering::SeqCst, thread};

use futures_util::FutureExt;

use super::*;
use crate::{
    descriptor::{Descriptor, Entry},
    engine::decision::{LimitStatus, Verdict},
    limit::{Hits, Limit, Unit, Window, tally},
    rules::spec::{DescriptorSpec, DomainSpec, LimitSpec, RuleSpec},
    store::{Charge, Deadline, Results, memory::Memory},
    time::{ManualClock, Timestamp},
};

mod dead_server;
mod simulation;

fn limit(name: &str) -> LimitSpec {
    let limit = Limit::fixed(1, Window::new(Unit::Second));
    LimitSpec { limit, name: name.into(), all_or_nothing: false, on_error: None }
}

/// Rules for `a` and `b`, both called `name`.
fn rules(name: &str) -> Arc<RuleTree> {
    let descriptor = |key: &str| DescriptorSpec {
        key: key.into(),
        rule: Some(RuleSpec { limits: vec![limit(name)], ..RuleSpec::default() }),
        ..DescriptorSpec::default()
    };
    let descriptors = ["a", "b"].map(descriptor).into();
    Arc::new(RuleTree::compile(vec![DomainSpec { domain: "shop".into(), descriptors, http: None }]))
}

/// 100 descriptors, `a` and `b` in turn.
fn request() -> Request {
    let descriptor = |key: &'static str| Descriptor {
        entries: vec![Entry { key: key.into(), value: "x".into() }],
        hits: Hits::Add(1),
        has_own_hits: false,
        limit: None,
    };
    let descriptors = ["a", "b"].map(descriptor).into_iter().cycle().take(100).collect();
    Request { domain: "shop".into(), descriptors, hits_addend: 0 }
}

fn engine<S: Store>(rules: &SharedRules, store: S) -> Engine<S> {
    Engine {
        rules: Arc::clone(rules),
        store,
        clock: Arc::new(ManualClock::new(Timestamp::default())),
        keys: KeyFormat::default(),
        mode: Mode::default(),
        fallback: Fallback::new(fallback::FallbackSettings::default()),
    }
}

/// The name of the rules that decided, the same for all descriptors.
#[track_caller]
fn decided_by<S: Store>(engine: &Engine<S>) -> Arc<str> {
    let decision = engine.decide(&request(), None).now_or_never().expect("it waits for nothing");
    rules_of(&decision.expect("it is in memory"))
}

#[track_caller]
fn rules_of(decision: &Decision) -> Arc<str> {
    let verdicts = &decision.verdicts;
    let names = verdicts.iter().map(|it| &it.matched.rule().expect("a rule").spec.limits[0].name);
    let mut names: Vec<_> = names.cloned().collect();
    names.dedup();
    assert_eq!(names.len(), 1, "{names:?}");
    names.remove(0)
}

#[test]
fn nothing_is_decided_before_rules_are_loaded() {
    let engine = engine(&SharedRules::default(), Memory::new(9));
    let decision = engine.decide(&request(), None).now_or_never().expect("it waits for nothing");
    assert!(matches!(decision, Err(DecideError::NoRules)), "{decision:?}");
    engine.rules.store(rules("loaded"));
    assert_eq!(&*decided_by(&engine), "loaded");
}

/// A store that replaces the rules during a call.
struct Meanwhile(SharedRules, Memory);

impl Store for Meanwhile {
    async fn charge(&self, charges: &[Charge], now: Timestamp, deadline: Deadline) -> Results {
        self.0.store(rules("new"));
        self.1.charge(charges, now, deadline).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[test]
fn rules_replaced_during_a_store_call_apply_to_the_next_request() {
    let shared: SharedRules = Arc::new(ArcSwap::new(rules("old")));
    let engine = engine(&shared, Meanwhile(Arc::clone(&shared), Memory::new(1)));
    assert_eq!(&*decided_by(&engine), "old");
    assert_eq!(&*decided_by(&engine), "new");
}

/// A request whose descriptors `http` has made must not be decided by newer rules.
#[test]
fn loaded_rules_decide_after_they_have_been_replaced() {
    let engine = engine(&Arc::new(ArcSwap::new(rules("old"))), Memory::new(1));
    let loaded = engine.rules.load();
    engine.rules.store(rules("new"));
    let decision = engine.decide_by(loaded, &request(), None).now_or_never();
    let decision = decision.expect("it waits for nothing").expect("it is in memory");
    assert_eq!(&*rules_of(&decision), "old");
    assert_eq!(&*decided_by(&engine), "new");
}

#[test]
fn a_request_sees_one_set_of_rules() {
    let shared: SharedRules = Arc::new(ArcSwap::new(rules("old")));
    let engine = engine(&shared, Memory::new(1));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let sets = [rules("new"), rules("old")];
            let mut sets = sets.iter().cycle();
            while !done.load(SeqCst) {
                shared.store(Arc::clone(sets.next().expect("it has no end")));
            }
        });
        let decide = || (0..2_000).map(|_| decided_by(&engine)).collect::<Vec<_>>();
        let names = std::panic::catch_unwind(std::panic::AssertUnwindSafe(decide));
        done.store(true, SeqCst);
        let names = names.expect("each request saw one set");
        assert!(names.iter().any(|it| **it == *"old") && names.iter().any(|it| **it == *"new"));
    });
}

/// The verdicts, and the hits within, near and over the limit, of a request for two hits
/// on `a` and `b`, whose counters are at 13 of 15 and of 14.
fn stopped(stop: bool, spec: impl Fn(&mut RuleSpec, &str)) -> Vec<(bool, u64, [u64; 3])> {
    let descriptor = |(key, requests): (&str, u32)| {
        let limit = Limit::fixed(requests, Window::new(Unit::Minute));
        let limit = LimitSpec { limit, ..self::limit("") };
        let mut rule = RuleSpec { limits: vec![limit], ..RuleSpec::default() };
        spec(&mut rule, key);
        DescriptorSpec { key: key.into(), rule: Some(rule), ..DescriptorSpec::default() }
    };
    let descriptors = [("a", 15), ("b", 14)].map(descriptor).into();
    let tree =
        RuleTree::compile(vec![DomainSpec { domain: "shop".into(), descriptors, http: None }]);
    let rules = SharedRules::from(Arc::new(ArcSwap::from_pointee(tree)));
    let mode = Mode { stop_counting: stop, ..Mode::default() };
    let engine = Engine { mode, ..engine(&rules, Memory::new(10_000)) };
    let decide = |hits| {
        let request = Request { descriptors: request().descriptors[..2].into(), ..request() };
        let descriptors = request.descriptors.into_iter();
        let descriptors = descriptors.map(|it| Descriptor { hits: Hits::Add(hits), ..it });
        let request = Request { descriptors: descriptors.collect(), ..request };
        let decision = engine.decide(&request, None).now_or_never();
        decision.expect("it waits for nothing").expect("it is in memory").verdicts
    };
    decide(13);
    let state = |verdict: &Verdict| {
        let LimitStatus { limit, outcome, .. } = verdict.status().expect("a limit applies");
        let tally = tally(limit.requests, 2, outcome, 0.8);
        (outcome.over, outcome.used, [tally.within, tally.near, tally.over])
    };
    decide(2).iter().map(state).collect()
}

#[test]
fn in_stop_mode_a_refused_request_counts_only_against_exceeded_limits() {
    let refused = (true, 15, [0, 1, 1]);
    assert_eq!(stopped(false, |_, _| {}), [(false, 15, [2, 2, 0]), refused]);
    assert_eq!(stopped(true, |_, _| {}), [(false, 13, [2, 1, 0]), refused]);
}

/// Otherwise a limit in shadow mode would turn off the limits that refuse.
#[test]
fn in_stop_mode_limits_that_never_refuse_alone_stop_no_other() {
    let counted = (false, 15, [2, 2, 0]);
    assert_eq!(stopped(true, |rule, key| rule.shadow_mode = key == "b")[0], counted);
    // Another quota has room.
    assert_eq!(stopped(true, |rule, _| rule.quota_mode = true)[0], counted);
    let shadowed = |rule: &mut RuleSpec, key: &str| {
        (rule.quota_mode, rule.shadow_mode) = (key == "b", key == "b");
    };
    assert_eq!(stopped(true, shadowed)[0], counted);
    // The only quota is exhausted, so it refuses the request.
    assert_eq!(stopped(true, |rule, key| rule.quota_mode = key == "b")[0].1, 13);
    // Limits in shadow mode stop counting as well.
    assert_eq!(stopped(true, |rule, key| rule.shadow_mode = key == "a")[0].1, 13);
}

#[test]
fn stop_mode_leaves_all_or_nothing_limits_unchanged() {
    let all = |rule: &mut RuleSpec, _: &str| rule.limits[0].all_or_nothing = true;
    let used: Vec<_> = stopped(true, all).iter().map(|it| it.1).collect();
    assert_eq!(used, [13, 13]);
}
