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

use crate::descriptor::Entry;

mod compiler;
mod level;
pub mod pattern;
mod patterns;
mod rule;
pub mod spec;
pub mod stat_name;
mod step;

pub use self::rule::Rule;
use self::{compiler::Compiler, level::Level, spec::DomainSpec};

/// All rules that are active at the same time.
#[derive(Debug, Default)]
pub struct RuleTree {
    is_loaded: bool,
    domains: HashMap<Box<[u8]>, Domain, foldhash::fast::RandomState>,
    rules: Vec<Arc<Rule>>,
}

/// The rules of one domain.
#[derive(Debug)]
pub struct Domain {
    name: Arc<str>,
    root: Level,
}

impl RuleTree {
    /// Compiles the rules of all domains.
    ///
    /// Names of domains, and composite keys within a list, should be unique,
    /// which [`crate::config`] checks. Of duplicates, the last one is used.
    pub fn compile(domains: Vec<DomainSpec>) -> Self {
        let mut tree = Self { is_loaded: true, ..Self::default() };
        for spec in domains {
            let name: Arc<str> = spec.domain.into();
            let root = Compiler::new(&name, &mut tree.rules).level(spec.descriptors);
            tree.domains.insert(name.as_bytes().into(), Domain { name, root });
        }
        tree
    }

    /// The rules of the domain called `name`.
    pub fn domain(&self, name: &[u8]) -> Option<&Domain> {
        self.domains.get(name)
    }

    /// True for a compiled tree, even an empty one. False for the default, which
    /// is used until the rules have been loaded for the first time.
    pub fn is_loaded(&self) -> bool {
        self.is_loaded
    }

    /// The number of domains, including those without rules.
    pub fn domain_count(&self) -> usize {
        self.domains.len()
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
    /// At each level, a rule that names the value comes first, then a pattern,
    /// then a rule that matches any value. The search does not backtrack: if the
    /// following entries match nothing below the chosen rule, no rule applies. A
    /// rule applies only to descriptors with as many entries as the rule.
    pub fn find(&self, entries: &[Entry]) -> Option<&Arc<Rule>> {
        let (last, first) = entries.split_last()?;
        let mut level = &self.root;
        for entry in first {
            level = level.find(entry)?.children.as_deref()?;
        }
        level.find(last)?.rule.as_ref()
    }
}

#[cfg(test)]
mod tests;
