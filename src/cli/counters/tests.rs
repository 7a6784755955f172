use super::*;
use crate::{cli::admin_client::AdminUrl, printable::is_unprintable};

fn command(operation: CounterOperation, limit: Option<&str>) -> CounterCommand {
    CounterCommand {
        client: AdminClient { url: AdminUrl::of_port(1), token_file: None },
        domain: "demo".into(),
        descriptors: vec![vec![Entry { key: "user".into(), value: "a\"\u{1b}".into() }]],
        operation,
        limit: limit.map(str::to_owned),
    }
}

fn answer(counter: &Value) -> Value {
    json!({"shadowMode": false, "descriptors": [
        {"descriptor": "user=ann", "noLimit": null, "rule": {}, "counters": [counter]},
    ]})
}

fn counter() -> Value {
    json!({
        "limit": {"name": "per_user", "text": "3 per minute"},
        "effect": "enforced",
        "counter": "demo|user=ann|60s@0",
        "found": {"used": 4, "remaining": 0, "resetSeconds": 41, "bannedSeconds": 0},
        "changed": null,
        "error": null,
    })
}

#[test]
fn the_path_has_the_value_and_the_limit() {
    let reset = command(CounterOperation::Reset, Some("a b&c=\u{e9}"));
    assert_eq!(path(&reset), "/v1/counters/reset?limit=a%20b%26c%3D%C3%A9");
    assert_eq!(path(&command(CounterOperation::Set(7), None)), "/v1/counters/set?used=7&");
    let expected = json!({"domain": "demo", "descriptors": [
        {"entries": [{"key": "user", "value": "a\"\u{1b}"}]},
    ]});
    assert_eq!(body(&reset), Some(expected));
    let binary = CounterCommand { domain: b"\xff".as_slice().into(), ..reset };
    assert_eq!(body(&binary), None);
}

#[test]
fn each_counter_has_a_line() {
    use CounterOperation::{Get, Reset, Set};
    let value = "4 used, 0 remaining, resets in 41 s";
    let line = |counter: &Value, operation| {
        let text = lines(&answer(counter), operation);
        text.strip_prefix("user=ann\n  3 per minute (per_user)").unwrap().trim_end().to_owned()
    };
    let mut changed = counter();
    assert_eq!(line(&changed, Get), format!(": {value}"));
    changed["changed"] = true.into();
    assert_eq!(line(&changed, Reset), format!(": reset, before: {value}"));
    assert_eq!(line(&changed, Set(2)), format!(": set to 2, before: {value}"));
    changed["found"]["bannedSeconds"] = 9.into();
    assert_eq!(line(&changed, Reset), format!(": reset, before: {value}, penalty for 9 s"));
    let mut shadow = counter();
    shadow["effect"] = "shadow".into();
    assert_eq!(line(&shadow, Get), format!(", refuses nothing because of shadow_mode: {value}"));
    let mut failed = counter();
    failed["changed"] = false.into();
    failed["error"] = "it is away".into();
    assert_eq!(line(&failed, Reset), ": it is away");
    assert_eq!(status(&answer(&failed)), CommandStatus::Failed);
    assert_eq!(status(&answer(&shadow)), CommandStatus::Positive);
}

#[test]
fn a_descriptor_without_a_limit_has_the_reason() {
    let answer = json!({"shadowMode": true, "descriptors": [
        {"descriptor": "a=\u{202e}", "noLimit": "no \u{1b}[2J rule", "rule": null, "counters": []},
    ]});
    let text = lines(&answer, CounterOperation::Get);
    let lines: Vec<_> = text.lines().collect();
    let expected = [
        "a=\u{fffd}",
        "  no limit: no \u{fffd}[2J rule",
        "SHADOW_MODE is on: no request is refused",
    ];
    assert_eq!(lines, expected);
    assert!(!text.replace('\n', "").contains(is_unprintable));
    assert_eq!(status(&answer), CommandStatus::Unmatched);
}
