//! Checks the tests that pages name as evidence, such as
//! `tests/integration/input.rs::invalid_protobuf_is_an_error`.

use std::{fs, path::Path, sync::LazyLock};

use regex::Regex;

use super::blocks::pages;

static NAMED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"`((?:src|tests)/[\w/]+\.rs)::(\w+)`").unwrap());

/// The head of the tables with threats.
const HEAD: &str = "| Asset | Attacker | What holds | Tests |";

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap_or_default()
}

fn has_test(file: &str, name: &str) -> bool {
    let attributes = r"#\[(?:tokio::)?test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*";
    let test = Regex::new(&format!(r"{attributes}(?:async\s+)?fn {name}\b")).unwrap();
    test.is_match(&read(file))
}

#[test]
fn each_test_that_a_page_names_exists() {
    let mut missing = Vec::new();
    for page in pages() {
        for named in NAMED.captures_iter(&read(&page.name)) {
            let (file, name) = (&named[1], &named[2]);
            if !has_test(file, name) {
                missing.push(format!("{}: {file}::{name}", page.name));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn each_threat_has_a_test() {
    let page = read("docs/security.md");
    let mut rows = 0;
    let mut lines = page.lines();
    while lines.any(|line| line == HEAD) {
        for row in lines.by_ref().skip(1).take_while(|line| line.starts_with('|')) {
            rows += 1;
            assert!(NAMED.is_match(row), "{row}");
        }
    }
    assert!(20 < rows, "{rows}");
}
