//! Compares the output of commands with the pages.

use std::sync::LazyLock;

use regex::Regex;

/// Numbers that differ from run to run: seconds, starts of windows, and moments in
/// microseconds.
static VARIABLE: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r#"(?x)
        ( resets\ in\ | retry\ in\ | everything\ for\  | Seconds":
        | durationUntilReset":" | retry-after:\  | ;t= | s@ ) \d+ | \b\d{16}\b"#;
    Regex::new(pattern).unwrap()
});

fn lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.trim_end().lines() {
        let line = line.trim_end().trim_start_matches("(integer) ");
        lines.push(VARIABLE.replace_all(line, "${1}N").into_owned());
    }
    lines
}

/// Returns true if `actual` is the output in the page. In the page, `…` stands for any
/// text within a line, or for any number of lines if it is alone on one.
pub fn matches(expected: &str, actual: &str) -> bool {
    lines_match(&lines(expected), &lines(actual))
}

fn lines_match(expected: &[String], actual: &[String]) -> bool {
    match expected {
        [] => actual.is_empty(),
        [first, rest @ ..] if first == "…" => {
            (0..=actual.len()).any(|skipped| lines_match(rest, &actual[skipped..]))
        }
        [first, rest @ ..] => match actual {
            [line, others @ ..] => line_matches(first, line) && lines_match(rest, others),
            [] => false,
        },
    }
}

fn line_matches(expected: &str, actual: &str) -> bool {
    let Some((start, rest)) = expected.split_once('…') else { return expected == actual };
    let Some(actual) = actual.strip_prefix(start) else { return false };
    let mut ends = actual.char_indices().map(|(at, _)| at).chain([actual.len()]);
    ends.any(|at| line_matches(rest, &actual[at..]))
}

#[test]
fn an_ellipsis_matches_any_text_or_lines() {
    assert!(matches("a … c\n…\nend\n", "a b c\nx\ny\nend\n"));
    assert!(matches("a\n…", "a\n"));
    assert!(!matches("a\n", "a\nb\n"));
    assert!(!matches("a … c\n", "a b d\n"));
}

#[test]
fn seconds_and_starts_of_windows_may_differ() {
    assert!(matches("retry in 41 s", "retry in 5 s\n"));
    assert!(matches("demo|60s@1200", "demo|60s@1796011620"));
    assert!(!matches("2 remaining", "1 remaining"));
}
