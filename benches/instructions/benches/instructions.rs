//! The instructions of the parts of a decision, counted by Callgrind. Times on shared machines
//! vary by more than most changes; these counts do not, so that CI can hold them.
//!
//! `make count` runs it. It fails if a count is more than [`TOLERANCE`] above its figure here.
//! The figures are those of the compiler in `.github/workflows/ci.yml`. Another compiler, or
//! crates that are newer, may change them without a change here: then, and after a change that
//! makes a part cheaper or is worth its cost, replace the figure by the count that is printed.
//!
//! Each count is of [`CALLS`] calls, after one that is not counted.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    missing_docs,
    reason = "it is a benchmark, and its macros make undocumented items"
)]

use std::{hint::black_box, mem, sync::Arc};

use arc_swap::ArcSwap;
use axum::http::HeaderMap;
use bytes::Bytes;
use futures_util::FutureExt;
use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use prost::Message;
use tollgate::{
    answer::{AnswerSettings, fields::LimitFields},
    config::{self, CompileOptions, SourceFile},
    counter::KeyFormat,
    descriptor::{Descriptor, Entry, Request},
    engine::{
        Engine,
        decision::{Decision, Mode},
        fallback::{Fallback, FallbackSettings},
    },
    grpc::{
        ordinary,
        pb::envoy::{
            extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor},
            service::ratelimit::v3::RateLimitRequest,
        },
        reply,
    },
    limit::{
        Algorithm, Hits, Limit, Unit, Window,
        step::{self, State},
    },
    metrics::Metrics,
    rules::RuleTree,
    service::{InProgress, Service},
    store::memory::Memory,
    time::{ManualClock, Timestamp},
    warnings::WarningLimiter,
};

/// The calls that are counted together.
const CALLS: u64 = 100;

/// The share by which a count may exceed its figure, in per cent: processors have different
/// instructions to copy memory.
const TOLERANCE: u64 = 1;

/// A benchmark that fails above so many instructions of each call.
fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    let limit = instructions * CALLS * (100 + TOLERANCE) / 100;
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::default().hard_limits([(EventKind::Ir, limit)]));
    config
}

/// Calls `call` once, so that what is made only once exists, and returns it.
fn warm<T>(mut call: impl FnMut() -> T) -> impl FnMut() -> T {
    black_box(call());
    call
}

/// The part that is counted: the calls, without the end of what they use.
fn repeat(mut calls: Calls) {
    for _ in 0..CALLS {
        calls();
    }
    mem::forget(calls);
}

const NOW: Timestamp = Timestamp::from_secs(1_767_225_601);

/// 1,000 rules for values, one for all others, and one that refuses.
fn rules() -> RuleTree {
    let limit = "rate_limit: {unit: hour, requests_per_unit: 1000000, name: per_user}";
    let mut text = "domain: shop\ndescriptors:\n- key: tenant\n  descriptors:\n".to_owned();
    for value in 0..1_000 {
        text += &format!("  - {{key: user, value: u{value}, {limit}}}\n");
    }
    text += &format!("  - {{key: user, {limit}}}\n");
    text += "- {key: login, rate_limit: {unit: minute, requests_per_unit: 0, name: login}}\n";
    let file = SourceFile { name: "rules.yaml".into(), bytes: text.into_bytes() };
    config::compile(&[file], CompileOptions::default()).unwrap().rules
}

fn service() -> Service<Memory> {
    let rules = rules();
    let metrics = Arc::new(Metrics::new(0.8));
    metrics.install_rules(&rules);
    Service {
        engine: Engine {
            rules: Arc::new(ArcSwap::from_pointee(rules)),
            store: Memory::new(1_000),
            clock: Arc::new(ManualClock::new(NOW)),
            keys: KeyFormat::default(),
            mode: Mode::default(),
            fallback: Fallback::new(FallbackSettings::default()),
        },
        metrics,
        max_descriptors: 100,
        invalid: WarningLimiter::new("", ""),
        answers: AnswerSettings::default(),
        live: None,
        decision_log: None,
        spans: None,
        in_progress: InProgress::default(),
    }
}

fn entry(key: &'static str, value: &'static str) -> Entry {
    Entry { key: key.into(), value: value.into() }
}

fn request(entries: Vec<Entry>) -> Request {
    let descriptor = Descriptor { entries, hits: Hits::Add(1), has_own_hits: false, limit: None };
    Request { domain: "shop".into(), descriptors: vec![descriptor], hits_addend: 0 }
}

fn passing() -> Request {
    request(vec![entry("tenant", "acme"), entry("user", "user-12345")])
}

fn refused() -> Request {
    request(vec![entry("login", "user-12345")])
}

fn decide(service: &Service<Memory>, request: &Request) -> Decision {
    service.decide(request, None).now_or_never().unwrap().unwrap()
}

type Calls = Box<dyn FnMut()>;

fn finds_a_rule() -> Calls {
    let (rules, request) = (rules(), passing());
    Box::new(warm(move || {
        let found = rules.domain(&request.domain).unwrap().find(&request.descriptors[0].entries);
        assert!(black_box(found).is_some());
    }))
}

fn steps(algorithm: Algorithm) -> Calls {
    let limit = Limit { algorithm, ..Limit::fixed(1_000_000, Window::new(Unit::Hour)) };
    let span = limit.window.span(NOW, 0);
    let mut state: Option<State> = None;
    Box::new(warm(move || {
        state = step::step(&limit, span, state.take(), Hits::Add(1), NOW).state;
    }))
}

fn fixed_window() -> Calls {
    steps(Algorithm::FixedWindow { count_denied: true })
}

fn sliding_window() -> Calls {
    steps(Algorithm::SlidingWindow)
}

fn token_bucket() -> Calls {
    steps(Algorithm::TokenBucket { burst: 1_000_000 })
}

fn decides(request: Request) -> Calls {
    let service = service();
    Box::new(warm(move || drop(black_box(decide(&service, &request)))))
}

fn decides_to_pass() -> Calls {
    decides(passing())
}

fn decides_to_refuse() -> Calls {
    decides(refused())
}

fn reads_a_call() -> Calls {
    let entry = |key: &'static str, value: &'static str| rate_limit_descriptor::Entry {
        key: key.into(),
        value: value.into(),
    };
    let entries = vec![entry("tenant", "acme"), entry("user", "user-12345")];
    let descriptors = vec![RateLimitDescriptor { entries, ..Default::default() }];
    let message = RateLimitRequest { domain: "shop".into(), descriptors, hits_addend: 0 };
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let body = Bytes::from([&[0], &length[..], &message].concat());
    let headers = HeaderMap::new();
    Box::new(warm(move || assert!(black_box(ordinary::read(&headers, &body)).is_some())))
}

fn writes(request: Request) -> Calls {
    let service = service();
    let decision = decide(&service, &request);
    Box::new(warm(move || drop(black_box(reply::write(&request, &decision, &service.answers)))))
}

fn writes_that_it_passes() -> Calls {
    writes(passing())
}

fn writes_that_it_is_refused() -> Calls {
    writes(refused())
}

fn writes_fields() -> Calls {
    let service = service();
    let decision = decide(&service, &passing());
    Box::new(warm(move || drop(black_box(LimitFields::new(&decision)))))
}

#[library_benchmark]
#[bench::finds_a_rule(setup = finds_a_rule, config = at_most(448))]
#[bench::fixed_window(setup = fixed_window, config = at_most(121))]
#[bench::sliding_window(setup = sliding_window, config = at_most(203))]
#[bench::token_bucket(setup = token_bucket, config = at_most(423))]
#[bench::decides_to_pass(setup = decides_to_pass, config = at_most(6_223))]
#[bench::decides_to_refuse(setup = decides_to_refuse, config = at_most(5_884))]
#[bench::reads_a_call(setup = reads_a_call, config = at_most(1_741))]
#[bench::writes_that_it_passes(setup = writes_that_it_passes, config = at_most(990))]
#[bench::writes_that_it_is_refused(setup = writes_that_it_is_refused, config = at_most(6_927))]
#[bench::writes_fields(setup = writes_fields, config = at_most(1_557))]
fn count(calls: Calls) {
    repeat(calls);
}

library_benchmark_group!(name = parts, benchmarks = count);
main!(library_benchmark_groups = parts);
