//! Invalid limits.

use super::*;

/// Compares the errors of `rate_limit: { text }` with `expected`. Columns are
/// counted from the beginning of `text`; 0 is the key `rate_limit`.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let file = format!("domain: d\ndescriptors:\n- key: a\n  rate_limit: {{ {text} }}\n");
    let errors = compile_one(&file).expect_err(text);
    let line = |it: &Diagnostic| {
        let help = it.help.iter().map(|help| format!(" ({help})"));
        format!("{}: {}{}", place(it).1.saturating_sub(16), it.message, help.collect::<String>())
    };
    assert_eq!(errors.iter().map(line).collect::<Vec<_>>(), expected, "{text}");
}

#[test]
fn an_invalid_word_or_number_is_reported_with_the_expected_value() {
    let algorithms = "expected one of fixed_window, sliding_window, sliding_log, token_bucket, leaky_bucket, concurrency";
    let number = "expected a whole number from 1 to 4294967295";
    let check =
        |text: &str, expected: &str| check(&format!("{text}, requests_per_unit: 1"), &[expected]);
    check("algorithm: gcra, unit: day", &format!("12: `algorithm` is `gcra`, {algorithms}"));
    check(
        "algorithm: token-bucket, unit: day",
        &format!("12: `algorithm` is `token-bucket`, {algorithms} (did you mean `token_bucket`?)"),
    );
    check("algorithm: [], unit: day", &format!("12: `algorithm` is a list, {algorithms}"));
    check("burst: 0, unit: day, algorithm: token_bucket", &format!("8: `burst` is `0`, {number}"));
    check(
        "burst: '1', unit: day, algorithm: token_bucket",
        &format!("8: `burst` is the quoted string `1`, {number} (remove the quotes)"),
    );
    check("unit_multiplier: 0, unit: day", &format!("18: `unit_multiplier` is `0`, {number}"));
    check(
        "unit_multiplier: 4294967296, unit: day",
        &format!("18: `unit_multiplier` is `4294967296`, {number}"),
    );
    check(
        "unit_multiplier: 101, unit: year",
        "18: the window is longer than 100 years, expected at most 100 of this unit",
    );
    check("count_denied: 1, unit: day", "15: `count_denied` is `1`, expected `true` or `false`");
    check(
        "consume: none, unit: day",
        "10: `consume` is `none`, expected `independent` or `all_or_nothing`",
    );
    check(
        "on_error: open, unit: day",
        "11: `on_error` is `open`, expected `allow`, `deny` or `local`",
    );
    check(
        "on_error: alow, unit: day",
        "11: `on_error` is `alow`, expected `allow`, `deny` or `local` (did you mean `allow`?)",
    );
}

#[test]
fn an_unsupported_accuracy_is_an_error() {
    let check = |text: &str, expected: &str| {
        check(&format!("{text}, unit: day, requests_per_unit: 1"), &[expected]);
    };
    let lease = "expected a part of the limit such as `1%` or `0.01`, at most 10%";
    check("accuracy: rough", "11: `accuracy` is `rough`, expected `exact`, or a map with `lease`");
    check("accuracy: {lease: 20%}", &format!("19: `lease` is `20%`, {lease}"));
    check("accuracy: {lease: 0}", &format!("19: `lease` is `0`, {lease}"));
    check("accuracy: {lease: [1%]}", &format!("19: `lease` is a list, {lease}"));
    let none = format!("1: `accuracy` has no `lease`, {lease} (or write `accuracy: exact`)");
    check("accuracy: {}", &none);
    check("accuracy: {lease: }", &none);
    check("accuracy: {part: 1%}", "12: the key `part` is unknown (expected one of lease)");
    let window = "1: `accuracy` is not `exact`, expected a `fixed_window` that counts what it \
                  refuses (an instance may use reserved hits late, which only the end of a fixed \
                  window prevents: with any other algorithm, more hits than the limit could be \
                  allowed; leave out `accuracy` or `algorithm`)";
    check("accuracy: {lease: 1%}, algorithm: token_bucket", window);
    check("accuracy: {lease: 1%}, count_denied: false", window);
    check(
        "accuracy: {lease: 1%}, penalty: 1s",
        "1: `accuracy` is combined with `penalty`, expected one of the two",
    );
}

#[test]
fn an_invalid_duration_is_reported_with_the_expected_value() {
    let period = "expected a duration of whole seconds from `1s` to `876000h`";
    let penalty = "expected a duration of whole milliseconds from `1ms` to `87600h`";
    let lease = "expected a duration of whole milliseconds from `1s` to `24h`";
    let phase = "expected `spread`, or a duration of whole seconds that is shorter than the window";
    let check =
        |text: &str, expected: &str| check(&format!("{text}, requests_per_unit: 1"), &[expected]);
    check("period: 90", &format!("9: `period` is `90`, {period}"));
    check("period: 1.5s", &format!("9: `period` is `1.5s`, {period}"));
    check("period: 0", &format!("9: `period` is `0`, {period}"));
    check("period: 876001h", &format!("9: `period` is `876001h`, {period}"));
    check("period: 1.5", &format!("9: `period` is `1.5`, {period}"));
    check("period: [1s]", &format!("9: `period` is a list, {period}"));
    check("penalty: 0s, unit: day", &format!("10: `penalty` is `0s`, {penalty}"));
    check("penalty: 500us, unit: day", &format!("10: `penalty` is `500us`, {penalty}"));
    check("penalty: 87601h, unit: day", &format!("10: `penalty` is `87601h`, {penalty}"));
    check("lease: 999ms, algorithm: concurrency", &format!("8: `lease` is `999ms`, {lease}"));
    check("lease: 25h, algorithm: concurrency", &format!("8: `lease` is `25h`, {lease}"));
    check("lease: soon, algorithm: concurrency", &format!("8: `lease` is `soon`, {lease}"));
    check(
        "phase: 1m, unit: minute",
        "8: `phase` is not shorter than the window, expected less than 60s",
    );
    check("phase: 500ms, unit: minute", &format!("8: `phase` is `500ms`, {phase}"));
    check("phase: random, unit: minute", &format!("8: `phase` is `random`, {phase}"));
}

#[test]
fn an_invalid_calendar_is_reported_with_the_expected_value() {
    let zone = "expected a name of the IANA database, such as Europe/Berlin";
    let first =
        "expected a whole number from 1 to 28 for months, or from 1 (Monday) to 7 for weeks";
    let check =
        |text: &str, expected: &str| check(&format!("{text}, requests_per_unit: 1"), &[expected]);
    check("calendar: UTC, unit: day", "11: `calendar` is `UTC`, expected a map with `time_zone`");
    check(
        "calendar: {}, unit: day",
        "1: the calendar has no `time_zone`, expected one such as Europe/Berlin",
    );
    check(
        "calendar: {time_zone: Berlin}, unit: day",
        &format!("23: `Berlin` is not a time zone, {zone}"),
    );
    check(
        "calendar: {time_zone: Etc/Unknown}, unit: day",
        &format!("23: `Etc/Unknown` is not a time zone, {zone}"),
    );
    check("calendar: {time_zone: [UTC]}, unit: day", &format!("23: `time_zone` is a list, {zone}"));
    check(
        "calendar: {time_zone: UTC, first_day: 0}, unit: month",
        &format!("39: `first_day` is `0`, {first}"),
    );
    check(
        "calendar: {time_zone: UTC, first_day: 29}, unit: month",
        &format!("39: `first_day` is `29`, {first}"),
    );
    check(
        "calendar: {time_zone: UTC, first_day: 8}, unit: week",
        &format!("39: `first_day` is `8`, {first}"),
    );
    check(
        "calendar: {time_zone: UTC, first_day: 1}, unit: day",
        "28: `first_day` is combined with `unit: day`, expected week or month (remove it)",
    );
    check(
        "calendar: {zone: UTC, time_zone: UTC}, unit: day",
        "12: the key `zone` is unknown (expected one of time_zone, first_day)",
    );
    check(
        "time_zone: UTC, unit: day",
        "1: the key `time_zone` does not belong here (it belongs in `calendar`)",
    );
}

#[test]
fn keys_of_another_algorithm_are_errors_with_the_reason() {
    let window_reason =
        "and this is `concurrency` (it limits the requests in flight, not the requests per time)";
    let permits = "algorithm: concurrency, lease: 1s, requests_per_unit: 1";
    for key in ["unit: day", "unit_multiplier: 2", "period: 5s", "penalty: 1s"] {
        let name = key.split(':').next().unwrap();
        let expected =
            format!("1: `{name}` is for every algorithm but `concurrency`, {window_reason}");
        check(&format!("{key}, {permits}"), &[&expected]);
    }
    let burst = "`burst` is for `token_bucket` and `leaky_bucket`, and this is";
    let burst_reason = "(the other algorithms allow all hits of the limit at once)";
    let phase = "`phase` is for `fixed_window` and `sliding_window`, and this is";
    let phase_reason = "(the other algorithms have no windows with a fixed start)";
    let calendar = "`calendar` is for `fixed_window`, and this is";
    let calendar_reason = "(the other algorithms need windows of equal length)";
    let lease_reason = "(the other algorithms have no permits to release)";
    for (text, expected) in [
        ("burst: 1", format!("1: {burst} `fixed_window` {burst_reason}")),
        ("burst: 1, algorithm: sliding_log", format!("1: {burst} `sliding_log` {burst_reason}")),
        ("phase: spread, algorithm: sliding_log", format!("1: {phase} `sliding_log` {phase_reason}")),
        ("phase: 1s, algorithm: token_bucket", format!("1: {phase} `token_bucket` {phase_reason}")),
        ("phase: 1s, algorithm: leaky_bucket", format!("1: {phase} `leaky_bucket` {phase_reason}")),
        (
            "calendar: {time_zone: UTC}, algorithm: sliding_window",
            format!("1: {calendar} `sliding_window` {calendar_reason}"),
        ),
        ("lease: 5s", format!("1: `lease` is for `concurrency`, and this is `fixed_window` {lease_reason}")),
        (
            "count_denied: true, algorithm: sliding_window",
            "1: `count_denied: true` is for `fixed_window`, and this is `sliding_window` (the other algorithms never count refused hits: remove it)".into(),
        ),
    ] {
        check(&format!("{text}, unit: day, requests_per_unit: 1"), &[&expected]);
    }
    check(
        &format!("calendar: {{time_zone: UTC}}, phase: spread, {permits}"),
        &[
            "1: `calendar` is combined with `phase`, expected one of the two",
            &format!("1: {calendar} `concurrency` {calendar_reason}"),
            &format!("29: {phase} `concurrency` {phase_reason}"),
        ],
    );
}

#[test]
fn keys_with_the_same_meaning_cannot_be_combined() {
    let zone = "calendar: {time_zone: UTC}";
    for (text, expected) in [
        ("period: 5s, unit: day", "1: `period` is combined with `unit`, expected one of the two"),
        (
            "period: 5s, unit_multiplier: 2",
            "1: `period` is combined with `unit_multiplier`, expected one of the two",
        ),
        (
            &format!("{zone}, unit: day, unit_multiplier: 1"),
            "1: `calendar` is combined with `unit_multiplier`, expected one of the two",
        ),
        (
            &format!("{zone}, unit: day, phase: 1h"),
            "1: `calendar` is combined with `phase`, expected one of the two",
        ),
        (
            &format!("{zone}, period: 24h"),
            "1: `calendar` is combined with `period`, expected one of the two",
        ),
        (
            &format!("{zone}, unit: hour"),
            "1: `calendar` is combined with `unit: hour`, expected day, week or month",
        ),
        (
            &format!("{zone}, unit: year"),
            "1: `calendar` is combined with `unit: year`, expected day, week or month",
        ),
    ] {
        check(&format!("{text}, requests_per_unit: 1"), &[expected]);
    }
    for key in [
        "unit: day",
        "unit_multiplier: 2",
        "period: 5s",
        "algorithm: sliding_log",
        "burst: 5",
        "count_denied: false",
        "penalty: 1s",
        "consume: independent",
        "on_error: deny",
        "accuracy: exact",
        "phase: spread",
        zone,
        "lease: 1s",
    ] {
        let name = key.split(':').next().unwrap();
        let expected =
            format!("1: `{name}` is combined with `unlimited: true`, expected one of the two");
        check(&format!("{key}, unlimited: true"), &[&expected]);
    }
}

#[test]
fn a_limit_that_cannot_be_counted_is_an_error() {
    for name in ["sliding_window", "token_bucket", "leaky_bucket"] {
        let zero = format!(
            "20: `requests_per_unit` of `{name}` is 0, expected at least 1 (use fixed_window with 0 to refuse everything)"
        );
        check(&format!("requests_per_unit: 0, unit: day, algorithm: {name}"), &[&zero]);
    }
    check(
        "requests_per_unit: 1001, unit: day, algorithm: sliding_log",
        &[
            "20: `requests_per_unit` of `sliding_log` is above 1000, expected no more (use sliding_window, which stores two numbers instead of each hit)",
        ],
    );
    check(
        "requests_per_unit: 1001, algorithm: concurrency, lease: 1s",
        &[
            "20: `requests_per_unit` of `concurrency` is above 1000, expected no more (each request in flight is stored by itself)",
        ],
    );
    check(
        "requests_per_unit: 1, algorithm: concurrency",
        &[
            "0: the limit has no `lease`, expected one such as `lease: 30s` (it frees the permit of a client that does not release it)",
        ],
    );
    check(
        "unit: day, algorithm: token_bucket",
        &["0: the limit has no `requests_per_unit`, expected one"],
    );
    for text in ["unit: day, algorithm: sliding_log", "algorithm: concurrency, lease: 1s"] {
        rule(&format!("  rate_limit: {{ requests_per_unit: 0, {text} }}"));
        rule(&format!("  rate_limit: {{ requests_per_unit: 1000, {text} }}"));
    }
}

#[test]
fn all_errors_of_a_limit_are_reported_at_once() {
    check(
        "algorithm: token_bucket, burst: 0, count_denied: yes, period: 5, penalty: x, on_error: x",
        &[
            "0: the limit has no `requests_per_unit`, expected one",
            "33: `burst` is `0`, expected a whole number from 1 to 4294967295",
            "36: `count_denied: true` is for `fixed_window`, and this is `token_bucket` (the other algorithms never count refused hits: remove it)",
            "63: `period` is `5`, expected a duration of whole seconds from `1s` to `876000h`",
            "75: `penalty` is `x`, expected a duration of whole milliseconds from `1ms` to `87600h`",
            "88: `on_error` is `x`, expected `allow`, `deny` or `local`",
        ],
    );
}

#[test]
fn a_list_of_too_many_limits_is_rejected_without_reading_it() {
    let list = "{ unit: day, requests_per_unit: 1 }, ".repeat(100_000);
    let text = format!("domain: d\ndescriptors:\n- {{ key: a, rate_limits: [{list}] }}\n");
    let errors = compile_one(&text).expect_err("too many").to_string();
    assert!(errors.contains("there are 100000 limits, expected at most 8\n"), "{errors}");
}

#[test]
fn a_misspelt_key_is_not_reported_as_missing_too() {
    let check_one = |text: &str, name: &str, similar: &str| {
        let file = format!("domain: d\ndescriptors:\n- key: a\n  rate_limit: {{ {text} }}\n");
        let errors = compile_one(&file).expect_err(text);
        let column = 17 + text.find(name).unwrap();
        let expected =
            format!("4:{column}: the key `{name}` is unknown (did you mean `{similar}`?)\n");
        assert_eq!(lines(errors.iter()), format!("r.yaml:{expected}"), "{text}");
    };
    check_one("unti: day, requests_per_unit: 1", "unti", "unit");
    check_one("unit: day, request_per_unit: 1", "request_per_unit", "requests_per_unit");
    check_one("algorithm: concurrency, requests_per_unit: 1, leese: 3s", "leese", "lease");
    check_errors(
        "domian: d\ndescriptors: [{kye: a, rate_limit: {unlimited: true}}]\n",
        &[
            "1:1: the key `domian` is unknown (did you mean `domain`?)",
            "2:16: the key `kye` is unknown (did you mean `key`?)",
        ],
    );
}
