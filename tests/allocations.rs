//! What a decision allocates: it happens for every request of every proxy.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "this is all tests"
)]

use std::sync::Arc;

use allocation_counter::measure;
use arc_swap::ArcSwap;
use axum::http::HeaderMap;
use bytes::Bytes;
use futures_util::FutureExt;
use prost::Message;
use tollgate::{
    answer::{AnswerSettings, fields::LimitFields},
    config::{self, CompileOptions, SourceFile},
    counter::{KeyFormat, KeyPart},
    descriptor::{Descriptor, Entry, Request},
    engine::{
        Engine,
        decision::{Decision, Mode},
        fallback::{Fallback, FallbackSettings},
    },
    grpc::{
        self, ordinary,
        pb::envoy::{
            extensions::common::ratelimit::v3::{
                RateLimitDescriptor, rate_limit_descriptor::Entry as WireEntry,
            },
            service::ratelimit::v3::RateLimitRequest,
        },
        reply,
    },
    limit::{Algorithm, Hits, Limit, Unit, Window},
    live::{Live, Measure},
    metrics::Metrics,
    rules::RuleTree,
    service::{InProgress, Service},
    spans::{GrpcMethod, OtlpProtocol, Tracing, TracingSettings},
    store::{
        Charge, Consume, Enforced, OnTimeout, Store,
        memory::{Bounds, Memory},
    },
    time::{ManualClock, Timestamp},
    warnings::WarningLimiter,
};

/// `key: user`, `key: plan` with the value `paid` and `key: tenant` with a user
/// below, after 10,000 other rules and before `more`.
fn rules(more: &str) -> RuleTree {
    let limit = "rate_limit: { unit: hour, requests_per_unit: 1000 }";
    let others = (0..10_000).map(|it| format!("- {{ key: user, value: u{it}, {limit} }}\n"));
    let others: String = others.collect();
    let text = format!(
        "domain: shop\ndescriptors:\n{others}\
         - {{ key: user, {limit} }}\n\
         - {{ key: plan, value: paid, {limit} }}\n\
         - {{ key: tenant, descriptors: [{{ key: user, {limit} }}] }}\n{more}"
    );
    let file = SourceFile { name: "rules.yaml".into(), bytes: text.into_bytes() };
    config::compile(&[file], CompileOptions::default()).unwrap().rules
}

fn entries(pairs: &[(&str, &str)]) -> Vec<Entry> {
    let entry = |(key, value): &(&str, &str)| Entry {
        key: key.as_bytes().to_vec().into(),
        value: value.as_bytes().to_vec().into(),
    };
    pairs.iter().map(entry).collect()
}

/// How often it allocates to find the rule for these entries; there is one.
#[track_caller]
fn finding(rules: &RuleTree, pairs: &[(&str, &str)]) -> u64 {
    let entries = entries(pairs);
    let mut found = false;
    let allocated = measure(|| {
        found = rules.domain(b"shop").and_then(|it| it.find(&entries)).is_some();
    });
    assert!(found, "{pairs:?}");
    allocated.count_total
}

#[test]
fn a_rule_is_found_without_an_allocation() {
    let rules = rules("");
    let (long, huge) = ("x".repeat(120), "x".repeat(1 << 20));
    for pairs in [
        &[("user", "u0")][..],
        &[("user", "u9999")],
        &[("user", "ann")],
        &[("user", &long)],
        &[("user", &huge)],
        &[("plan", "paid")],
        &[("tenant", &huge), ("user", &huge)],
    ] {
        assert_eq!(finding(&rules, pairs), 0, "{pairs:.60?}");
    }
}

#[test]
fn what_a_long_rule_or_a_pattern_is_compared_with_may_be_allocated() {
    let value = "y".repeat(150);
    let limit = "rate_limit: { unit: hour, requests_per_unit: 1000 }";
    let long = rules(&format!("- {{ key: long, value: {value}, {limit} }}\n"));
    let pattern = rules(&format!("- {{ key: file, value: '*.png', {limit} }}\n"));
    for rules in [&long, &pattern] {
        assert_eq!(finding(rules, &[("user", "u0")]), 0);
        assert_eq!(finding(rules, &[("user", &"x".repeat(123))]), 0);
        assert_eq!(finding(rules, &[("user", &value)]), 1);
    }
    assert_eq!(finding(&long, &[("long", &value)]), 1);
    assert_eq!(finding(&long, &[("user", &"x".repeat(1 << 20))]), 0);
}

fn engine() -> Engine<Memory> {
    Engine {
        rules: Arc::new(ArcSwap::from_pointee(rules(""))),
        store: Memory::new(1_000),
        clock: Arc::new(ManualClock::new(Timestamp::from_secs(0))),
        keys: KeyFormat::default(),
        mode: Mode::default(),
        fallback: Fallback::new(FallbackSettings::default()),
    }
}

#[test]
fn a_decision_allocates_at_most_three_times() {
    let engine = engine();
    let descriptor = Descriptor {
        entries: entries(&[("user", "ann")]),
        hits: Hits::Add(1),
        has_own_hits: false,
        limit: None,
    };
    let request = Request { domain: "shop".into(), descriptors: vec![descriptor], hits_addend: 0 };
    let decide = || {
        let mut remaining = None;
        let allocated = measure(|| {
            let decision = engine.decide(&request, None).now_or_never().unwrap().unwrap();
            remaining = decision.binding().map(|(_, it)| it.outcome.remaining);
        });
        (remaining, allocated.count_total)
    };
    // The first also makes a counter, and the table that it is in.
    let (remaining, allocated) = decide();
    assert_eq!(remaining, Some(999));
    assert!(allocated <= 8, "{allocated}");
    // What governs, the name of the counter, the verdicts.
    let (remaining, allocated) = decide();
    assert_eq!(remaining, Some(998));
    assert!(allocated <= 3, "{allocated}");
}

fn message() -> RateLimitRequest {
    let entry = WireEntry { key: "user".into(), value: "ann".into() };
    let descriptor = RateLimitDescriptor { entries: vec![entry], ..Default::default() };
    RateLimitRequest { domain: "shop".into(), descriptors: vec![descriptor], hits_addend: 0 }
}

#[test]
fn an_ordinary_call_allocates_only_its_request_its_decision_and_its_reply() {
    let engine = engine();
    let message = message().encode_to_vec();
    let body = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], &message[..]].concat();
    let headers = HeaderMap::new();
    let mut allocated = 0;
    for _ in 0..2 {
        let body = Bytes::from(body.clone());
        let info = measure(|| {
            let request = ordinary::read(&headers, &body).unwrap();
            let decision = engine.decide(&request, None).now_or_never().unwrap().unwrap();
            reply::write(&request, &decision, &AnswerSettings::default());
        });
        allocated = info.count_total;
    }
    // The shared buffer, the descriptors and the entries; three for the decision; the reply, which
    // is shared, too.
    assert!(allocated <= 8, "{allocated}");
}

#[test]
fn the_fields_of_one_limit_allocate_only_their_texts() {
    let engine = engine();
    let entries = entries(&[("user", "ann")]);
    let descriptor = Descriptor { entries, hits: Hits::Add(1), has_own_hits: false, limit: None };
    let request = Request { domain: "shop".into(), descriptors: vec![descriptor], hits_addend: 0 };
    let decision = engine.decide(&request, None).now_or_never().unwrap().unwrap();
    let info = measure(|| drop(LimitFields::new(&decision)));
    assert!(info.count_total <= 3, "{}", info.count_total);
}

/// A request of this user, and its decision. The limit is 1,000 hits.
fn decided(engine: &Engine<Memory>, user: &str, hits: u64) -> (Request, Decision) {
    let descriptor = Descriptor {
        entries: entries(&[("user", user)]),
        hits: Hits::Add(hits),
        has_own_hits: true,
        limit: None,
    };
    let request = Request { domain: "shop".into(), descriptors: vec![descriptor], hits_addend: 0 };
    let decision = engine.decide(&request, None).now_or_never().unwrap().unwrap();
    (request, decision)
}

#[test]
fn counting_for_the_admin_api_allocates_nothing() {
    let engine = engine();
    let live = Live::new(Timestamp::from_secs(0));
    live.install(engine.rules.load_full(), Timestamp::from_secs(0));
    let mut decisions = Vec::new();
    for user in 0..3_000 {
        for hits in [1, 2_000] {
            decisions.push(decided(&engine, &format!("u{user}-{}", "x".repeat(user % 200)), hits));
        }
    }
    let allocated = measure(|| {
        for (request, decision) in &decisions {
            live.observe(request, decision);
        }
    });
    assert_eq!(allocated.count_total, 0);
    let refused = live.top(Measure::Refused, 0, usize::MAX);
    assert_eq!((refused.rows.len(), refused.total), (1_024, 3_000 * 2_000));
}

#[test]
fn the_live_data_take_at_most_12_mib_and_64_bytes_for_each_rule() {
    let strict = engine();
    let lenient = Engine { mode: Mode { shadow: true, ..Mode::default() }, ..engine() };
    let rules = strict.rules.load_full();
    let mut decisions = Vec::new();
    for engine in [&strict, &lenient] {
        for user in 0..1_200 {
            decisions.push(decided(engine, &format!("u{user}"), 2_000));
        }
    }
    let mut kept = None;
    let allocated = measure(|| {
        let live = Live::new(Timestamp::from_secs(0));
        live.install(Arc::clone(&rules), Timestamp::from_secs(0));
        for minute in 1..=62 {
            for (request, decision) in &decisions {
                live.observe(request, decision);
            }
            live.tick(Timestamp::from_secs(60 * minute));
        }
        kept = Some(live);
    });
    let live = kept.unwrap();
    assert!(live.top(Measure::WouldRefuse, 60, usize::MAX).total > 0);
    let most = (12 << 20) + 64 * i64::try_from(rules.rules().len()).unwrap();
    assert!(allocated.bytes_current <= most, "{} of {most}", allocated.bytes_current);
    // All of it is in use.
    assert!(allocated.bytes_current >= 9 << 20, "{}", allocated.bytes_current);
}

/// How often an answer allocates, other than the first.
fn answering(spans: Option<Tracing>) -> u64 {
    let metrics = Arc::new(Metrics::new(0.8));
    let service = Service {
        engine: engine(),
        metrics,
        live: None,
        max_descriptors: 100,
        invalid: WarningLimiter::new("", ""),
        answers: AnswerSettings::default(),
        decision_log: None,
        spans,
        in_progress: InProgress::default(),
    };
    let mut allocated = 0;
    for _ in 0..2 {
        let message = message();
        let info = measure(|| {
            grpc::answer(&service, message, None).now_or_never().unwrap().unwrap();
        });
        allocated = info.count_total;
    }
    allocated
}

#[tokio::test]
async fn a_call_that_is_not_recorded_allocates_nothing_for_it() {
    let settings = TracingSettings {
        service_name: "RateLimit".into(),
        namespace: None,
        instance: None,
        protocol: OtlpProtocol::Http,
        rate: 0.0,
    };
    let metrics = Arc::new(Metrics::new(0.8));
    let (spans, _exporter) = Tracing::new(&settings, &|_| None, metrics).unwrap();
    assert_eq!(answering(Some(spans.clone())), answering(None));
    let no = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    for (headers, expected) in [(&[][..], 0), (&[("b3", "0")], 0), (&[("traceparent", no)], 5)] {
        let header = |(name, value): &(&str, &str)| (name.parse().unwrap(), value.parse().unwrap());
        let headers = headers.iter().map(header).collect();
        // The generator of IDs is made once for each thread.
        let _ = spans.start_grpc_call(GrpcMethod::ShouldRateLimit, &headers);
        let mut recorded = true;
        let info = measure(|| {
            recorded = spans.start_grpc_call(GrpcMethod::ShouldRateLimit, &headers).is_some()
        });
        assert!(!recorded);
        assert!(info.count_total <= expected, "{} for {headers:?}", info.count_total);
    }
}

fn hit(name: u64, limit: &Limit) -> Charge {
    let value = format!("{name:020}");
    let part = KeyPart { key: b"user", value: value.as_bytes(), shared: false };
    let now = Timestamp::from_secs(1_200);
    Charge {
        counter: KeyFormat::default().counter(b"shop", [part].into_iter(), limit, now),
        limit: limit.clone(),
        hits: Hits::Add(1),
        consume: Consume::Independent,
        enforced: Enforced::Yes,
        refused: false,
        on_timeout: OnTimeout::Fail,
    }
}

/// The most bytes for each counter that are allocated while there are so many, and more,
/// up to twice as many: tables are resized meanwhile, so they are as empty and as full as
/// they ever are.
fn most_bytes(algorithm: Algorithm, counters: u64) -> u64 {
    let limit = Limit { algorithm, ..Limit::fixed(100, Window::new(Unit::Minute)) };
    let memory = Memory::with_bounds(Bounds { bytes: 1 << 40, keys: None });
    let (mut allocated, mut most) = (0, 0);
    let mut kept = 0;
    while kept < 2 * counters {
        let step = if kept < counters { counters } else { counters / 100 };
        let names = kept..kept + step;
        kept += step;
        allocated += measure(|| {
            for name in names {
                let charges = [hit(name, &limit)];
                let charged = memory.charge(&charges, Timestamp::from_secs(1_200), None);
                assert!(charged.now_or_never().is_some());
            }
        })
        .bytes_current;
        most = most.max(u64::try_from(allocated).unwrap().div_ceil(kept));
    }
    assert_eq!(memory.len() as u64, kept);
    most
}

#[test]
fn a_counter_takes_at_most_100_bytes_however_full_its_table_is() {
    for algorithm in [
        Algorithm::FixedWindow { count_denied: true },
        Algorithm::SlidingWindow,
        Algorithm::TokenBucket { burst: 100 },
    ] {
        let most = most_bytes(algorithm, 50_000);
        assert!(most <= 100, "{most} for {algorithm:?}");
    }
}

#[test]
#[ignore = "it takes a minute"]
fn millions_of_counters_take_at_most_100_bytes_each() {
    for counters in [500_000, 5_000_000] {
        let most = most_bytes(Algorithm::FixedWindow { count_denied: true }, counters);
        assert!(most <= 100, "{most} beyond {counters}");
    }
}
