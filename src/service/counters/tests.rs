use std::{
    io,
    sync::{Arc, Mutex},
};

use arc_swap::ArcSwap;
use futures_util::FutureExt;

use super::*;
use crate::{
    answer::AnswerSettings,
    config::{self, CompileOptions, SourceFile},
    counter::{CounterRef, KeyFormat},
    descriptor::{Descriptor, Entry},
    engine::{
        Engine,
        counters::Target,
        decision::Mode,
        fallback::{Fallback, FallbackSettings},
    },
    limit::{Hits, Limit, Outcome},
    metrics::Metrics,
    service::InProgress,
    store::{CallTime, ChangeError, Charge, Deadline, Results, StoreError, memory::Memory},
    time::{ManualClock, Timestamp},
    warnings::WarningLimiter,
};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: {unit: hour, requests_per_unit: 2}
";

/// Memory whose changes are made as `change` tells.
struct TestStore {
    memory: Memory,
    change: Answer,
}

#[derive(Clone, Copy)]
enum Answer {
    Done,
    Failed,
    Never,
}

impl Store for TestStore {
    async fn charge(&self, charges: &[Charge], now: Timestamp, deadline: Deadline) -> Results {
        self.memory.charge(charges, now, deadline).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Counters for TestStore {
    async fn peek(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        now: Timestamp,
    ) -> Result<Outcome, StoreError> {
        self.memory.peek(counter, limit, now).await
    }

    async fn change(
        &self,
        _: &CounterRef,
        _: &Limit,
        _: CounterChange,
        _: CallTime,
    ) -> Result<(), ChangeError> {
        match self.change {
            Answer::Done => Ok(()),
            Answer::Failed => Err(ChangeError::Unknown(StoreError::Failed("it is away".into()))),
            Answer::Never => std::future::pending().await,
        }
    }
}

fn service(change: Answer) -> Service<TestStore> {
    let file = SourceFile { name: "rules.yaml".into(), bytes: RULES.into() };
    let rules = config::compile(&[file], CompileOptions::default()).expect("the rules are right");
    let engine = Engine {
        rules: Arc::new(ArcSwap::from_pointee(rules.rules)),
        store: TestStore { memory: Memory::new(100), change },
        clock: Arc::new(ManualClock::new(Timestamp::from_secs(43_200))),
        keys: KeyFormat::default(),
        mode: Mode::default(),
        fallback: Fallback::new(FallbackSettings::default()),
    };
    Service {
        engine,
        metrics: Arc::new(Metrics::new(0.8)),
        live: None,
        max_descriptors: 1,
        invalid: WarningLimiter::new("", ""),
        answers: AnswerSettings::default(),
        decision_log: None,
        spans: None,
        in_progress: InProgress::default(),
    }
}

fn request(descriptors: usize) -> Request {
    let descriptor = Descriptor {
        entries: vec![Entry { key: "user".into(), value: "ann".into() }],
        hits: Hits::Add(1),
        has_own_hits: false,
        limit: None,
    };
    Request { domain: "shop".into(), descriptors: vec![descriptor; descriptors], hits_addend: 0 }
}

fn order(change: CounterChange) -> ChangeOrder<'static> {
    ChangeOrder { target: Target::All, change, who: "alice" }
}

/// The log of a test.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panicked").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The log of an operation, which is dropped if it is not done at once.
fn log_of(operation: impl Future) -> String {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt().with_ansi(false);
    let subscriber = lines.with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || drop(operation.now_or_never()));
    let bytes = log.0.lock().expect("no test panicked");
    String::from_utf8(bytes.clone()).expect("it is text")
}

fn counted(service: &Service<TestStore>, operation: &str, result: &str) -> bool {
    let line = format!(
        "tollgate_counter_operations_total{{operation=\"{operation}\",result=\"{result}\"}} 1\n"
    );
    service.metrics.prometheus().collect::<String>().contains(&line)
}

#[test]
fn a_change_is_counted_and_logged_once_and_a_look_is_only_counted() {
    let (done, failed) = (service(Answer::Done), service(Answer::Failed));
    let request = request(1);
    assert_eq!(log_of(done.look_at_counters(&request, None)), "");
    assert!(counted(&done, "look", "done"));
    for (change, operation) in [(CounterChange::Reset, "reset"), (CounterChange::Set(1), "set")] {
        let log = log_of(done.change_counters(&request, order(change), None));
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains(" INFO ") && log.contains(" by alice, 0 used before: "), "{log}");
        assert!(counted(&done, operation, "done"));
        let log = log_of(failed.change_counters(&request, order(change), None));
        assert_eq!(log.lines().count(), 1, "{log}");
        let text = " by alice: the counter store failed: it is away; the counter may have been";
        assert!(log.contains(" WARN ") && log.contains(text), "{log}");
        assert!(counted(&failed, operation, "failed"));
    }
}

#[test]
fn a_change_whose_caller_leaves_is_logged() {
    let (service, request) = (service(Answer::Never), request(1));
    let change = service.change_counters(&request, order(CounterChange::Reset), None);
    let log = log_of(change);
    let text = "counters may have been reset by alice, who left before the answer: domain shop: \
                user=ann";
    assert!(log.contains(text), "{log}");
}

#[test]
fn a_change_that_is_not_tried_is_neither_counted_nor_logged() {
    let service = service(Answer::Done);
    for (descriptors, target) in [(2, Target::All), (1, Target::Named(b"x"))] {
        let request = request(descriptors);
        let order = ChangeOrder { target, ..order(CounterChange::Reset) };
        let change = service.change_counters(&request, order, None);
        assert_eq!(log_of(change), "");
        let change = service.change_counters(&request, order, None);
        change.now_or_never().expect("it is at once").expect_err("it is not tried");
    }
    assert!(!counted(&service, "reset", "done") && !counted(&service, "reset", "failed"));
}
