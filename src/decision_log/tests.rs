use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::{
    config::{self, CompileOptions, SourceFile},
    descriptor::{Descriptor, Entry},
    engine::{
        Engine,
        counters::{ChangeOrder, Target},
        decision::Mode,
        fallback::{Fallback, FallbackSettings},
    },
    limit::Hits,
    printable,
    rules::spec::OnError,
    store::{CounterChange, memory::Memory},
    time::{ManualClock, Timestamp},
};

const RULES: &str = "
domain: demo
descriptors:
- {key: user, rate_limit: {unit: minute, requests_per_unit: 3, name: per_user}}
- key: plan
  descriptors:
  - {key: path, value: /cart, rate_limit: {unit: second, requests_per_unit: 1}}
- {key: free, rate_limit: {unlimited: true}}
- {key: 'free,x', rate_limit: {unlimited: true}}
- {key: login, rate_limit: {unit: minute, requests_per_unit: 0, penalty: 10m}}
- {key: trial, shadow_mode: true, rate_limit: {unit: minute, requests_per_unit: 0}}
- {key: vip, rate_limit: {unit: day, requests_per_unit: 9, replaces: [{name: per_user}]}}
";

fn engine() -> Engine<Memory> {
    let file = SourceFile { name: "rules.yaml".into(), bytes: RULES.into() };
    let rules = config::compile(&[file], CompileOptions::default()).unwrap().rules;
    Engine {
        rules: Arc::new(ArcSwap::from_pointee(rules)),
        store: Memory::new(1_000),
        clock: Arc::new(ManualClock::new(Timestamp::from_secs(1_767_225_601))),
        keys: KeyFormat::default(),
        mode: Mode::default(),
        fallback: Fallback::new(FallbackSettings::default()),
    }
}

fn descriptor(entries: &[(&[u8], &[u8])]) -> Descriptor {
    let bytes = Bytes::copy_from_slice;
    let mut all = Vec::new();
    for (key, value) in entries {
        all.push(Entry { key: bytes(key), value: bytes(value) });
    }
    Descriptor { entries: all, hits: Hits::Add(1), has_own_hits: false, limit: None }
}

fn request(domain: &[u8], descriptors: Vec<Descriptor>) -> Request {
    Request { domain: Bytes::copy_from_slice(domain), descriptors, hits_addend: 0 }
}

fn decide(engine: &Engine<Memory>, request: &Request) -> Decision {
    engine.decide(request, None).now_or_never().unwrap().unwrap()
}

fn debug_lines(request: &Request) -> Vec<String> {
    debug_lines_in(Mode::default(), request)
}

fn debug_lines_in(mode: Mode, request: &Request) -> Vec<String> {
    let engine = Engine { mode, ..engine() };
    let decision = decide(&engine, request);
    debug_line::lines(request, &decision, &engine.rules.load())
}

#[test]
fn a_debug_line_tells_the_rule_or_why_there_is_none() {
    for (domain, entries, expected) in [
        (
            "demo",
            &[("user", "ann")][..],
            "domain demo: user=ann: OK, 3 per minute (per_user), 2 remaining, resets in 59 s, rule \
             demo.user at rules.yaml:4",
        ),
        (
            "demo",
            &[("login", "ann")],
            "domain demo: login=ann: OVER_LIMIT, 0 per minute, 0 remaining, can never pass, \
             penalty for 600 s, rule demo.login at rules.yaml:10",
        ),
        (
            "demo",
            &[("trial", "ann")],
            "domain demo: trial=ann: OK, 0 per minute, 0 remaining, can never pass, over the limit, \
             but shadow_mode refuses nothing, rule demo.trial at rules.yaml:11",
        ),
        (
            "dmeo",
            &[("user", "ann")],
            "domain dmeo: user=ann: OK, no limit: no rules define this domain",
        ),
        (
            "demo",
            &[("usr", "a,b")],
            "domain demo: usr=a\\,b: OK, no limit: no rule matches usr=a\\,b as the first entry",
        ),
        (
            "demo",
            &[("user", "ann"), ("path", "/")],
            "domain demo: user=ann,path=/: OK, no limit: no rules are below user, so none matches \
             path=/",
        ),
        (
            "demo",
            &[("plan", "a"), ("path", "/")],
            "domain demo: plan=a,path=/: OK, no limit: no rule below plan matches path=/",
        ),
        (
            "demo",
            &[("plan", "a")],
            "domain demo: plan=a: OK, no limit: plan has no limit, only rules below it may have",
        ),
        ("demo", &[], "domain demo: (no entries): OK, no limit: the descriptor has no entries"),
        (
            "demo",
            &[("free", "x")],
            "domain demo: free=x: OK, no limit: the rule demo.free is unlimited",
        ),
    ] {
        let mut bytes = Vec::new();
        for (key, value) in entries {
            bytes.push((key.as_bytes(), value.as_bytes()));
        }
        let request = request(domain.as_bytes(), vec![descriptor(&bytes)]);
        assert_eq!(debug_lines(&request), [expected]);
    }
}

#[test]
fn a_debug_line_names_a_replaced_rule() {
    let descriptors = vec![descriptor(&[(b"user", b"ann")]), descriptor(&[(b"vip", b"1")])];
    let lines = debug_lines(&request(b"demo", descriptors));
    let expected = "domain demo: user=ann: OK, no limit: the rule of another descriptor replaces \
                    demo.user";
    assert_eq!(lines[0], expected);
    assert!(lines[1].contains("rule demo.vip"), "{lines:?}");
}

#[test]
fn a_debug_line_tells_why_a_request_over_its_limit_passes() {
    let refused = || descriptor(&[(b"login", b"ann")]);
    let shadow = Mode { shadow: true, ..Mode::default() };
    let lines = debug_lines_in(shadow, &request(b"demo", vec![refused()]));
    assert!(lines[0].contains("OVER_LIMIT") && lines[0].ends_with("SHADOW_MODE"), "{lines:?}");
    let quota = Mode { quota: true, ..Mode::default() };
    let both = vec![refused(), descriptor(&[(b"user", b"ann")])];
    let lines = debug_lines_in(quota, &request(b"demo", both));
    assert!(lines[0].contains("OVER_LIMIT") && lines[0].ends_with("another quota"), "{lines:?}");
    assert!(!lines[1].contains("quota"), "{lines:?}");
}

fn record(request: &Request, decision: &Decision) -> String {
    let (descriptor, verdict) = (&request.descriptors[0], &decision.verdicts[0]);
    record::line(&request.domain, descriptor, verdict, decision, &KeyFormat::default())
}

#[test]
fn either_log_promises_no_retry_that_can_never_pass() {
    let engine = engine();
    let mut five = descriptor(&[(b"user", b"ann")]);
    five.hits = Hits::Add(5);
    let request = request(b"demo", vec![five]);
    let decision = decide(&engine, &request);
    let lines = debug_line::lines(&request, &decision, &engine.rules.load());
    assert!(lines[0].contains("can never pass") && !lines[0].contains("retry"), "{lines:?}");
    let line = record(&request, &decision);
    assert!(line.contains("\"neverPasses\":true") && !line.contains("resetSeconds"), "{line}");
}

#[test]
fn a_debug_line_tells_that_the_store_did_not_answer() {
    let engine = engine();
    let descriptors = vec![descriptor(&[(b"user", b"ann")]), descriptor(&[(b"free", b"x")])];
    let request = request(b"demo", descriptors);
    let mut decision = decide(&engine, &request);
    decision.policies.push(OnError::Allow);
    let lines = debug_line::lines(&request, &decision, &engine.rules.load());
    assert!(lines[0].ends_with("decided by on_error: the store did not answer"), "{lines:?}");
    assert!(!lines[1].contains("on_error"), "{lines:?}");
}

#[test]
fn a_record_names_the_cause_for_which_a_refused_descriptor_passes() {
    let request = request(b"demo", vec![descriptor(&[(b"login", b"ann")])]);
    let mode = Mode { shadow: true, ..Mode::default() };
    let line = record(&request, &decide(&Engine { mode, ..engine() }, &request));
    assert!(line.contains("\"passesBecauseOf\":\"SHADOW_MODE\""), "{line}");
    let line = record(&request, &decide(&engine(), &request));
    assert!(!line.contains("passesBecauseOf"), "{line}");
}

#[test]
fn a_record_shows_the_reason_without_the_escapes_of_the_debug_line() {
    let request = request(b"demo", vec![descriptor(&[(b"free,x", b"x")])]);
    let line = record(&request, &decide(&engine(), &request));
    assert!(line.contains("\"noLimit\":\"the rule demo.free,x is unlimited\""), "{line}");
}

#[test]
fn a_debug_line_tells_why_there_is_no_decision() {
    let descriptors = vec![descriptor(&[(b"user", b"ann")]), descriptor(&[(b"user", b"bob")])];
    let request = request(b"demo", descriptors);
    let line = debug_line::failure_line(&request, &"Redis has not answered\nfor 15 ms");
    let expected =
        "domain demo: user=ann and 1 more: no decision: Redis has not answered\\nfor 15 ms";
    assert_eq!(line, expected);
}

/// Control characters, 60 KB, bytes that are not UTF-8, and more entries than fit.
fn hostile() -> Vec<Request> {
    let long = "\u{1b}[2Jx".repeat(12_000).into_bytes();
    let controls = "a\r\nforged: OK\0\x7f\u{9b}31m\u{202e}\u{2028}\u{2066}".as_bytes();
    let invalid = b"\xff\xfe\xc3\x28ok\xf0\x9f";
    let mut requests = Vec::new();
    for text in [&long[..], controls, invalid] {
        requests.push(request(text, vec![descriptor(&[(text, text)])]));
        requests.push(request(b"demo", vec![descriptor(&[(text, text)])]));
        requests.push(request(b"demo", vec![descriptor(&[(b"login", text)])]));
    }
    let many = vec![(&long[..], &long[..]); 100];
    requests.push(request(b"demo", vec![descriptor(&many)]));
    requests
}

#[track_caller]
fn check_printable(line: &str, most: usize) {
    assert!(line.len() <= most, "{} bytes: {line:.200}", line.len());
    for letter in line.chars() {
        assert!(!printable::is_unprintable(letter), "{line:?}");
    }
}

#[test]
fn a_hostile_descriptor_makes_one_bounded_line_in_either_log() {
    for request in hostile() {
        let lines = debug_lines(&request);
        assert_eq!(lines.len(), 1);
        check_printable(&lines[0], 3_000);

        let engine = engine();
        let decision = decide(&engine, &request);
        let (descriptor, verdict) = (&request.descriptors[0], &decision.verdicts[0]);
        let line = record::line(&request.domain, descriptor, verdict, &decision, &engine.keys);
        let line = line.strip_suffix('\n').unwrap();
        check_printable(line, 20_000);
        let fields: Value = serde_json::from_str(line).unwrap();
        assert!(fields["entries"][0]["key"].is_string(), "{line}");
    }
}

#[test]
fn a_record_has_the_rule_the_limit_the_counter_and_the_wait() {
    let engine = engine();
    let request = request(b"demo", vec![descriptor(&[(b"user", b"a\nb\xff")])]);
    let mut decision = decide(&engine, &request);
    for _ in 0..3 {
        decision = decide(&engine, &request);
    }
    let (descriptor, verdict) = (&request.descriptors[0], &decision.verdicts[0]);
    let line = record::line(&request.domain, descriptor, verdict, &decision, &engine.keys);
    let expected = concat!(
        r#"{"time":"2026-01-01T00:00:01.000Z","domain":"demo","#,
        r#""entries":[{"key":"user","value":"a\nb�"}],"hits":1,"code":"OVER_LIMIT","#,
        r#""requestCode":"OVER_LIMIT","overLimit":true,"rule":"demo.user","place":"rules.yaml:4","#,
        r#""limit":"3 per minute","name":"per_user","algorithm":"fixed_window","#,
        r#""counter":"demo|user=a\nb�|60s@1767225600","remaining":0,"resetSeconds":59}"#,
        "\n",
    );
    assert_eq!(line, expected);
}

/// A log that writes to `target`.
fn log(target: DecisionLogTarget, passed_share: f64) -> (DecisionLog, DecisionLogWriter) {
    let settings = DecisionLogSettings { target, passed_share, max_lines: 5 };
    DecisionLog::new(settings, Arc::new(Metrics::new(0.8)))
}

fn lost(metrics: &Metrics, reason: &str) -> f64 {
    let name = format!("tollgate_decision_log_lost_total{{reason=\"{reason}\"}} ");
    let page: String = metrics.prometheus().collect();
    let line = page.lines().find(|line| line.starts_with(&name)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One descriptor that passes, one without a limit, and one over its limit.
fn mixed() -> Request {
    request(
        b"demo",
        vec![
            descriptor(&[(b"user", b"ann")]),
            descriptor(&[(b"usr", b"ann")]),
            descriptor(&[(b"trial", b"ann")]),
        ],
    )
}

#[tokio::test]
async fn only_descriptors_over_their_limit_are_logged_unless_a_share_of_all_is() {
    let files = TempDir::new().unwrap();
    for (share, expected) in [(0.0, &["trial"][..]), (1.0, &["user", "usr", "trial"])] {
        let path = files.path().join(format!("decisions-{share}"));
        let (log, writer) = log(DecisionLogTarget::File(path.clone()), share);
        let engine = engine();
        log.record(&mixed(), &decide(&engine, &mixed()), &engine.keys);
        drop(log);
        writer.run().await;
        let lines = lines(&path);
        let keys: Vec<_> = lines.iter().map(|line| &line["entries"][0]["key"]).collect();
        assert_eq!(keys, expected);
        assert!(lines.iter().all(|line| line["requestCode"] == "OK"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777 & !0o640, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn lines_beyond_the_rate_are_left_out_and_counted() {
    let files = TempDir::new().unwrap();
    let path = files.path().join("decisions");
    let (log, writer) = log(DecisionLogTarget::File(path.clone()), 0.0);
    let engine = engine();
    let metrics = Arc::clone(&log.metrics);
    let refused = request(b"demo", vec![descriptor(&[(b"login", b"ann")])]);
    for _ in 0..2 {
        for _ in 0..7 {
            log.record(&refused, &decide(&engine, &refused), &engine.keys);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    drop(log);
    writer.run().await;
    assert_eq!(lines(&path).len(), 10);
    assert_eq!(lost(&metrics, "over_rate"), 4.0);
}

#[tokio::test(start_paused = true)]
async fn a_decision_does_not_wait_for_a_writer_that_hangs() {
    let (log, writer) = log(DecisionLogTarget::Stdout, 0.0);
    let engine = engine();
    let decision = decide(&engine, &mixed());
    let metrics = Arc::clone(&log.metrics);
    for _ in 0..MAX_WAITING / 5 + 2 {
        for _ in 0..5 {
            log.record(&mixed(), &decision, &engine.keys);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let extra = (MAX_WAITING / 5 + 2) * 5 - MAX_WAITING;
    assert_eq!(lost(&metrics, "queue_full"), f64::from(u32::try_from(extra).unwrap()));
    drop(writer);
}

#[tokio::test]
async fn a_file_may_be_renamed_truncated_or_unwritable_at_any_time() {
    let files = TempDir::new().unwrap();
    let directory = files.path().join("logs");
    let path = directory.join("decisions");
    let (log, writer) = log(DecisionLogTarget::File(path.clone()), 0.0);
    let metrics = Arc::clone(&log.metrics);
    let engine = engine();
    let decision = decide(&engine, &mixed());
    let writing = tokio::spawn(writer.run());
    let record = || log.record(&mixed(), &decision, &engine.keys);
    let until = async |written: &dyn Fn() -> bool| {
        while !written() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };

    record();
    until(&|| lost(&metrics, "write_failed") == 1.0).await;
    fs::create_dir(&directory).unwrap();
    let is_written = || path.exists() && lines(&path).len() == 1;
    record();
    until(&is_written).await;
    fs::rename(&path, directory.join("decisions.1")).unwrap();
    record();
    until(&is_written).await;
    fs::File::create(&path).unwrap();
    record();
    until(&is_written).await;
    assert_eq!(lines(&directory.join("decisions.1")).len(), 1);
    drop(log);
    writing.await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_counted_and_does_not_end_the_writer() {
    let (log, writer) = log(DecisionLogTarget::File("/dev/full".into()), 0.0);
    let metrics = Arc::clone(&log.metrics);
    let engine = engine();
    let decision = decide(&engine, &mixed());
    for _ in 0..3 {
        log.record(&mixed(), &decision, &engine.keys);
    }
    drop(log);
    writer.run().await;
    assert_eq!(lost(&metrics, "write_failed"), 3.0);
}

/// The line about the first counter of `request`, changed by `who`.
fn audit_line(request: &Request, change: CounterChange, who: &str) -> String {
    let engine = engine();
    decide(&engine, request);
    let report = engine.change(request, Target::All, change, None);
    let report = report.now_or_never().expect("it is at once").expect("a limit applies");
    let audit = CounterAudit::new(request, ChangeOrder { target: Target::All, change, who });
    let status = report.counters().next().expect("a limit applies");
    let line = audit.line(&request.descriptors[0], status);
    audit.rejected();
    line
}

#[test]
fn the_line_of_a_changed_counter_names_the_operator_the_limit_and_what_was_there() {
    let user = request(b"demo", vec![descriptor(&[(b"user", b"ann")])]);
    let place = "domain demo: user=ann, 3 per minute (per_user), counter \
                 demo|user=ann|60s@1767225600";
    let reset = audit_line(&user, CounterChange::Reset, "alice");
    assert_eq!(reset, format!("counter reset by alice, 1 used before: {place}"));
    let set = audit_line(&user, CounterChange::Set(2), "alice");
    assert_eq!(set, format!("counter set to 2 by alice, 1 used before: {place}"));
    let login = request(b"demo", vec![descriptor(&[(b"login", b"ann")])]);
    let reset = audit_line(&login, CounterChange::Reset, "alice");
    assert!(reset.starts_with("counter reset by alice, 1 used before and a penalty: "), "{reset}");
}

#[test]
fn the_line_of_a_changed_counter_is_bounded_and_printable() {
    for value in ["<img onerror=x>", "\u{202e}", "\x1b[2J", "a\r\nINFO b", &"x".repeat(65_536)] {
        let user = request(b"demo", vec![descriptor(&[(b"user", value.as_bytes())])]);
        let line = audit_line(&user, CounterChange::Reset, value);
        assert!(line.len() < 1_500, "{line}");
        assert!(!line.contains(printable::is_unprintable), "{line}");
    }
}
