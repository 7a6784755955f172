//! The rules for `src/`: each returns a sentence for each violation.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use crate::{Source, names::ModulePath};

/// The modules that `lib.rs` calls pure.
const PURE: [&str; 9] = [
    "duration",
    "printable",
    "net",
    "limit",
    "counter",
    "descriptor",
    "mapping",
    "rules",
    "config",
];

/// The parts of `std` that pure modules may name. A new one must not touch the system.
const PURE_STD: [&str; 27] = [
    "std::array",
    "std::borrow",
    "std::cmp",
    "std::collections",
    "std::convert",
    "std::error",
    "std::fmt",
    "std::hash",
    "std::iter",
    "std::marker",
    "std::mem",
    "std::num",
    "std::ops",
    "std::ptr",
    "std::rc",
    "std::slice",
    "std::str",
    "std::string",
    "std::vec",
    "std::net::IpAddr",
    "std::net::Ipv4Addr",
    "std::net::Ipv6Addr",
    "std::net::SocketAddr",
    "std::path::Path",
    "std::path::PathBuf",
    "std::sync::Arc",
    "std::time::Duration",
];

const IMPURE_CRATES: [&str; 13] = [
    "tokio",
    "parking_lot",
    "arc_swap",
    "fastrand",
    "tracing",
    "axum",
    "hyper",
    "h2",
    "tonic",
    "redis",
    "rustix",
    "socket2",
    "futures_util",
];

/// The modules that are not pure themselves, but that pure modules may use for their types.
const USED_BY_PURE: [&str; 2] = ["time", "time_zones"];

/// Functions that read a clock or a file, by any type.
const IMPURE_CALLS: [&str; 12] = [
    "now",
    "elapsed",
    "exists",
    "try_exists",
    "is_file",
    "is_dir",
    "is_symlink",
    "canonicalize",
    "symlink_metadata",
    "read_dir",
    "read_link",
    "to_socket_addrs",
];

/// The modules that may use a crate.
const HOMES: [(&str, &[&str]); 14] = [
    ("prost", &["grpc", "ext_authz", "xds"]),
    ("prost_types", &["grpc", "ext_authz", "xds"]),
    ("tonic_prost", &["grpc", "ext_authz", "xds"]),
    ("tonic_reflection", &["grpc"]),
    ("h2", &["grpc"]),
    ("hyper", &["http"]),
    ("opentelemetry", &["spans"]),
    ("opentelemetry_sdk", &["spans"]),
    ("opentelemetry_otlp", &["spans"]),
    ("opentelemetry_http", &["spans"]),
    ("prometheus", &["metrics"]),
    ("redis", &["store", "settings"]),
    ("clap", &["settings", "cli"]),
    ("granit_parser", &["config"]),
];

/// All violations in these files.
pub(crate) fn complaints(sources: &[Source]) -> Vec<String> {
    let mut found = circles(sources);
    let order = module_order();
    for source in sources {
        for problem in upward(source, &order).into_iter().chain(homes(source)).chain(impure(source))
        {
            found.push(format!("{} {problem}", source.path.display()));
        }
    }
    for (name, _) in HOMES {
        let used = sources.iter().any(|source| source.names.uses_crate(name));
        assert!(used, "nothing uses {name}: this test reads the sources wrongly");
    }
    found
}

/// The modules in the order of `lib.rs`.
fn module_order() -> Vec<String> {
    let mut order = Vec::new();
    for line in fs::read_to_string("src/lib.rs").unwrap().lines() {
        if let Some(name) = line.strip_prefix("pub mod ") {
            order.push(name.trim_end_matches(';').to_owned());
        }
    }
    assert!(order.len() > 3, "lib.rs is not read: {order:?}");
    order
}

/// Modules depend only on modules above them.
fn upward(source: &Source, order: &[String]) -> Vec<String> {
    let rank = |path: &ModulePath| order.iter().position(|module| Some(module) == path.first());
    let mut found = Vec::new();
    let Some(own) = rank(&source.module) else { return found };
    for used in &source.names.own_paths {
        if rank(used).is_some_and(|theirs| theirs > own) {
            found.push(format!("may not use {}", used.join("::")));
        }
    }
    found
}

/// Each crate stays in its modules.
fn homes(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (name, modules) in HOMES {
        if source.names.uses_crate(name) && !modules.contains(&source.top()) {
            found.push(format!("may not use {name}"));
        }
    }
    found
}

/// Pure modules know no clock, no socket, no file, no lock and no runtime.
fn impure(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    if !PURE.contains(&source.top()) {
        return found;
    }
    for path in &source.names.foreign {
        let name = path.join("::");
        let is_pure_std = PURE_STD.iter().any(|pure| {
            name.strip_prefix(pure).is_some_and(|it| it.is_empty() || it.starts_with("::"))
        });
        let is_std = ["std", "core", "alloc"].contains(&path[0].as_str());
        if (is_std && !is_pure_std) || IMPURE_CRATES.contains(&path[0].as_str()) {
            found.push(format!("is pure and may not use {name}"));
        }
    }
    for path in &source.names.own_paths {
        let is_pure =
            |top: &String| PURE.contains(&top.as_str()) || USED_BY_PURE.contains(&top.as_str());
        if !path.first().is_none_or(is_pure) {
            found.push(format!("is pure and may not use {}", path.join("::")));
        }
    }
    for call in IMPURE_CALLS {
        if source.names.calls.contains(call) {
            found.push(format!("is pure and may not call {call}"));
        }
    }
    if source.names.has_async {
        found.push("is pure and may not be async".to_owned());
    }
    found
}

/// Two modules with the same parent never use each other, not even through others, and not under
/// another name that a `use` gives.
fn circles(sources: &[Source]) -> Vec<String> {
    let modules: BTreeSet<&ModulePath> = sources.iter().map(|source| &source.module).collect();
    let mut aliases = BTreeMap::new();
    for source in sources {
        aliases.extend(&source.names.aliases);
    }
    let mut edges: BTreeMap<ModulePath, BTreeSet<ModulePath>> = BTreeMap::new();
    for source in sources {
        for used in &source.names.own_paths {
            let used = resolve(used, &aliases);
            if let Some((from, to)) = sibling_edge(&source.module, &used, &modules) {
                edges.entry(from).or_default().insert(to);
            }
        }
    }
    let mut found = Vec::new();
    for start in edges.keys() {
        if reachable(&edges, start).contains(start) {
            found.push(format!("{} is in a circle", start.join("::")));
        }
    }
    found
}

/// Replaces names that a `use` has given by those of the definition.
fn resolve(path: &[String], aliases: &BTreeMap<&ModulePath, &ModulePath>) -> ModulePath {
    let mut path = path.to_vec();
    // Names that lead to each other would go on forever.
    for _ in 0..8 {
        let known = |end: &usize| aliases.contains_key(&path[..*end].to_vec());
        let Some(end) = (1..=path.len()).find(known) else { break };
        path = [aliases[&path[..end].to_vec()], &path[end..]].concat();
    }
    path
}

fn reachable(
    edges: &BTreeMap<ModulePath, BTreeSet<ModulePath>>,
    start: &ModulePath,
) -> BTreeSet<ModulePath> {
    let mut found = BTreeSet::new();
    let mut open = vec![start];
    while let Some(module) = open.pop() {
        for next in edges.get(module).into_iter().flatten() {
            if found.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    found
}

/// The two siblings below the common parent of a module and a path that it uses.
fn sibling_edge(
    module: &ModulePath,
    used: &[String],
    modules: &BTreeSet<&ModulePath>,
) -> Option<(ModulePath, ModulePath)> {
    let common = module.iter().zip(used).take_while(|(own, other)| own == other).count();
    if common == 0 || module.len() == common {
        return None;
    }
    let to = used.get(..=common)?.to_vec();
    let from = module[..=common].to_vec();
    if modules.contains(&to) { Some((from, to)) } else { None }
}
