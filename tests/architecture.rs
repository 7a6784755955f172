//! Holds `src/` to its own map: modules look only towards the top of `lib.rs`.
#![allow(clippy::panic, clippy::unwrap_used, reason = "this is all tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file that is longer does more than one thing.
const MAX_LINES: usize = 500;

#[test]
fn modules_depend_only_on_earlier_modules() {
    let order = modules(&fs::read_to_string("src/lib.rs").unwrap());
    assert!(order.len() > 3, "lib.rs is not read: {order:?}");
    for path in sources(Path::new("src")) {
        let module = module_path(&path);
        let Some(own) = module.first().and_then(|it| rank(&order, it)) else { continue };
        for used in used(&fs::read_to_string(&path).unwrap(), module.len()) {
            let place = path.display();
            let theirs = rank(&order, &used);
            let theirs = theirs.unwrap_or_else(|| panic!("{place}: `{used}` is not in lib.rs"));
            assert!(theirs <= own, "{place}: `{}` may not use `{used}`", order[own]);
        }
    }
}

#[test]
fn files_stay_short() {
    for path in sources(Path::new("src")) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines", path.display());
    }
}

#[test]
fn every_way_to_name_a_module_is_seen() {
    for (source, depth, expected) in [
        ("use crate::store;", 1, vec!["store"]),
        ("use crate::{limit::{self, Limit}, time as t};", 1, vec!["limit", "time"]),
        ("use {crate::engine, std::fmt};", 1, vec!["engine"]),
        ("fn f(it: &crate::wire::Request) -> Vec<crate::time::Clock> {}", 2, vec!["wire", "time"]),
        ("use tollgate::app;", 1, vec!["app"]),
        ("use super::engine;", 1, vec!["engine"]),
        ("use super::engine;", 2, vec![]),
        ("use super::super::{engine, wire::pb};", 2, vec!["engine", "wire"]),
        ("use super::{x, super::engine};", 2, vec!["engine"]),
        ("mod tests { use super::*; }", 1, vec![]),
        ("mod tests { use super::super::engine; } use super::wire;", 1, vec!["engine", "wire"]),
        ("use super::*;", 1, vec!["*"]),
        ("use crate::*;", 3, vec!["*"]),
        ("pub(crate) fn f() { \"crate::a\"; 'x'; /* crate::b */ } // crate::c", 1, vec![]),
        ("struct A<'a>(&'a u8); const B: &str = r#\"crate::\"a\"#; use crate::d;", 1, vec!["d"]),
    ] {
        assert_eq!(used(source, depth), expected, "{source}");
    }
}

/// The modules of the library, in order.
fn modules(lib: &str) -> Vec<String> {
    let name = |it: &str| Some(it.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned());
    lib.lines().filter_map(name).collect()
}

fn rank(order: &[String], module: &str) -> Option<usize> {
    order.iter().position(|it| it == module)
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
    found
}

/// `src/store/memory.rs` is `store`, `memory`.
fn module_path(file: &Path) -> Vec<String> {
    let module = file.strip_prefix("src").unwrap().with_extension("");
    module.iter().map(|it| it.to_str().unwrap().to_owned()).collect()
}

/// Every name that `source` takes from the root of the library, where `source`
/// is a module `depth` levels below that root.
fn used(source: &str, depth: usize) -> Vec<String> {
    let tokens = tokens(source);
    let mut names = Vec::new();
    // One element per open brace: whether it is that of a module.
    let mut braces = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "{" => braces.push(at >= 2 && tokens[at - 2] == "mod"),
            "}" => drop(braces.pop()),
            "crate" | "super" | "tollgate" if at == 0 || tokens[at - 1] != "::" => {
                let depth = depth + braces.iter().filter(|it| **it).count();
                let mut paths = Vec::new();
                at = read_paths(&tokens, at, &[], &mut paths);
                names.extend(paths.iter().filter_map(|it| from_root(it, depth)));
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    names.dedup();
    names
}

/// What a path in a module at `depth` takes from the root, if it goes there.
fn from_root(path: &[String], depth: usize) -> Option<String> {
    let climbed = path.iter().take_while(|it| *it == "super").count();
    match climbed {
        0 => path.get(1).cloned(),
        _ if climbed >= depth => path.get(depth).cloned(),
        _ => None,
    }
}

/// Reads one path, or what a group makes of it, from `at` on. Gives the
/// position behind it.
fn read_paths(
    tokens: &[String],
    mut at: usize,
    prefix: &[String],
    paths: &mut Vec<Vec<String>>,
) -> usize {
    let mut path = prefix.to_vec();
    let token = |at: usize| tokens.get(at).map_or("", String::as_str);
    loop {
        if token(at) == "{" {
            at += 1;
            while !matches!(token(at), "}" | "") {
                at = read_paths(tokens, at, &path, paths);
                while !matches!(token(at), "," | "}" | "") {
                    at += 1; // `as name`
                }
                at += usize::from(token(at) == ",");
            }
            return at + 1;
        }
        path.push(token(at).to_owned());
        at += 1;
        if token(at) != "::" {
            paths.push(path);
            return at;
        }
        at += 1;
    }
}

/// Words, `::` and single signs; neither comments nor literals.
fn tokens(source: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|it: char| !it.is_alphanumeric() && it != '_').unwrap_or(rest.len());
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").unwrap() + 2
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' {
            character(rest)
        } else {
            let length = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                word => word,
            };
            tokens.push(rest[..length].to_owned());
            length
        };
        rest = &rest[length..];
        rest = rest.trim_start();
    }
    tokens
}

/// The length of the raw string at the start, if there is one.
fn raw_string(source: &str) -> Option<usize> {
    let open = source.strip_prefix("br").or_else(|| source.strip_prefix('r'))?;
    let hashes = open.find(|it| it != '#')?;
    let body = open[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", &open[..hashes]);
    Some(source.len() - body.len() + body.find(&end)? + end.len())
}

/// The length of the literal at the start, which ends with `quote`.
fn quoted(source: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, it) in source.char_indices().skip(1) {
        if it == quote && !escaped {
            return at + 1;
        }
        escaped = it == '\\' && !escaped;
    }
    source.len()
}

/// The length of the character at the start, or of the quote of a lifetime.
fn character(source: &str) -> usize {
    let mut inner = source[1..].chars();
    match (inner.next(), inner.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(source, '\''),
        _ => 1,
    }
}
