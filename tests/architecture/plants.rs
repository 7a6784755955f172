//! Violations that are planted in the sources, so that each rule is seen to find them.

use std::path::Path;

use crate::{Source, rules, sources};

struct Plant {
    file: &'static str,
    code: &'static str,
    /// The part of the complaint after the file.
    expected: &'static str,
}

const fn plant(file: &'static str, code: &'static str, expected: &'static str) -> Plant {
    Plant { file, code, expected }
}

const PLANTS: [Plant; 21] = [
    plant("store/memory.rs", "use crate::settings::Settings;", "may not use settings::Settings"),
    plant(
        "store/memory.rs",
        r#"fn f() -> String { format!("{:?}", crate::settings::Settings::default()) }"#,
        "may not use settings::Settings::default",
    ),
    plant("store/memory.rs", "#[crate::settings::part] struct P;", "may not use settings::part"),
    plant("store/memory.rs", "#[derive(prost::Message)] struct P;", "may not use prost"),
    plant("store/memory.rs", "struct P { #[prost(uint32)] p: u32 }", "may not use prost"),
    plant("limit/window.rs", "use crate::warnings;", "is pure and may not use warnings"),
    plant("limit/window.rs", "use std::fs;", "is pure and may not use std::fs"),
    plant(
        "limit/window.rs",
        "static P: std::sync::Mutex<u8> = std::sync::Mutex::new(0);",
        "is pure and may not use std::sync::Mutex",
    ),
    plant("limit/window.rs", "use std::sync;", "is pure and may not use std::sync"),
    plant(
        "limit/window.rs",
        "fn f() { std::net::TcpStream::connect(1); }",
        "is pure and may not use std::net::TcpStream::connect",
    ),
    plant(
        "limit/window.rs",
        "fn f(path: &str) -> bool { std::path::Path::new(path).exists() }",
        "is pure and may not call exists",
    ),
    plant(
        "limit/window.rs",
        "fn f() { std::thread::yield_now(); }",
        "is pure and may not use std::thread::yield_now",
    ),
    plant(
        "limit/window.rs",
        "fn f() { vec![tokio::spawn(1)]; }",
        "is pure and may not use tokio::spawn",
    ),
    plant("limit/window.rs", "fn f() { jiff::Timestamp::now(); }", "is pure and may not call now"),
    plant("limit/window.rs", "fn f() { Zoned::now(); }", "is pure and may not call now"),
    plant(
        "limit/window.rs",
        "fn f() { std::time::SystemTime::UNIX_EPOCH.elapsed(); }",
        "is pure and may not call elapsed",
    ),
    plant(
        "limit/window.rs",
        "fn f() { assert!(p.elapsed()); }",
        "is pure and may not call elapsed",
    ),
    plant("limit/window.rs", "async fn f() {}", "is pure and may not be async"),
    plant("limit/window.rs", "fn f() { drop(async {}); }", "is pure and may not be async"),
    plant("limit/window.rs", "use super::algorithm::Algorithm;", "limit::window is in a circle"),
    plant("limit/window.rs", "fn f(limit: &super::Limit) {}", "limit::window is in a circle"),
];

#[test]
fn every_planted_violation_is_found() {
    let mut sources = sources();
    for Plant { file, code, expected } in PLANTS {
        let path = Path::new("src").join(file);
        let place = sources.iter().position(|source| source.path == path).expect(file);
        let text = format!("{}\n{code}\n", sources[place].text);
        let planted = Source::read(path.clone(), text);
        let original = std::mem::replace(&mut sources[place], planted);
        let complaints = rules::complaints(&sources);
        sources[place] = original;
        let whole = format!("{} {expected}", path.display());
        let is_found = complaints.iter().any(|it| *it == whole || it == expected);
        assert!(is_found, "{code} in {file}: {complaints:?}");
    }
}
