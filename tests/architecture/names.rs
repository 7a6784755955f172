//! Finds the names in the product code of a file: also in macros and attributes.

use std::collections::{BTreeMap, BTreeSet};

use syn::{
    Attribute, ExprAsync, ExprClosure, ExprMethodCall, ImplItemFn, ItemFn, ItemImpl, ItemMod,
    ItemUse, Macro, Meta, Signature, UseTree,
    buffer::{Cursor, TokenBuffer},
    ext::IdentExt,
    visit::{self, Visit},
};

pub(crate) type ModulePath = Vec<String>;

/// The names in a file.
#[derive(Default)]
pub(crate) struct Names {
    module: ModulePath,
    /// The absolute paths of own modules and their items.
    pub(crate) own_paths: Vec<ModulePath>,
    /// The own paths that `use` gives a name, by that name as an absolute path.
    pub(crate) aliases: BTreeMap<ModulePath, ModulePath>,
    /// The paths of other crates, and of names that a `use` has made short.
    pub(crate) foreign: Vec<ModulePath>,
    /// The functions and methods that are called, without their types.
    pub(crate) calls: BTreeSet<String>,
    pub(crate) has_async: bool,
}

impl Names {
    pub(crate) fn read(module: &[String], file: &syn::File) -> Self {
        let mut names = Self { module: module.to_vec(), ..Self::default() };
        names.visit_file(file);
        names
    }

    /// True if a path starts with the name of this crate.
    pub(crate) fn uses_crate(&self, name: &str) -> bool {
        self.foreign.iter().any(|path| path[0] == name)
    }

    /// The absolute path, or `None` for another crate's.
    fn absolute(&self, path: &[String]) -> Option<ModulePath> {
        let ups = path.iter().take_while(|part| *part == "super").count();
        match path.first()?.as_str() {
            "crate" | "tollgate" => Some(path[1..].to_vec()),
            "self" => Some([&self.module, &path[1..]].concat()),
            "super" => {
                let base = &self.module[..self.module.len().saturating_sub(ups)];
                Some([base, &path[ups..]].concat())
            }
            _ => None,
        }
    }

    fn add(&mut self, path: &[String]) {
        match self.absolute(path) {
            Some(own) => self.own_paths.push(own),
            None => self.foreign.push(path.to_vec()),
        }
    }

    fn add_alias(&mut self, path: &[String], name: &syn::Ident) {
        self.add(path);
        if let Some(own) = self.absolute(path) {
            let alias = [&self.module[..], &[name.to_string()]].concat();
            if alias != own {
                self.aliases.insert(alias, own);
            }
        }
    }

    fn add_tree(&mut self, prefix: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
            UseTree::Name(name) if name.ident == "self" => self.add(prefix),
            UseTree::Name(name) => self.add_alias(&with(&name.ident), &name.ident),
            UseTree::Rename(name) => self.add_alias(&with(&name.ident), &name.rename),
            UseTree::Glob(_) => self.add(prefix),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(prefix, tree);
                }
            }
        }
    }

    /// Adds a path of code. A type or a variable of the file itself starts a path as a crate does.
    fn add_path(&mut self, path: &[String]) {
        if path.len() > 1 {
            self.calls.extend(path.last().cloned());
            if path[0].starts_with(char::is_lowercase) {
                self.add(path);
            }
        }
    }

    /// Adds the paths, methods and `async` in tokens that are not parsed.
    fn add_tokens(&mut self, mut at: Cursor<'_>) {
        let mut path = Vec::new();
        let mut before = String::new();
        while !at.eof() {
            if let Some((name, rest)) = at.ident() {
                if before != "::" {
                    self.add_path(&path);
                    path.clear();
                }
                let name = name.unraw().to_string();
                self.has_async |= name == "async";
                if before == "." {
                    self.calls.insert(name.clone());
                }
                path.push(name);
                before.clear();
                at = rest;
            } else if let Some((sign, rest)) = at.punct() {
                before.push(sign.as_char());
                at = rest;
            } else if let Some((inside, _, _, rest)) = at.any_group() {
                self.add_tokens(inside);
                before = "group".to_owned();
                at = rest;
            } else {
                before = "other".to_owned();
                at = at.token_tree().map_or(at, |(_, rest)| rest);
            }
        }
        self.add_path(&path);
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

    fn visit_item_impl(&mut self, item: &ItemImpl) {
        if !is_test(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_signature(&mut self, signature: &Signature) {
        self.has_async |= signature.asyncness.is_some();
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, block: &ExprAsync) {
        self.has_async = true;
        visit::visit_expr_async(self, block);
    }

    fn visit_expr_closure(&mut self, closure: &ExprClosure) {
        self.has_async |= closure.asyncness.is_some();
        visit::visit_expr_closure(self, closure);
    }

    fn visit_expr_method_call(&mut self, call: &ExprMethodCall) {
        self.calls.insert(call.method.to_string());
        visit::visit_expr_method_call(self, call);
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let parts: Vec<_> = path.segments.iter().map(|it| it.ident.to_string()).collect();
        self.add_path(&parts);
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, attribute: &Attribute) {
        // `#[prost(...)]` is only understood by a derive of the crate of that name.
        if let Some(name) = attribute.path().get_ident() {
            self.foreign.push(vec![name.to_string()]);
        }
        if let Meta::List(list) = &attribute.meta {
            self.add_tokens(TokenBuffer::new2(list.tokens.clone()).begin());
        }
        visit::visit_attribute(self, attribute);
    }

    fn visit_macro(&mut self, call: &Macro) {
        self.add_tokens(TokenBuffer::new2(call.tokens.clone()).begin());
        visit::visit_macro(self, call);
    }
}

#[test]
fn paths_of_every_form_are_resolved() {
    let read = |text: &str| {
        let module = vec!["a".to_owned(), "b".to_owned()];
        let names = Names::read(&module, &syn::parse_str(text).unwrap());
        let join = |paths: &[ModulePath]| {
            let paths: Vec<_> = paths.iter().map(|path| path.join("::")).collect();
            paths.join(" ")
        };
        (join(&names.own_paths), join(&names.foreign))
    };
    for (text, own, foreign) in [
        ("use crate::store;", "store", ""),
        ("use crate::{limit::{self, Limit}, time as t};", "limit limit::Limit time", ""),
        ("use {crate::engine, std::fmt};", "engine", "std::fmt"),
        ("fn f(a: &crate::wire::Request) { crate::x::y() }", "wire::Request x::y", ""),
        ("use super::c; use self::d::E; use super::*;", "a::c a::b::d::E a", ""),
        ("mod inner { use super::super::c; }", "a::c", ""),
        ("#[cfg(test)] mod tests { use crate::x; }", "", ""),
        (
            "fn f() { prost::Message::new(); tokio::spawn(x) }",
            "",
            "prost::Message::new tokio::spawn",
        ),
        ("const A: &str = \"crate::x\"; // crate::y", "", ""),
        ("const A: B = c!(\"{}\", [crate::x::y(1), z]);", "x::y", ""),
        ("const A: B = c!(a.b::<crate::x>, crate::y::Z { d: e });", "x y::Z", ""),
        (
            "#[derive(Debug, prost::Message)] struct A { #[e(f)] b: c }",
            "",
            "derive prost::Message e",
        ),
    ] {
        assert_eq!(read(text), (own.to_owned(), foreign.to_owned()), "{text}");
    }
}
