//! Which limit governs a descriptor: rules, compiled once into an immutable
//! tree.
//!
//! A lookup takes one step per entry of the descriptor, and a step costs the
//! same whatever the number of rules beside it: a hash lookup for the rules
//! that name a value, a search among the patterns of this one level if there are
//! any (see `patterns`), and a hash lookup for the rule that takes any value. It
//! allocates nothing, unless an entry of more than 128 bytes meets a level with
//! patterns or with a rule as long as that, or an entry has some pieces of many
//! patterns that differ between their first and their last `*` alone.

use std::{collections::HashMap, sync::Arc};

use smallvec::SmallVec;

use crate::{
    counter::{CounterRef, KeyFormat, KeyPart},
    descriptor::Entry,
    limit::Limit,
    time::Timestamp,
};

pub mod pattern;
mod patterns;
pub mod spec;
pub mod stat_name;

use self::{
    pattern::Pattern,
    patterns::Patterns,
    spec::{DescriptorSpec, DomainSpec, RuleSpec},
    stat_name::StatName,
};

/// How many bytes of an entry are joined without an allocation.
const INLINE: usize = 128;

/// All rules in force.
#[derive(Debug, Default)]
pub struct RuleTree {
    /// Whether this was made from a load; only the stand-in before the first
    /// one was not.
    loaded: bool,
    domains: HashMap<Box<[u8]>, Domain, foldhash::fast::RandomState>,
    /// In the order of the files.
    rules: Vec<Arc<Rule>>,
}

/// The rules of one domain.
#[derive(Debug)]
pub struct Domain {
    name: Arc<str>,
    root: Level,
}

/// Rules that stand beside one another in one list.
#[derive(Debug, Default)]
struct Level {
    /// By key, or by key, underscore and value.
    exact: HashMap<Box<[u8]>, Node, foldhash::fast::RandomState>,
    /// The length of the longest key of `exact`: nothing longer is in there.
    longest: usize,
    /// The first that matches wins.
    patterns: Patterns,
    /// What follows each of them.
    behind_patterns: Vec<Node>,
}

/// What follows a match.
#[derive(Debug, Default)]
struct Node {
    rule: Option<Arc<Rule>>,
    below: Option<Box<Level>>,
}

/// One limit, and all that is said about it.
#[derive(Debug)]
pub struct Rule {
    /// Its position in [`RuleTree::rules`].
    pub index: usize,
    /// The domain it belongs to.
    pub domain: Arc<str>,
    /// How it was written.
    pub spec: RuleSpec,
    /// The way from the root of the domain. Never empty.
    steps: Vec<Step>,
    /// Its name in the statistics, unless that depends on the request.
    stat_name: Arc<StatName>,
    /// Whether the name in the statistics depends on the request.
    named_by_request: bool,
}

/// One level of a rule's way from the root.
#[derive(Clone, Debug)]
struct Step {
    /// The key, with the value behind an underscore if there is one.
    composite: Arc<str>,
    key_length: usize,
    is_pattern: bool,
    value_to_metric: bool,
    share_threshold: bool,
}

impl Step {
    fn new(spec: &DescriptorSpec) -> Self {
        let composite = spec.composite_key();
        Self {
            key_length: spec.key.len(),
            is_pattern: composite.contains('*'),
            value_to_metric: spec.value_to_metric,
            share_threshold: spec.share_threshold,
            composite: composite.into(),
        }
    }

    /// The value as it is written, or nothing.
    fn value(&self) -> &str {
        self.composite.get(self.key_length + 1..).unwrap_or_default()
    }

    /// The text under which all values of this step count together, if they do.
    fn shared(&self) -> Option<&str> {
        (self.is_pattern && self.share_threshold).then(|| self.value())
    }
}

impl RuleTree {
    /// Compiles what the rule files say.
    ///
    /// The caller has checked it (see [`crate::config`]): no domain and no
    /// composite key of a list occurs twice. If one does, the last is kept.
    pub fn compile(domains: Vec<DomainSpec>) -> Self {
        let mut tree = Self { loaded: true, ..Self::default() };
        for spec in domains {
            let name: Arc<str> = spec.domain.into();
            let mut compiler = Compiler { domain: &name, rules: &mut tree.rules, path: Vec::new() };
            let root = compiler.level(spec.descriptors);
            tree.domains.insert(name.as_bytes().into(), Domain { name, root });
        }
        tree
    }

    /// The rules of the domain called `name`.
    pub fn domain(&self, name: &[u8]) -> Option<&Domain> {
        self.domains.get(name)
    }

    /// Whether this was made from definitions, even from none. The default,
    /// which stands in until the first load, was not.
    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// How many domains there are.
    pub fn domain_count(&self) -> usize {
        self.domains.len()
    }

    /// Every rule that has a limit, in the order of the files.
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }
}

impl Domain {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The rule that governs a descriptor of these entries.
    ///
    /// At each level a rule that names the value comes before a pattern, and a
    /// pattern before a rule that takes any value. There is no way back: once a
    /// level has chosen, the rest of the descriptor is matched below that
    /// choice or not at all. A rule applies only to a descriptor that ends
    /// where the rule does.
    pub fn find(&self, entries: &[Entry]) -> Option<&Arc<Rule>> {
        let (last, first) = entries.split_last()?;
        let mut level = &self.root;
        for entry in first {
            level = level.find(entry)?.below.as_deref()?;
        }
        level.find(last)?.rule.as_ref()
    }
}

impl Level {
    fn find(&self, entry: &Entry) -> Option<&Node> {
        let (key, value) = (entry.key.as_ref(), entry.value.as_ref());
        let length = key.len() + 1 + value.len();
        if length <= self.longest || !self.patterns.is_empty() {
            let joined = join(key, value);
            let exact = self.exact.get(joined.as_slice());
            let found = exact.or_else(|| self.first_pattern(&joined));
            if found.is_some() {
                return found;
            }
        }
        self.exact.get(key)
    }

    fn first_pattern(&self, joined: &[u8]) -> Option<&Node> {
        self.patterns.first(joined).map(|it| &self.behind_patterns[it])
    }
}

/// `key`, an underscore and `value`: what a rule's composite key is compared
/// with. That makes `a` with `b_c` and `a_b` with `c` the same, as in Envoy's
/// reference service; their counters differ all the same.
fn join(key: &[u8], value: &[u8]) -> SmallVec<[u8; INLINE]> {
    let mut joined = SmallVec::with_capacity(key.len() + 1 + value.len());
    joined.extend_from_slice(key);
    joined.push(b'_');
    joined.extend_from_slice(value);
    joined
}

impl Rule {
    fn new(index: usize, domain: &Arc<str>, spec: RuleSpec, path: &[Step]) -> Self {
        let named_by_request = spec.detailed_metric || path.iter().any(|it| it.value_to_metric);
        let components = path.iter().map(|it| it.composite.to_string());
        Self {
            index,
            domain: Arc::clone(domain),
            stat_name: Arc::new(StatName::new(domain, components)),
            named_by_request,
            steps: path.to_vec(),
            spec,
        }
    }

    /// Whether everything passes.
    pub fn is_unlimited(&self) -> bool {
        self.spec.limits.is_empty()
    }

    /// Its name in the statistics if the request does not matter.
    pub fn stat_name(&self) -> &Arc<StatName> {
        &self.stat_name
    }

    /// Its name in the statistics for a descriptor of these entries, where that
    /// depends on them: where the rule says `detailed_metric` or
    /// `value_to_metric`.
    pub fn stat_name_for(&self, entries: &[Entry]) -> Option<StatName> {
        self.named_by_request.then(|| stat_name::of_request(self, entries))
    }

    /// The counter of `limit`, one of this rule's, for a descriptor of these
    /// entries at `now`.
    pub fn counter(
        &self,
        limit: &Limit,
        format: &KeyFormat,
        entries: &[Entry],
        now: Timestamp,
    ) -> CounterRef {
        let parts = entries.iter().zip(&self.steps).map(|(entry, step)| match step.shared() {
            Some(pattern) => KeyPart { key: &entry.key, value: pattern.as_bytes(), shared: true },
            None => KeyPart { key: &entry.key, value: &entry.value, shared: false },
        });
        let domain = self.domain.as_bytes();
        match self.spec.limits.len() {
            0 | 1 => format.key(domain, parts, limit, now),
            _ => format.key_of_several(domain, parts, limit, now),
        }
    }
}

/// The way from the root to the level that is being compiled.
struct Compiler<'a> {
    domain: &'a Arc<str>,
    rules: &'a mut Vec<Arc<Rule>>,
    path: Vec<Step>,
}

impl Compiler<'_> {
    fn level(&mut self, descriptors: Vec<DescriptorSpec>) -> Level {
        let (mut level, mut patterns) = (Level::default(), Vec::new());
        for spec in descriptors {
            let step = Step::new(&spec);
            let composite = Arc::clone(&step.composite);
            let is_pattern = step.is_pattern;
            self.path.push(step);
            let node = self.node(spec);
            self.path.pop();
            if is_pattern {
                patterns.push(Pattern::new(composite.as_bytes()));
                level.behind_patterns.push(node);
            } else {
                level.longest = level.longest.max(composite.len());
                level.exact.insert(composite.as_bytes().into(), node);
            }
        }
        level.patterns = Patterns::new(patterns);
        level
    }

    fn node(&mut self, spec: DescriptorSpec) -> Node {
        let rule = spec.rule.map(|spec| {
            let rule = Arc::new(Rule::new(self.rules.len(), self.domain, spec, &self.path));
            self.rules.push(Arc::clone(&rule));
            rule
        });
        let below = (!spec.descriptors.is_empty()).then(|| Box::new(self.level(spec.descriptors)));
        Node { rule, below }
    }
}

#[cfg(test)]
mod tests;
