//! Runs the examples of README.md and docs/*.md. A fenced block is checked by its
//! language:
//!
//! - `yaml` is a rule file, and `tollgate check` accepts it. With a file name, as in
//!   ```` ```yaml rules.yaml ````, the commands of the page find it under this name. A name
//!   that ends with `_test.yaml` is a file for `tollgate test`, which the page runs.
//! - `console` holds commands behind `$ ` and their output, see [`session`].
//! - `js` with a file name is the content of this file.
//! - `envoy` is a part of a file in `examples/envoy`, which other tests run.
//! - `text` is not checked.
//!
//! A block with a name below `examples/`, of any language, is this file without its comments.
//!
//! `no-run` behind the language excludes a block; [`NOT_RUN`] counts these blocks.
#![allow(clippy::panic, clippy::unwrap_used, unreachable_pub, reason = "this is all tests")]

mod alerts;
mod blocks;
mod links;
mod named_tests;
mod output;
mod session;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use blocks::{Block, pages};
use testkit::tollgate::Tollgate;

/// The blocks that need Docker, a cluster, a compiler or a whole installation.
const NOT_RUN: [(&str, usize); 14] = [
    ("CONTRIBUTING.md", 1),
    ("README.md", 5),
    ("docs/admin.md", 1),
    ("docs/caddy.md", 3),
    ("docs/dashboard.md", 1),
    ("docs/ext_authz.md", 6),
    ("docs/haproxy.md", 3),
    ("docs/middleware.md", 1),
    ("docs/migrate.md", 1),
    ("docs/nginx.md", 3),
    ("docs/operate.md", 4),
    ("docs/security.md", 1),
    ("docs/traefik.md", 3),
    ("examples/envoy/README.md", 3),
];

/// All blocks of this language that are not excluded.
fn runnable(language: &str) -> Vec<Block> {
    let mut found = Vec::new();
    for page in pages() {
        for block in page.blocks {
            if block.language == language && !block.no_run {
                found.push(block);
            }
        }
    }
    assert!(!found.is_empty(), "no page has a block of {language}");
    found
}

#[test]
fn each_block_is_checked_or_excluded_on_purpose() {
    let mut excluded = BTreeMap::new();
    for page in pages() {
        for block in &page.blocks {
            match block.language.as_str() {
                "yaml" | "console" | "envoy" | "text" => {}
                "js" if block.no_run || block.file_name.is_some() => {}
                _ if block.file_name.as_ref().is_some_and(|it| it.starts_with("examples/")) => {}
                "sh" if block.no_run => {}
                "sh" => panic!("{block}: use `console` with the output, or `sh no-run`"),
                other => panic!("{block}: the language `{other}` is not checked"),
            }
            if block.no_run {
                *excluded.entry(page.name.clone()).or_insert(0) += 1;
            }
        }
    }
    let expected: BTreeMap<_, _> =
        NOT_RUN.iter().map(|(page, count)| ((*page).to_owned(), *count)).collect();
    assert_eq!(excluded, expected, "the table NOT_RUN is out of date");
}

#[test]
fn rule_files_are_valid() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yaml");
    for block in runnable("yaml") {
        if block.file_name.as_ref().is_some_and(|name| name.ends_with("_test.yaml")) {
            continue;
        }
        fs::write(&file, &block.text).unwrap();
        let check =
            Command::new(Tollgate::binary()).arg("check").arg(&file).env_clear().output().unwrap();
        let output = String::from_utf8_lossy(&check.stdout);
        assert!(check.status.success(), "{block}: {output}");
        assert!(output.ends_with(" 0 warnings: ok\n"), "{block}: {output}");
    }
}

/// The lines without their indentation, which differs between a page and an example.
fn flat(text: &str) -> String {
    let mut flat = String::new();
    for line in text.lines() {
        flat.push_str(line.trim_start());
        flat.push('\n');
    }
    flat
}

#[test]
fn parts_of_envoys_configuration_are_those_of_the_examples() {
    let mut examples = Vec::new();
    for entry in fs::read_dir("examples/envoy").unwrap() {
        examples.push(flat(&fs::read_to_string(entry.unwrap().path()).unwrap()));
    }
    for block in runnable("envoy") {
        let part = flat(&block.text);
        assert!(examples.iter().any(|it| it.contains(&part)), "{block}: no example has this part");
    }
}

/// The program that `tests/setup.sh` unpacks, or the one that is installed.
fn test_tool(unpacked: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools").join(unpacked);
    if path.exists() { path } else { path.file_name().unwrap().into() }
}

/// The lines that are neither empty nor comments of Lua or of configurations.
fn without_comments(text: &str) -> Vec<&str> {
    let is_code = |line: &&str| {
        let line = line.trim_start();
        !(line.is_empty() || line.starts_with('#') || line.starts_with("--"))
    };
    text.lines().filter(is_code).collect()
}

#[test]
fn printed_examples_are_the_files() {
    let mut found = 0;
    for page in pages() {
        for block in page.blocks {
            let Some(file) = block.file_name.as_ref().filter(|it| it.starts_with("examples/"))
            else {
                continue;
            };
            let example = fs::read_to_string(file).unwrap();
            assert_eq!(without_comments(&block.text), without_comments(&example), "{block}");
            found += 1;
        }
    }
    assert!(found > 0, "no page prints an example");
}

#[test]
fn each_page_with_commands_is_run() {
    let mut found = Vec::new();
    for page in pages() {
        let has_commands = |block: &Block| block.language == "console" && !block.no_run;
        if page.blocks.iter().any(has_commands) {
            found.push(page.name);
        }
    }
    let expected = [
        "README.md",
        "docs/http.md",
        "docs/middleware.md",
        "docs/migrate.md",
        "docs/operate.md",
        "docs/redis.md",
        "docs/rules.md",
        "docs/settings.md",
        "docs/testing.md",
    ];
    assert_eq!(found, expected, "add a test that runs the page");
}

#[test]
fn the_readme_prints_what_the_commands_print() {
    session::run("README.md", &[]);
}

#[test]
fn the_page_on_http_prints_what_the_commands_print() {
    session::run("docs/http.md", &[]);
}

#[test]
fn the_page_on_middleware_prints_what_the_commands_print() {
    session::run("docs/middleware.md", &[]);
}

#[test]
fn printed_files_are_those_of_the_repository() {
    for block in runnable("js") {
        let name = block.file_name.as_ref().unwrap();
        let file = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
        assert_eq!(block.text, file, "{block}");
    }
}

#[test]
fn the_page_on_migration_prints_what_the_commands_print() {
    let manifest = include_str!("../../src/cli/migrate/tests/istio.yaml");
    session::run("docs/migrate.md", &[("ratelimit.yaml", manifest)]);
}

#[test]
fn the_page_on_operation_prints_what_the_commands_print() {
    session::run("docs/operate.md", &[]);
}

#[test]
fn the_page_on_redis_prints_what_the_commands_print() {
    session::run("docs/redis.md", &[]);
}

#[test]
fn the_page_on_rules_prints_what_the_commands_print() {
    session::run("docs/rules.md", &[]);
}

#[test]
fn the_page_on_tests_prints_what_the_commands_print() {
    session::run("docs/testing.md", &[]);
}

#[test]
fn the_page_on_settings_prints_what_the_commands_print() {
    session::run("docs/settings.md", &[]);
}
