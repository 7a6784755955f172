//! From YAML nodes to what they say about a domain.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    keys::{self, Home, KEYS},
    lint,
    report::{Place, Report, quote},
    tree,
    yaml::{self, Map, Node, Value},
};
use crate::rules::spec::{DescriptorSpec, RuleSpec};

pub(super) mod accuracy;
mod combination;
mod fields;
mod json;
mod limit;
mod window;

/// What one file, or several of them, say about one domain.
#[derive(Debug)]
pub(super) struct Domain {
    pub(super) name: Arc<str>,
    pub(super) place: Place,
    pub(super) descriptors: Vec<Sibling>,
    /// The names of its rules.
    pub(super) names: HashSet<Arc<str>>,
    /// What its rules replace, and where they say so.
    pub(super) replaced: Vec<(Arc<str>, Place)>,
}

/// An element of a list of descriptors.
#[derive(Debug)]
pub(super) struct Sibling {
    /// Without its own descriptors, which are in `below`.
    pub(super) spec: DescriptorSpec,
    pub(super) composite: String,
    pub(super) place: Place,
    pub(super) below: Vec<Sibling>,
}

impl Sibling {
    pub(super) fn into_spec(mut self) -> DescriptorSpec {
        self.spec.descriptors = self.below.into_iter().map(Self::into_spec).collect();
        self.spec
    }
}

impl Domain {
    /// Adds what another file says about the same domain.
    pub(super) fn merge(&mut self, other: Self) {
        self.descriptors.extend(other.descriptors);
        self.names.extend(other.names);
        self.replaced.extend(other.replaced);
    }
}

/// What file `index` says, but for what is wrong with it, which is reported;
/// none if it cannot be understood at all.
pub(super) fn file(report: &mut Report<'_>, index: usize) -> Option<Domain> {
    let root = match report.tree(index) {
        Some(_) => tree::nodes(report, index)?,
        None => yaml::parse(report, index)?,
    };
    let place = report.top(index);
    let mut reader = Reader {
        report,
        domain: Domain {
            name: Arc::default(),
            place,
            descriptors: Vec::new(),
            names: HashSet::new(),
            replaced: Vec::new(),
        },
    };
    reader.file(&root);
    Some(reader.domain)
}

/// Reports elements of one list that take the same.
pub(super) fn duplicates(siblings: &[Sibling], report: &mut Report<'_>) {
    let mut seen: HashMap<&str, Place> = HashMap::with_capacity(siblings.len());
    for it in siblings.iter().filter(|it| !it.spec.key.is_empty()) {
        if let Some(&first) = seen.get(it.composite.as_str()) {
            let (name, first) = (quote(&it.composite), report.place(first));
            let message = format!("the key and value {name} are already in this list, at {first}");
            report.mistake(it.place, message, Some("remove one of them".into()));
        } else {
            seen.insert(&it.composite, it.place);
        }
    }
}

struct Reader<'a, 'r> {
    report: &'r mut Report<'a>,
    domain: Domain,
}

impl<'a> Reader<'a, '_> {
    fn file(&mut self, root: &Node<'a>) {
        let top = self.report.top(root.place.file);
        let empty = Map::default();
        let map = match &root.value {
            Value::Map(map) => map,
            _ if root.is_null() => &empty,
            _ => return self.wrong(root, "the file", "a map with `domain` and `descriptors`"),
        };
        self.check_keys(map, Home::File);
        self.domain.name = self.text(map, Home::File, "domain").into();
        if let Some(entry) = map.get("domain") {
            self.domain.place = entry.place;
        }
        if self.domain.name.is_empty() && self.expects_domain(map) {
            let place = map.get("domain").map_or(top, |it| it.place);
            let message = "there is no `domain`, expected one that is not empty";
            self.report.mistake(place, message, Some("add `domain: …` at the top".into()));
        }
        self.domain.descriptors = self.descriptors(map, Home::File);
    }

    /// Whether an empty domain has not been explained yet.
    fn expects_domain(&self, map: &Map<'a>) -> bool {
        map.get("domain").is_none_or(|it| self.is_text(&it.node))
    }

    fn descriptors(&mut self, map: &Map<'a>, home: Home) -> Vec<Sibling> {
        let list = self.list(map, home, "descriptors");
        list.iter().filter_map(|it| self.descriptor(it)).collect()
    }

    fn descriptor(&mut self, node: &Node<'a>) -> Option<Sibling> {
        let Value::Map(map) = &node.value else {
            self.wrong(node, "an element of `descriptors`", "a map with a `key`");
            return None;
        };
        self.check_keys(map, Home::Descriptor);
        let mut spec = DescriptorSpec {
            key: self.text(map, Home::Descriptor, "key"),
            value: self.text(map, Home::Descriptor, "value"),
            value_to_metric: self.flag(map, Home::Descriptor, "value_to_metric"),
            share_threshold: self.flag(map, Home::Descriptor, "share_threshold"),
            ..DescriptorSpec::default()
        };
        if spec.key.is_empty() && map.get("key").is_none_or(|it| self.is_text(&it.node)) {
            let place = map.get("key").map_or(node.place, |it| it.place);
            let message = "the descriptor has no `key`, expected one that is not empty";
            self.report.mistake(place, message, None);
        }
        let composite = spec.composite_key();
        if let Some(entry) = map.get("share_threshold")
            && spec.share_threshold
            && !composite.contains('*')
        {
            let message = "`share_threshold` needs a `*` in `key` or `value`";
            self.report.mistake(entry.place, message, None);
        }
        spec.rule = self.rule(map, node.place);
        let below = self.descriptors(map, Home::Descriptor);
        duplicates(&below, self.report);
        lint::siblings(&below, self.report);
        Some(Sibling { spec, composite, place: node.place, below })
    }

    fn rule(&mut self, map: &Map<'a>, place: Place) -> Option<RuleSpec> {
        let mut rule = RuleSpec {
            shadow_mode: self.flag(map, Home::Descriptor, "shadow_mode"),
            quota_mode: self.flag(map, Home::Descriptor, "quota_mode"),
            detailed_metric: self.flag(map, Home::Descriptor, "detailed_metric"),
            ..RuleSpec::default()
        };
        if let Some(metadata) = self.map(map, Home::Descriptor, "metadata") {
            rule.metadata = Some(Arc::new(self.json_map(metadata)));
        }
        let limited = self.limits(map, &mut rule);
        lint::flags(map, &rule, limited, self.report);
        rule.location = self.report.place(place).into();
        limited.then_some(rule)
    }

    fn replaces(&mut self, node: &Node<'a>, own: &[Arc<str>]) -> Option<Arc<str>> {
        let Value::Map(map) = &node.value else {
            self.wrong(node, "an element of `replaces`", "a map with a `name`");
            return None;
        };
        self.check_keys(map, Home::Replaces);
        let name = self.name(map, Home::Replaces);
        let place = map.get("name").map_or(node.place, |it| it.node.place);
        if name.is_empty() {
            let known = map.get("name").is_some_and(|it| !self.is_text(&it.node));
            if !known {
                let message = "the element of `replaces` has no `name`, expected that of a rule";
                self.report.mistake(place, message, None);
            }
            return None;
        }
        if own.contains(&name) {
            let message = format!("the rule replaces itself: {} is its own name", quote(&name));
            self.report.mistake(place, message, None);
            return None;
        }
        self.domain.replaced.push((Arc::clone(&name), place));
        Some(name)
    }

    fn name(&mut self, map: &Map<'a>, home: Home) -> Arc<str> {
        let name = self.text(map, home, "name");
        if let Some(entry) = map.get("name")
            && name.contains(char::is_control)
        {
            let message = "the name contains control characters, expected none";
            let help = "it is sent to clients in a header";
            self.report.mistake(entry.node.place, message, Some(help.into()));
        }
        name.into()
    }

    fn check_keys(&mut self, map: &Map<'a>, home: Home) {
        for (name, entry) in map.iter().filter(|(name, _)| keys::find(home, name).is_none()) {
            let known = KEYS.iter().any(|it| it.name == name);
            let message = match known {
                true => format!("the key {} does not belong here", quote(name)),
                false => format!("the key {} is unknown", quote(name)),
            };
            self.report.mistake(entry.place, message, Some(keys::hint(home, name)));
        }
    }
}
