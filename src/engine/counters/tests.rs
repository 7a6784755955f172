use arc_swap::ArcSwap;
use futures_util::FutureExt;

use super::*;
use crate::{
    config::{self, CompileOptions, SourceFile},
    counter::KeyFormat,
    descriptor::Entry,
    engine::{
        decision::Mode,
        fallback::{Fallback, FallbackSettings},
    },
    limit::{Hits, Unit, Window},
    rules::spec::OnError,
    store::{Charge, Results, memory::Memory},
    time::ManualClock,
};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: {unit: hour, requests_per_unit: 2, penalty: 10m, name: per_user}
- key: two
  rate_limits:
  - {unit: second, requests_per_unit: 5, name: burst}
  - {unit: hour, requests_per_unit: 100}
- key: dark
  shadow_mode: true
  rate_limit: {unit: hour, requests_per_unit: 2}
- key: free
  rate_limit: {unlimited: true}
- key: vip
  rate_limit: {unit: hour, requests_per_unit: 50, replaces: [{name: per_user}]}
";

const NOON: Timestamp = Timestamp::from_secs(43_200);

fn engine<S: Store>(store: S, fallback: FallbackSettings) -> Engine<S> {
    let file = SourceFile { name: "rules.yaml".into(), bytes: RULES.into() };
    let rules = config::compile(&[file], CompileOptions::default()).expect("the rules are right");
    Engine {
        rules: Arc::new(ArcSwap::from_pointee(rules.rules)),
        store,
        clock: Arc::new(ManualClock::new(NOON)),
        keys: KeyFormat::default(),
        mode: Mode::default(),
        fallback: Fallback::new(fallback),
    }
}

fn in_memory() -> Engine<Memory> {
    engine(Memory::new(100), FallbackSettings::default())
}

fn request(keys: &[&'static str]) -> Request {
    let descriptor = |key: &&'static str| Descriptor {
        entries: vec![Entry { key: (*key).into(), value: "ann".into() }],
        hits: Hits::Add(1),
        has_own_hits: false,
        limit: None,
    };
    let descriptors = keys.iter().map(descriptor).collect();
    Request { domain: "shop".into(), descriptors, hits_addend: 0 }
}

fn at_once<T>(operation: impl Future<Output = T>) -> T {
    operation.now_or_never().expect("it waits for nothing")
}

fn look<S: Store + Counters>(engine: &Engine<S>, keys: &[&'static str]) -> CounterReport {
    at_once(engine.look(&request(keys), None)).expect("rules are loaded")
}

fn change(
    engine: &Engine<Memory>,
    keys: &[&'static str],
    target: Target<'_>,
    change: CounterChange,
) -> Result<CounterReport, CountersError> {
    at_once(engine.change(&request(keys), target, change, None))
}

/// True if the request is refused.
fn hit<S: Store>(engine: &Engine<S>, keys: &[&'static str]) -> bool {
    at_once(engine.decide(&request(keys), None)).expect("it is decided").over_limit
}

fn used(report: &CounterReport) -> Vec<u64> {
    report.counters().map(|status| status.found.as_ref().expect("memory works").used).collect()
}

fn effects(report: &CounterReport) -> Vec<LimitEffect> {
    report.counters().map(|status| status.effect).collect()
}

#[test]
fn a_look_changes_nothing_and_a_reset_takes_effect_on_the_next_decision() {
    let engine = in_memory();
    for _ in 0..2 {
        assert!(!hit(&engine, &["user"]));
    }
    assert!(hit(&engine, &["user"]));
    for _ in 0..3 {
        let report = look(&engine, &["user"]);
        let status = report.counters().next().expect("a limit applies");
        let found = status.found.as_ref().expect("memory works");
        assert_eq!((found.used, found.remaining, found.banned.as_secs()), (3, 0, 600));
        assert_eq!(status.counter.key.as_bytes(), b"shop|user=ann|penalty:fixed_window:3600s");
        assert!(status.changed.is_none() && report.is_matched());
    }
    let report = change(&engine, &["user"], Target::All, CounterChange::Reset).unwrap();
    assert_eq!(used(&report), [3], "the report has what was there");
    assert!(report.counters().all(|status| matches!(status.changed, Some(Ok(())))));
    assert!(!hit(&engine, &["user"]));
}

#[test]
fn all_limits_of_a_rule_are_reset_and_one_of_them_is_set() {
    let engine = in_memory();
    for _ in 0..4 {
        hit(&engine, &["two"]);
    }
    assert_eq!(used(&look(&engine, &["two"])), [4, 4]);
    let set = CounterChange::Set(1);
    let error = change(&engine, &["two"], Target::All, set).unwrap_err();
    let names = "2 limits apply; name the one to set: `burst` or `shop|two=ann|3600s@43200`";
    assert_eq!(error.to_string(), names);
    change(&engine, &["two"], Target::Named(b"burst"), set).unwrap();
    assert_eq!(used(&look(&engine, &["two"])), [1, 4]);
    change(&engine, &["two"], Target::Named(b"shop|two=ann|3600s@43200"), set).unwrap();
    assert_eq!(used(&look(&engine, &["two"])), [1, 1]);
    let error = change(&engine, &["two"], Target::Named(b"x"), CounterChange::Reset).unwrap_err();
    assert!(matches!(error, CountersError::UnknownLimit(_)), "{error}");
    assert_eq!(used(&look(&engine, &["two"])), [1, 1]);
    change(&engine, &["two"], Target::All, CounterChange::Reset).unwrap();
    assert_eq!(used(&look(&engine, &["two"])), [0, 0]);
}

#[test]
fn descriptors_that_share_a_counter_are_set_as_one() {
    let engine = in_memory();
    let keys = &["user", "dark", "user"];
    let error = change(&engine, keys, Target::All, CounterChange::Set(1)).unwrap_err();
    assert!(error.to_string().starts_with("2 limits apply"), "{error}");
    change(&engine, keys, Target::Named(b"per_user"), CounterChange::Set(1)).unwrap();
    assert_eq!(used(&look(&engine, keys)), [1, 0, 1]);
}

#[test]
fn a_shadow_limit_is_reported_as_such() {
    let engine = in_memory();
    for _ in 0..9 {
        assert!(!hit(&engine, &["dark"]));
    }
    let report = look(&engine, &["dark"]);
    assert_eq!((used(&report), effects(&report)), (vec![9], vec![LimitEffect::Shadow]));
}

#[test]
fn a_replaced_limit_is_shown_and_reset_only_by_name() {
    let engine = in_memory();
    hit(&engine, &["user"]);
    let keys = &["user", "vip"];
    let report = change(&engine, keys, Target::All, CounterChange::Reset).unwrap();
    assert_eq!(effects(&report), [LimitEffect::Replaced, LimitEffect::Enforced]);
    assert!(matches!(report.descriptors[0].matched, Match::Replaced(_)));
    assert!(!report.is_matched());
    assert_eq!(used(&look(&engine, keys)), [1, 0]);
    change(&engine, keys, Target::Named(b"per_user"), CounterChange::Reset).unwrap();
    assert_eq!(used(&look(&engine, keys)), [0, 0]);
}

#[test]
fn unlimited_and_unmatched_descriptors_have_no_counter() {
    let engine = in_memory();
    let report = change(&engine, &["free", "nothing"], Target::All, CounterChange::Reset).unwrap();
    assert!(matches!(report.descriptors[0].matched, Match::Unlimited(_)));
    assert!(matches!(report.descriptors[1].matched, Match::None));
    assert_eq!(report.counters().count(), 0);
    let error = change(&engine, &["free"], Target::Named(b"x"), CounterChange::Set(1)).unwrap_err();
    let text = "no limit of these descriptors has this name; expected none, as no limit applies";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_limit_of_the_request_has_its_own_counter() {
    let engine = in_memory();
    let mut request = request(&["user"]);
    request.descriptors[0].limit = Some(Limit::fixed(9, Window::new(Unit::Hour)));
    at_once(engine.decide(&request, None)).expect("it is decided");
    let report = at_once(engine.look(&request, None)).expect("rules are loaded");
    assert_eq!((used(&report), effects(&report)), (vec![1], vec![LimitEffect::Enforced]));
    assert_eq!(used(&look(&engine, &["user"])), [0]);
}

#[test]
fn nothing_is_looked_at_before_rules_are_loaded() {
    let engine = in_memory();
    engine.rules.store(Arc::default());
    let error = at_once(engine.look(&request(&["user"]), None)).unwrap_err();
    assert_eq!(error, CountersError::NoRules);
}

/// A store that is away for charges, and whose counters are there for operators if the flag is
/// set.
struct Away(bool, Memory);

impl Store for Away {
    async fn charge(&self, charges: &[Charge], _: Timestamp, _: Deadline) -> Results {
        charges.iter().map(|_| Err(StoreError::Failed("it is away".into()))).collect()
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Counters for Away {
    async fn peek(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        now: Timestamp,
    ) -> Result<Outcome, StoreError> {
        if !self.0 {
            return Err(StoreError::Failed("it is away".into()));
        }
        self.1.peek(counter, limit, now).await
    }

    async fn change(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        change: CounterChange,
        time: CallTime,
    ) -> Result<(), ChangeError> {
        assert!(self.0, "a counter that could not be looked at is not changed");
        self.1.change(counter, limit, change, time).await
    }
}

fn with_policy(is_back: bool, on_error: OnError) -> Engine<Away> {
    let settings = FallbackSettings { on_error: Some(on_error), ..FallbackSettings::default() };
    engine(Away(is_back, Memory::new(100)), settings)
}

#[test]
fn no_policy_answers_a_look_or_a_reset_while_the_store_is_away() {
    for policy in OnError::ALL {
        let engine = with_policy(false, policy);
        hit(&engine, &["user"]);
        let report = look(&engine, &["user"]);
        assert!(report.counters().all(|status| status.found.is_err()), "{policy:?}");
        let request = request(&["user"]);
        let change = engine.change(&request, Target::All, CounterChange::Reset, None);
        let report = at_once(change).expect("rules are loaded");
        let status = report.counters().next().expect("a limit applies");
        let error = status.changed.as_ref().expect("it was to be changed").as_ref().unwrap_err();
        let text = "the counter store failed: it is away; nothing was changed";
        assert_eq!(error.to_string(), text, "{policy:?}");
    }
}

#[test]
fn a_reset_also_forgets_what_this_process_counted_while_the_store_was_away() {
    let engine = with_policy(true, OnError::Local);
    for refused in [false, false, true] {
        assert_eq!(hit(&engine, &["user"]), refused);
    }
    let request = request(&["user"]);
    let change = engine.change(&request, Target::All, CounterChange::Reset, None);
    at_once(change).expect("rules are loaded");
    assert!(!hit(&engine, &["user"]));
}
