use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

/// A file with every kind of value.
const VALID: &str = r#"
# Comments, ünïcode
domain: &d "shop"
descriptors:
- key: a
  value: 'x*'
  share_threshold: yes
  metadata: { a: [1, 2.5, ~, { b: c }], "d": *d }
  rate_limit: &l { unit: day, requests_per_unit: 0x10, name: n }
  descriptors:
  - { key: b, rate_limit: { <<: *l, replaces: [{ name: n }], name: m } }
- key: |
    block
  rate_limit: *l
- key: c
  rate_limits:
  - { unit: week, requests_per_unit: 9, calendar: { time_zone: UTC, first_day: 7 }, count_denied: no }
  - { period: 1.5h, requests_per_unit: 5, phase: 15m, penalty: 1m30s, consume: all_or_nothing }
  - { unit: day, unit_multiplier: 2, requests_per_unit: 3, algorithm: token_bucket, burst: 2 }
  - { requests_per_unit: 1, algorithm: concurrency, lease: 1500ms, on_error: local }
  - { unit: hour, requests_per_unit: 2, algorithm: sliding_window, phase: spread }
- &e { key: e, rate_limit: *l, metadata: &m { a: { b: !!float 1 }, y: 2 } }
- { <<: [*e, { value: v }], !!merge <<: { metadata: *m, rate_limit: { name: o } }, key: !!str f }
"#;

/// Compiles `bytes` and displays the result. Returns the length of the warnings
/// or of the errors.
fn compile_and_display(bytes: Vec<u8>) -> Result<usize, usize> {
    let files = [SourceFile { name: "r.yaml".into(), bytes }];
    match compile(&files, CompileOptions { merge_domains: true, ..CompileOptions::default() }) {
        Ok(compiled) => Ok(lines(&compiled.warnings).len()),
        Err(errors) => {
            let shown = errors.to_string() + &lines(errors.iter());
            assert!(!shown.contains(|it: char| it.is_control() && it != '\n'), "{shown:?}");
            let (line, column) = place(errors.first());
            assert!(line > 0 && column > 0);
            Err(shown.len())
        }
    }
}

#[test]
fn the_file_that_is_mutated_is_valid() {
    assert_eq!(compile_and_display(VALID.into()), Ok(0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_give_rules_or_errors(bytes in vec(any::<u8>(), 0..200)) {
        compile_and_display(bytes).ok();
    }

    #[test]
    fn any_text_gives_rules_or_errors(text in "[-a-c:*&<!|>{}\\[\\],?'\"# \n\t\u{85}é]{0,80}") {
        compile_and_display(text.into_bytes()).ok();
    }

    #[test]
    fn a_mutated_file_gives_rules_or_errors(
        changes in vec((any::<Index>(), any::<Index>(), "[-a:*&<!{}\\[\\], '\"\n\t0é]{0,3}"), 1..6),
    ) {
        let mut text: Vec<char> = VALID.chars().collect();
        for (from, to, with) in changes {
            let (from, to) = (from.index(text.len() + 1), to.index(text.len() + 1));
            let to = to.clamp(from, (from + 8).min(text.len()).max(from));
            text.splice(from..to, with.chars());
        }
        compile_and_display(text.into_iter().collect::<String>().into_bytes()).ok();
    }
}

#[test]
fn deep_nesting_is_an_error_with_the_maximum() {
    let mut deep = vec![
        "[".repeat(20_000),
        "- ".repeat(20_000),
        "{a: ".repeat(20_000),
        "? ".repeat(20_000),
        (0..300).map(|index| " ".repeat(index) + "a:\n").collect(),
    ];
    let aliases = (1..100).map(|index| format!("a{index}: &a{index} [*a{}]\n", index - 1));
    deep.push("a0: &a0 []\n".to_owned() + &aliases.collect::<String>());
    for text in deep {
        let errors = compile_one(&text).expect_err("too deep");
        let message = &errors.first().message;
        assert!(message.contains("deeper than 64 levels"), "{message}");
    }
}

fn nested(levels: usize) -> Result<Compiled, Diagnostics> {
    let descriptors = "descriptors: [{ key: a, ".repeat(levels);
    compile_one(&format!(
        "{{ domain: d, {descriptors} rate_limit: {{ unlimited: true }} {} }}",
        "}]".repeat(levels)
    ))
}

#[test]
fn thirty_one_levels_of_descriptors_are_not_too_deep() {
    assert_eq!(nested(31).expect("rules").rules.rules().len(), 1);
    assert!(nested(32).is_err());
}

#[test]
fn aliases_cannot_expand_a_small_file_without_bound() {
    let lists = (1..9)
        .map(|index| format!("a{index}: &a{index} [{}]\n", format!("*a{}, ", index - 1).repeat(9)));
    let lists = "a0: &a0 [x]\n".to_owned() + &lists.collect::<String>();
    let keys: String = (0..2000).map(|index| format!("k{index}: x, ")).collect();
    let merges: String = (0..2000).map(|index| format!("b{index}: {{ <<: *a0 }}\n")).collect();
    for text in [lists, format!("a0: &a0 {{ {keys} }}\n{merges}")] {
        let errors = compile_one(&text).expect_err("too large");
        let found = errors.iter().any(|error| error.message.contains("more than 1000000 nodes"));
        assert!(found, "{}", errors.first());
    }
}

#[test]
fn a_file_has_a_maximum_length() {
    let errors = compile_one(&"#".repeat(MAX_BYTES + 1)).expect_err("too long");
    assert!(errors.first().message.ends_with("expected at most 16777216"));
    let fits = "domain: d\n".to_owned() + &"#".repeat(MAX_BYTES - 10);
    assert_eq!(compile_one(&fits).expect("rules").rules.domain_count(), 1);
}

#[test]
fn a_message_about_a_long_text_is_short() {
    let long = "1".repeat(1 << 20);
    let descriptor = format!("- {{ key: {long}, x{long}: 1, rate_limit: {{ unit: '{long}' }} }}\n");
    let text = format!("domain: {long}\ndescriptors:\n{descriptor}? {long}\n: {long}\n");
    let errors = compile_one(&text).expect_err("nothing is right");
    for it in errors.iter() {
        assert!(it.to_string().len() < 400, "{it}");
        assert!(it.snippet().to_string().len() < 1000, "{it}");
    }
}

#[test]
fn a_hundred_thousand_descriptors_are_not_too_many() {
    let element = |it: usize| {
        format!(
            "- key: user\n  value: u{it}\n  rate_limit:\n    unit: day\n    requests_per_unit: {it}\n"
        )
    };
    let text = (0..100_000).map(element).collect::<String>();
    assert_eq!(rules(&("domain: d\ndescriptors:\n".to_owned() + &text)).len(), 100_000);
}

#[test]
fn invalid_utf_8_and_invalid_yaml_are_errors_with_a_position() {
    let place = |bytes: &[u8]| {
        let files = [SourceFile { name: "r.yaml".into(), bytes: bytes.into() }];
        let errors = compile(&files, CompileOptions::default()).expect_err("no YAML");
        lines([errors.first()])
    };
    assert_eq!(
        place(b"domain: d\n# \xc3\xbc \xff"),
        "r.yaml:2:5: the byte 0xff is not UTF-8 (save the file as UTF-8)\n"
    );
    assert_eq!(
        place(b"a\rb\r\nc\xff"),
        "r.yaml:3:2: the byte 0xff is not UTF-8 (save the file as UTF-8)\n"
    );
    assert_eq!(
        place(b"\xef\xbb\xbfdomain: d"),
        "r.yaml:1:1: the file begins with a byte order mark (save it as UTF-8 without a byte order mark)\n"
    );
    for (text, expected, help) in [
        ("domain: d\ndescriptors:\n\t- key: a\n", "r.yaml:3:1: ", "(indent with spaces)\n"),
        (
            "domain: d\ndescriptors:\n- key: a\n  rate_limit:\n    unit: day\n \n  \tname: b\n",
            "r.yaml:7:3: ",
            "(indent with spaces)\n",
        ),
        ("domain: \"d\n", "r.yaml:2:1: ", "(is a quote above not closed?)\n"),
        ("domain: a: b\n", "r.yaml:1:10: ", "(quote a text that contains `: `)\n"),
        ("domain: d\n  descriptors:\n", "r.yaml:2:14: ", "(indent all keys of a map alike)\n"),
        ("a:\n- b: c\n    d: e\n", "r.yaml:3:6: ", "(indent all keys of a map alike)\n"),
        ("a:\n- b:\n    c: d\n   e: f\n", "r.yaml:4:4: ", "(indent all keys of a map alike)\n"),
        ("domain: *\n", "r.yaml:1:9: ", "(quote a text that begins with `*` or `&`)\n"),
    ] {
        let line = place(text.as_bytes());
        assert!(line.starts_with(expected) && line.ends_with(help), "{line}");
    }
}
