//! Holds `src/` to the map in `lib.rs`.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "this is all tests"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, ImplItemFn, ItemFn, ItemMod, ItemUse, UseTree,
    visit::{self, Visit},
};

/// A file that is longer does more than one thing.
const MAX_LINES: usize = 500;

/// The modules that `lib.rs` calls pure.
const PURE: [&str; 7] = ["duration", "net", "limit", "counter", "descriptor", "rules", "config"];

type ModulePath = Vec<String>;

/// A source file.
struct Source {
    path: PathBuf,
    module: ModulePath,
    /// The absolute paths that its product code names, without those of other crates.
    own_paths: Vec<ModulePath>,
    /// The crates that its product code names, and `std` modules as `std::sync`.
    crates: BTreeSet<String>,
    has_async: bool,
}

#[test]
fn modules_depend_only_on_modules_above_them() {
    let order = module_order();
    for source in sources() {
        let Some(own) = rank(&order, &source.module) else { continue };
        for used in &source.own_paths {
            let Some(theirs) = rank(&order, used) else { continue };
            let path = source.path.display();
            assert!(theirs <= own, "{path}: `{}` may not use `{}`", order[own], order[theirs]);
        }
    }
}

/// Two modules with the same parent never use each other, not even through others.
#[test]
fn siblings_form_no_circle() {
    let sources = sources();
    let modules: BTreeSet<&ModulePath> = sources.iter().map(|source| &source.module).collect();
    let mut edges: BTreeMap<ModulePath, BTreeSet<ModulePath>> = BTreeMap::new();
    for source in &sources {
        for used in &source.own_paths {
            if let Some((from, to)) = sibling_edge(&source.module, used, &modules) {
                edges.entry(from).or_default().insert(to);
            }
        }
    }
    let mut circles = Vec::new();
    for start in edges.keys() {
        if reachable(&edges, start).contains(start) {
            circles.push(start.join("::"));
        }
    }
    assert!(circles.is_empty(), "these modules use each other: {}", circles.join(", "));
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

#[test]
fn pure_modules_know_no_clock_no_socket_no_lock_and_no_runtime() {
    const IMPURE: [&str; 10] = [
        "tokio",
        "parking_lot",
        "arc_swap",
        "fastrand",
        "tracing",
        "axum",
        "tonic",
        "redis",
        "std::fs",
        "std::env",
    ];
    for source in sources() {
        if source.module.first().is_some_and(|top| PURE.contains(&top.as_str())) {
            let path = source.path.display();
            for used in IMPURE {
                assert!(!source.crates.contains(used), "{path} uses {used}");
            }
            assert!(!source.has_async, "{path} has an `async fn`");
        }
    }
}

#[test]
fn each_crate_stays_in_its_modules() {
    for (name, modules) in [
        ("prost", &["grpc", "xds"][..]),
        ("prost_types", &["grpc", "xds"]),
        ("tonic_prost", &["grpc", "xds"]),
        ("tonic_reflection", &["grpc"]),
        ("h2", &["grpc"]),
        ("hyper", &["http"]),
        ("opentelemetry", &["spans"]),
        ("opentelemetry_sdk", &["spans"]),
        ("opentelemetry_otlp", &["spans"]),
        ("prometheus", &["metrics"]),
        ("redis", &["store", "settings"]),
        ("clap", &["settings", "cli"]),
        ("granit_parser", &["config"]),
    ] {
        let mut found = false;
        for source in sources() {
            if source.crates.contains(name) {
                found = true;
                let top = source.module.first().map_or("", String::as_str);
                assert!(modules.contains(&top), "{} uses {name}", source.path.display());
            }
        }
        assert!(found, "nothing uses {name}: this test reads the sources wrongly");
    }
}

#[test]
fn files_stay_short() {
    for source in sources() {
        let lines = fs::read_to_string(&source.path).unwrap().lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines", source.path.display());
    }
}

#[test]
fn paths_of_every_form_are_resolved() {
    let read = |text: &str| {
        let module = vec!["a".to_owned(), "b".to_owned()];
        let names = Names::read(&module, &syn::parse_str(text).unwrap());
        let paths: Vec<_> = names.own_paths.iter().map(|path| path.join("::")).collect();
        let crates: Vec<_> = names.crates.into_iter().collect();
        (paths.join(" "), crates.join(" "))
    };
    for (text, paths, crates) in [
        ("use crate::store;", "store", ""),
        ("use crate::{limit::{self, Limit}, time as t};", "limit limit::Limit time", ""),
        ("use {crate::engine, std::fmt};", "engine", "std std::fmt"),
        ("fn f(a: &crate::wire::Request) { crate::x::y() }", "wire::Request x::y", ""),
        ("use super::c; use self::d::E; use super::*;", "a::c a::b::d::E a", ""),
        ("mod inner { use super::super::c; }", "a::c", ""),
        ("#[cfg(test)] mod tests { use crate::x; }", "", ""),
        ("fn f() { prost::Message::new(); tokio::spawn(x) }", "", "prost tokio"),
        ("const A: &str = \"crate::x\"; // crate::y", "", ""),
    ] {
        assert_eq!(read(text), (paths.to_owned(), crates.to_owned()), "{text}");
    }
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

fn rank(order: &[String], path: &[String]) -> Option<usize> {
    let top = path.first()?;
    order.iter().position(|module| module == top)
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

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    collect(Path::new("src"), &mut found);
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && stem != "tests" {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && stem != "tests" {
            let module = match stem.as_str() {
                "lib" => Vec::new(),
                _ => module_path(&path),
            };
            let file = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
            let Names { own_paths, crates, has_async, .. } = Names::read(&module, &file);
            found.push(Source { path, module, own_paths, crates, has_async });
        }
    }
}

/// `src/store/memory.rs` is `store::memory`.
fn module_path(file: &Path) -> ModulePath {
    let module = file.strip_prefix("src").unwrap().with_extension("");
    module.iter().map(|part| part.to_str().unwrap().to_owned()).collect()
}

/// Collects the names in product code.
struct Names {
    module: ModulePath,
    own_paths: Vec<ModulePath>,
    crates: BTreeSet<String>,
    has_async: bool,
}

impl Names {
    fn read(module: &[String], file: &syn::File) -> Self {
        let (own_paths, crates) = (Vec::new(), BTreeSet::new());
        let mut names = Self { module: module.to_vec(), own_paths, crates, has_async: false };
        names.visit_file(file);
        names
    }

    fn add(&mut self, path: &[String]) {
        let ups = path.iter().take_while(|part| *part == "super").count();
        match path.first().map(String::as_str) {
            None => {}
            Some("crate" | "tollgate") => self.own_paths.push(path[1..].to_vec()),
            Some("self") => self.own_paths.push([&self.module, &path[1..]].concat()),
            Some("super") => {
                let base = &self.module[..self.module.len().saturating_sub(ups)];
                self.own_paths.push([base, &path[ups..]].concat());
            }
            Some(name) => {
                self.crates.insert(name.to_owned());
                if name == "std"
                    && let Some(module) = path.get(1)
                {
                    self.crates.insert(format!("std::{module}"));
                }
            }
        }
    }

    fn add_tree(&mut self, prefix: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
            UseTree::Name(name) if name.ident == "self" => self.add(prefix),
            UseTree::Name(name) => self.add(&with(&name.ident)),
            UseTree::Rename(name) => self.add(&with(&name.ident)),
            UseTree::Glob(_) => self.add(prefix),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(prefix, tree);
                }
            }
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is_cfg = attribute.path().is_ident("cfg");
        let is_test = is_cfg && attribute.parse_args::<syn::Ident>().is_ok_and(|it| it == "test");
        is_test || attribute.path().is_ident("test")
    })
}

impl Visit<'_> for Names {
    fn visit_item_mod(&mut self, module: &ItemMod) {
        if !is_test(&module.attrs) {
            self.module.push(module.ident.to_string());
            visit::visit_item_mod(self, module);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        if !is_test(&item.attrs) {
            self.add_tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        if path.segments.len() > 1 {
            let parts: Vec<_> = path.segments.iter().map(|it| it.ident.to_string()).collect();
            // A type or a variable of the file itself starts a path as a crate does.
            if parts[0].starts_with(char::is_lowercase) {
                self.add(&parts);
            }
        }
        visit::visit_path(self, path);
    }

    fn visit_item_fn(&mut self, item: &ItemFn) {
        if !is_test(&item.attrs) {
            self.has_async |= item.sig.asyncness.is_some();
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &ImplItemFn) {
        if !is_test(&item.attrs) {
            self.has_async |= item.sig.asyncness.is_some();
            visit::visit_impl_item_fn(self, item);
        }
    }
}
