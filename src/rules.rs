//! Finds the rule for a descriptor, in a tree that is compiled once and never
//! changes.
//!
//! A lookup takes one step for each entry of the descriptor. The time of a step
//! does not grow with the number of rules at that level: it is a hash lookup for
//! the rules that name the value, a search among the patterns of the level (see
//! `patterns`), and a hash lookup for the rule that matches any value.
//!
//! A lookup allocates only in two cases: for an entry of more than 128 bytes, if
//! the level has patterns or a rule of that length; and for an entry that
//! contains pieces of many patterns that differ only between their first and
//! their last `*`.

use std::{collections::HashMap, sync::Arc};

use crate::{descriptor::Entry, mapping::Mapping};

mod compiler;
mod digest;
mod element;
pub mod explain;
mod level;
pub mod lookup;
pub mod pattern;
mod patterns;
mod rule;
pub mod spec;
pub mod stat_name;
mod step;

use self::{
    compiler::Compiler,
    level::{Found, Level},
    lookup::{Lookup, LookupEnd, LookupStep},
    spec::DomainSpec,
};
pub use self::{element::Element, rule::Rule};

/// All rules that are active at the same time.
#[derive(Debug, Default)]
pub struct RuleTree {
    is_loaded: bool,
    domains: HashMap<Box<[u8]>, Domain, foldhash::fast::RandomState>,
    rules: Vec<Arc<Rule>>,
    digest: String,
}

/// Why a domain has no descriptors of HTTP requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMapping {
    /// No rules have been loaded since the start.
    NoRules,
    /// There is no such domain.
    UnknownDomain,
    /// The domain has no `http`.
    NoHttp,
}

/// The rules of one domain.
#[derive(Debug)]
pub struct Domain {
    name: Arc<str>,
    root: Level,
    mapping: Option<Mapping>,
}

impl RuleTree {
    /// Compiles the rules of all domains.
    ///
    /// Names of domains, and composite keys within a list, should be unique,
    /// which [`crate::config`] checks. Of duplicates, the last one is used.
    pub fn compile(domains: Vec<DomainSpec>) -> Self {
        let digest = digest::digest(&domains);
        let mut tree = Self { is_loaded: true, digest, ..Self::default() };
        for spec in domains {
            let name: Arc<str> = spec.domain.into();
            let root = Compiler::new(&name, &mut tree.rules).level(spec.descriptors);
            let mapping = spec.http.map(|http| Mapping::new(&name, http));
            tree.domains.insert(name.as_bytes().into(), Domain { name, root, mapping });
        }
        tree
    }

    /// The rules of the domain called `name`.
    pub fn domain(&self, name: &[u8]) -> Option<&Domain> {
        self.domains.get(name)
    }

    /// The domain called `name`, and the descriptors of HTTP requests in it.
    ///
    /// # Errors
    ///
    /// The reason why there are none.
    pub fn mapping(&self, name: &[u8]) -> Result<(&Domain, &Mapping), NoMapping> {
        if !self.is_loaded {
            return Err(NoMapping::NoRules);
        }
        let domain = self.domain(name).ok_or(NoMapping::UnknownDomain)?;
        let mapping = domain.mapping.as_ref().ok_or(NoMapping::NoHttp)?;
        Ok((domain, mapping))
    }

    /// True for a compiled tree, even an empty one. False for the default, which
    /// is used until the rules have been loaded for the first time.
    pub fn is_loaded(&self) -> bool {
        self.is_loaded
    }

    /// 16 hexadecimal digits, which two sets of rules share only if they are the same, also in
    /// their places in the sources. Empty before the first load.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The number of domains, including those without rules.
    pub fn domain_count(&self) -> usize {
        self.domains.len()
    }

    /// The names of all domains, in no order.
    pub fn domain_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.domains.values().map(|domain| &domain.name)
    }

    /// Every rule, in the order of the sources.
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }
}

impl Domain {
    /// The name as it was written in the source.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The rule that applies to a descriptor with these entries.
    ///
    /// At each level, a rule with the text of the entry comes first, then the first
    /// pattern that matches, then a rule that matches any value. The search does not
    /// backtrack: if the following entries match nothing below the chosen rule, no rule
    /// applies. A rule applies only to descriptors with as many entries as the rule.
    pub fn find(&self, entries: &[Entry]) -> Option<&Arc<Rule>> {
        walk(&self.root, entries, |_| {}).rule()
    }

    /// The lookup that [`Self::find`] makes, with its steps.
    pub fn lookup(&self, entries: &[Entry]) -> Lookup<'_> {
        let mut steps = Vec::new();
        let end = walk(&self.root, entries, |Found { branch, by }| {
            steps.push(LookupStep { element: &branch.element, by });
        });
        Lookup { steps, end }
    }
}

/// Looks `entries` up from `level` on, and calls `on_match` with the element that matches
/// each of them.
fn walk<'t>(
    mut level: &'t Level,
    entries: &[Entry],
    mut on_match: impl FnMut(Found<'t>),
) -> LookupEnd<'t> {
    let Some((last, first)) = entries.split_last() else { return LookupEnd::NoEntries };
    for entry in first {
        let Some(found) = level.find(entry) else { return LookupEnd::NoElement };
        on_match(found);
        let Some(children) = found.branch.children.as_deref() else {
            return LookupEnd::NothingBelow;
        };
        level = children;
    }
    let Some(found) = level.find(last) else { return LookupEnd::NoElement };
    on_match(found);
    match &found.branch.rule {
        Some(rule) => LookupEnd::Rule(rule),
        None => LookupEnd::NoLimit,
    }
}

#[cfg(test)]
mod tests;
