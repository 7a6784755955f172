use std::{sync::atomic::AtomicBool, sync::atomic::Ordering::SeqCst, thread};

use futures_util::FutureExt;

use super::*;
use crate::{
    descriptor::Entry,
    limit::{Hits, Limit, Unit, Window},
    rules::spec::{DescriptorSpec, DomainSpec, LimitSpec, RuleSpec},
    store::{Outcomes, memory::Memory},
    time::ManualClock,
};

fn limit(name: &str) -> LimitSpec {
    let limit = Limit::fixed(1, Window::of(Unit::Second));
    LimitSpec { limit, name: name.into(), all_or_nothing: false, on_error: None }
}

/// Rules for `a` and for `b`, which both go by `name`.
fn rules(name: &str) -> Arc<RuleTree> {
    let descriptor = |key: &str| DescriptorSpec {
        key: key.into(),
        rule: Some(RuleSpec { limits: vec![limit(name)], ..RuleSpec::default() }),
        ..DescriptorSpec::default()
    };
    let descriptors = ["a", "b"].map(descriptor).into();
    Arc::new(RuleTree::compile(vec![DomainSpec { domain: "shop".into(), descriptors }]))
}

/// Asks about `a`, `b`, `a`, `b` and so on.
fn request() -> Request {
    let descriptor = |key: &'static str| Descriptor {
        entries: vec![Entry { key: key.into(), value: "x".into() }],
        hits: Hits::Add(1),
        limit: None,
    };
    let descriptors = ["a", "b"].map(descriptor).into_iter().cycle().take(100).collect();
    Request { domain: "shop".into(), descriptors, hits_addend: 0 }
}

fn engine<S: Store>(rules: &SharedRules, store: S) -> Engine<S> {
    Engine {
        rules: Arc::clone(rules),
        store,
        clock: Arc::new(ManualClock::at(Timestamp::default())),
        keys: KeyFormat::default(),
        mode: Mode::default(),
        fallback: Fallback::new(fallback::FallbackSettings::default()),
    }
}

/// The name of the rules that decided, which is the same for all descriptors.
#[track_caller]
fn decided_by<S: Store>(engine: &Engine<S>) -> Arc<str> {
    let decision = engine.decide(&request(), None).now_or_never().expect("it waits for nothing");
    let verdicts = decision.expect("it is in memory").verdicts;
    let names = verdicts.iter().map(|it| &it.governed.rule().expect("a rule").spec.limits[0].name);
    let mut names: Vec<_> = names.cloned().collect();
    names.dedup();
    assert_eq!(names.len(), 1, "{names:?}");
    names.remove(0)
}

/// A store during whose work rules are replaced.
struct Meanwhile(SharedRules, Memory);

impl Store for Meanwhile {
    async fn charge(&self, charges: &[Charge], now: Timestamp) -> Result<Outcomes, StoreError> {
        self.0.store(rules("new"));
        self.1.charge(charges, now).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[test]
fn rules_that_come_while_the_store_works_are_for_the_next_request() {
    let shared: SharedRules = Arc::new(ArcSwap::new(rules("old")));
    let engine = engine(&shared, Meanwhile(Arc::clone(&shared), Memory::new(1)));
    assert_eq!(&*decided_by(&engine), "old");
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
