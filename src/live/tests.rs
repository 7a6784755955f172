use std::time::Duration;

use futures_util::FutureExt;

use super::*;
use crate::{
    config::{self, CompileOptions, SourceFile},
    counter::KeyFormat,
    descriptor::{Descriptor, Entry},
    engine::{
        Engine, SharedRules,
        decision::Mode,
        fallback::{Fallback, FallbackSettings},
    },
    store::memory::Memory,
    time::{Clock, ManualClock},
};

const RULES: &str = "
domain: shop
descriptors:
- {key: user, rate_limit: {name: users, unit: hour, requests_per_unit: 3}}
- {key: trial, shadow_mode: true, rate_limit: {unit: hour, requests_per_unit: 1}}
- {key: quota, quota_mode: true, rate_limit: {unit: hour, requests_per_unit: 2}}
- {key: free, rate_limit: {unlimited: true}}
";

/// A service without a network, with counters in memory.
struct Shop {
    engine: Engine<Memory>,
    clock: Arc<ManualClock>,
    live: Live,
}

impl Shop {
    fn open(mode: Mode) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(3_600)));
        let engine = Engine {
            rules: SharedRules::default(),
            store: Memory::new(100_000),
            clock: Arc::clone(&clock) as _,
            keys: KeyFormat::default(),
            mode,
            fallback: Fallback::new(FallbackSettings::default()),
        };
        let shop = Self { engine, live: Live::new(clock.now()), clock };
        shop.load(RULES);
        shop
    }

    fn load(&self, rules: &str) {
        let file = SourceFile { name: "rules.yaml".into(), bytes: rules.as_bytes().to_vec() };
        let rules = config::compile(&[file], CompileOptions::default()).unwrap().rules;
        let rules = Arc::new(rules);
        self.live.install(Arc::clone(&rules), self.clock.now());
        self.engine.rules.store(rules);
    }

    fn ask(&self, entries: &[(&str, &str)], hits: Hits) {
        let mut descriptors = Vec::new();
        for (key, value) in entries {
            let (key, value) = (key.as_bytes().to_vec(), value.as_bytes().to_vec());
            descriptors.push(Descriptor {
                entries: vec![Entry { key: key.into(), value: value.into() }],
                hits,
                has_own_hits: false,
                limit: None,
            });
        }
        let request = Request { domain: "shop".into(), descriptors, hits_addend: 0 };
        let decision = self.engine.decide(&request, None).now_or_never().unwrap().unwrap();
        self.live.observe_sampled(&request, &decision, true);
    }

    fn hit(&self, entries: &[(&str, &str)]) {
        self.ask(entries, Hits::Add(1));
    }

    fn top(&self, measure: Measure) -> Vec<(String, u64)> {
        let mut rows = Vec::new();
        for TopName { name, count, .. } in self.live.top(measure, 60, 9).rows {
            let Entry { key, value } = &name.entries[0];
            let [key, value] = [key, value].map(|text| String::from_utf8_lossy(text));
            rows.push((format!("{key}={value}"), count));
        }
        rows.sort();
        rows
    }

    fn refusals(&self) -> RecentRefusals {
        self.live.refusals(None, usize::MAX, |_| true)
    }
}

fn results(passed: u64, refused: u64, would_refuse: u64) -> HitResults {
    HitResults { passed, refused, would_refuse, by_policy: 0 }
}

#[test]
fn hits_are_counted_by_their_result() {
    let shop = Shop::open(Mode::default());
    for _ in 0..5 {
        shop.hit(&[("user", "ann"), ("free", "x"), ("unknown", "x")]);
    }
    for _ in 0..3 {
        shop.hit(&[("trial", "t")]);
    }
    shop.ask(&[("user", "bob")], Hits::Add(0));
    shop.ask(&[("user", "bob")], Hits::Refund(1));
    assert_eq!(shop.top(Measure::Refused), [("user=ann".into(), 2)]);
    assert_eq!(shop.top(Measure::WouldRefuse), [("trial=t".into(), 2)]);
    let weight = u64::from(SAMPLED);
    let hits = [("trial=t".into(), 3 * weight), ("user=ann".into(), 5 * weight)];
    assert_eq!(shop.top(Measure::Hits), hits);
    assert_eq!(shop.live.rule_total(0), results(3, 2, 0));
    assert_eq!(shop.live.rule_total(1), results(3, 0, 2));
    assert_eq!(shop.live.rule_total(9), HitResults::default());
}

#[test]
fn only_the_descriptors_that_refuse_a_request_are_refused() {
    let shop = Shop::open(Mode::default());
    for _ in 0..4 {
        shop.hit(&[("quota", "q")]);
    }
    // The other quota has room, so nothing refuses.
    shop.hit(&[("quota", "q"), ("quota", "r")]);
    assert_eq!(shop.live.rule_total(2), results(4, 2, 0));
    for _ in 0..4 {
        shop.hit(&[("user", "ann"), ("user", "bob"), ("user", "cat")]);
        shop.hit(&[("user", "bob")]);
    }
    // Bob is over his limit first, and then refuses for ann and cat.
    let refused = shop.top(Measure::Refused);
    assert!(refused.iter().any(|(name, hits)| name == "user=bob" && *hits > 4), "{refused:?}");
}

#[test]
fn in_global_shadow_mode_hits_would_be_refused() {
    let shop = Shop::open(Mode { shadow: true, ..Mode::default() });
    for _ in 0..5 {
        shop.hit(&[("user", "ann")]);
    }
    assert_eq!(shop.live.rule_total(0), results(5, 0, 2));
    assert!(shop.refusals().list.is_empty());
}

#[test]
fn a_refusal_says_who_was_refused_by_what_and_until_when() {
    let shop = Shop::open(Mode::default());
    shop.clock.advance(Duration::from_secs(600));
    for _ in 0..4 {
        shop.hit(&[("user", "ann")]);
    }
    let refusals = shop.refusals();
    let [RecentRefusal { number: 0, at, name, cause }] = &refusals.list[..] else {
        panic!("{refusals:?}")
    };
    assert_eq!((at.as_secs(), &name.domain[..]), (4_200, &b"shop"[..]));
    assert_eq!(name.entries, [Entry { key: "user".into(), value: "ann".into() }]);
    let Cause { rule, limit, limit_name, hits, remaining, wait, policy } = cause;
    assert_eq!(rule.as_ref().unwrap().name(), "shop.user");
    assert_eq!((limit.requests, &**limit_name, *hits, *remaining), (3, "users", 1, 0));
    assert_eq!((*wait, *policy), (Some(Duration::from_secs(3_000)), None));
}

#[test]
fn rules_that_are_replaced_leave_their_history_to_those_of_the_same_name() {
    let shop = Shop::open(Mode::default());
    let hash = shop.live.rules().rules.digest().to_owned();
    shop.hit(&[("user", "ann")]);
    shop.hit(&[("trial", "ann")]);
    shop.clock.advance(Duration::from_secs(1));
    shop.load(
        "domain: shop\ndescriptors: [{key: user, rate_limit: {unit: day, requests_per_unit: 9}}]",
    );
    let now = shop.clock.now();
    let rules = shop.live.rules();
    assert_eq!(rules.loaded_at, now);
    assert_ne!(rules.rules.digest(), hash);
    assert_eq!(shop.live.rule_total(0), HitResults::default());
    assert_eq!(shop.live.rule_last_minute(0, now), Some(results(1, 0, 0)));
    shop.hit(&[("user", "ann")]);
    shop.live.tick(now);
    assert_eq!(shop.live.rule_last_minute(0, now), Some(results(2, 0, 0)));
    let all: u64 = shop.live.history(Step::Coarse, now).iter().map(|it| it.hits.passed).sum();
    assert_eq!(all, 3);
}

/// A full sketch and ring have all their memory from the start, so counting allocates nothing.
#[test]
fn clients_cannot_make_the_live_data_grow() {
    let shop = Shop::open(Mode::default());
    let user = |number: u32| format!("{number}{}", "x".repeat(300));
    for number in 0..3_000 {
        shop.hit(&[("user", &user(number))]);
    }
    let names = shop.live.top(Measure::Hits, 60, usize::MAX);
    assert_eq!(names.rows.len(), 1_024);
    assert!(names.rows.iter().all(|row| row.name.is_cut && row.name.entries.len() == 1));
    assert_eq!(names.total, 3_000 * u64::from(SAMPLED));
}
