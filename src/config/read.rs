//! Reads the rules of one domain from the nodes of a file or tree.
//!
//! Each submodule reads one kind of value, as methods of
//! [`SourceReader`](self::reader::SourceReader).

use std::{collections::HashMap, sync::Arc};

use self::reader::{SourceReader, is_misspelt};
use super::{
    excerpt::quote,
    keys::KeyContext,
    lint,
    parsed::{ParsedDescriptor, ParsedDomain},
    sink::DiagnosticSink,
    tree_reader,
    yaml::{self, KeyOrigin, Map, YamlNode, YamlValue},
};
use crate::{
    rules::spec::{DescriptorSpec, RuleSpec},
    time_zones::TimeZones,
};

mod accuracy;
mod block;
mod calendar;
mod combination;
mod http;
mod http_entry;
mod http_skip;
mod limits;
mod metadata;
mod names;
mod reader;
mod window;

/// Reads source `index`. Parts with errors are reported and left out; `None` if
/// the source cannot be parsed at all.
pub(super) fn read(
    sink: &mut DiagnosticSink<'_>,
    index: usize,
    time_zones: &TimeZones,
) -> Option<ParsedDomain> {
    let root = match sink.tree(index) {
        Some(_) => tree_reader::read(sink, index)?,
        None => yaml::parse(sink, index)?,
    };
    let location = sink.start_of(index);
    let domain = ParsedDomain { location, ..ParsedDomain::default() };
    let mut reader = SourceReader { sink, domain, time_zones };
    reader.file(&root);
    Some(reader.domain)
}

/// Reports elements of one list with the same key and value.
pub(super) fn check_duplicates(siblings: &[ParsedDescriptor], sink: &mut DiagnosticSink<'_>) {
    let mut firsts: HashMap<&str, &ParsedDescriptor> = HashMap::with_capacity(siblings.len());
    for descriptor in siblings {
        if descriptor.spec.key.is_empty() {
            continue;
        }
        if let Some(first) = firsts.get(descriptor.composite_key.as_str()) {
            let (name, place) = (quote(&descriptor.composite_key), sink.describe(first.location));
            let message = format!("the key and value {name} are already in this list, at {place}");
            sink.error_with_help(descriptor.location, message, duplicate_help(first, descriptor));
        } else {
            firsts.insert(&descriptor.composite_key, descriptor);
        }
    }
}

/// Advice for two elements with the same key and value.
fn duplicate_help(first: &ParsedDescriptor, second: &ParsedDescriptor) -> &'static str {
    match second.key_origin {
        KeyOrigin::Replaced => return "a `<<` below them replaces them: write it first, above them",
        KeyOrigin::Inherited => return "they come from a `<<`: write others below it",
        KeyOrigin::Written => {}
    }
    let both_have_limits = first.spec.rule.is_some() && second.spec.rule.is_some();
    let both_have_children = !first.children.is_empty() && !second.children.is_empty();
    let (with_rule, with_children) = match (&first.spec.rule, &second.spec.rule) {
        (Some(one), Some(two)) => (one.limits != two.limits, both_have_children),
        _ => (false, both_have_children),
    };
    if with_children {
        "put both lists of `descriptors` under one of them"
    } else if with_rule {
        "for several limits, list them in the `rate_limits` of one of them"
    } else if both_have_limits || !has_content(first) || !has_content(second) {
        "remove one of them"
    } else {
        "put the limit and the list of `descriptors` under one of them"
    }
}

fn has_content(descriptor: &ParsedDescriptor) -> bool {
    descriptor.spec.rule.is_some() || !descriptor.children.is_empty()
}

impl<'a> SourceReader<'a, '_> {
    fn file(&mut self, root: &YamlNode<'a>) {
        let empty = Map::default();
        let map = match &root.value {
            YamlValue::Map(map) => map,
            _ if root.is_null() => &empty,
            _ => {
                let expected = "a map with `domain` and `descriptors`";
                return self.unexpected(root, "the file", expected);
            }
        };
        if map.contains_key("apiVersion") && !map.contains_key("domain") {
            let message = "this is a Kubernetes manifest, expected a rule file";
            let help = "mount its ConfigMap as a volume, and name the mounted file";
            return self.sink.error_with_help(root.location, message, help);
        }
        self.check_keys(map, KeyContext::File);
        self.domain_name(map);
        self.domain.descriptors = self.descriptors(map, KeyContext::File);
        self.domain.http = self.http(map);
    }

    fn domain_name(&mut self, map: &Map<'a>) {
        self.domain.name = self.text(map, KeyContext::File, "domain").into();
        if let Some(entry) = map.get("domain") {
            self.domain.location = entry.key_location;
        }
        if self.domain.name.is_empty()
            && self.is_text_or_absent(map, "domain")
            && !is_misspelt(map, KeyContext::File, "domain")
        {
            let message = "there is no `domain`, expected one that is not empty";
            let help = "add `domain: …` at the top";
            self.sink.error_with_help(self.domain.location, message, help);
        }
    }

    fn descriptors(&mut self, map: &Map<'a>, context: KeyContext) -> Vec<ParsedDescriptor> {
        let mut descriptors = Vec::new();
        for node in self.list(map, context, "descriptors") {
            descriptors.extend(self.descriptor(&node));
        }
        descriptors
    }

    fn descriptor(&mut self, node: &YamlNode<'a>) -> Option<ParsedDescriptor> {
        let context = KeyContext::Descriptor;
        let YamlValue::Map(map) = &node.value else {
            self.unexpected(node, "an element of `descriptors`", "a map with a `key`");
            return None;
        };
        self.check_keys(map, context);
        let mut spec = DescriptorSpec {
            key: self.text(map, context, "key"),
            value: self.text(map, context, "value"),
            value_to_metric: self.flag(map, context, "value_to_metric"),
            share_threshold: self.flag(map, context, "share_threshold"),
            location: self.sink.describe(node.location).into(),
            ..DescriptorSpec::default()
        };
        lint::check_value(map, self.sink);
        if spec.key.is_empty()
            && self.is_text_or_absent(map, "key")
            && !is_misspelt(map, context, "key")
        {
            let location = map.get("key").map_or(node.location, |entry| entry.key_location);
            let message = "the descriptor has no `key`, expected one that is not empty";
            self.sink.error(location, message);
        }
        let composite_key = spec.composite_key();
        if let Some(entry) = map.get("share_threshold")
            && spec.share_threshold
            && !composite_key.contains('*')
        {
            let message = "`share_threshold` needs a `*` in `key` or `value`";
            self.sink.error(entry.key_location, message);
        }
        spec.rule = self.rule(map, &spec.location);
        let children = self.descriptors(map, context);
        check_duplicates(&children, self.sink);
        lint::check_siblings(&children, self.sink);
        let key_origin = key_origin(map);
        Some(ParsedDescriptor {
            spec,
            composite_key,
            location: node.location,
            key_origin,
            children,
        })
    }

    fn rule(&mut self, map: &Map<'a>, location: &Arc<str>) -> Option<RuleSpec> {
        let context = KeyContext::Descriptor;
        let mut rule = RuleSpec {
            shadow_mode: self.flag(map, context, "shadow_mode"),
            quota_mode: self.flag(map, context, "quota_mode"),
            detailed_metric: self.flag(map, context, "detailed_metric"),
            ..RuleSpec::default()
        };
        if let Some(metadata) = self.map(map, context, "metadata") {
            rule.metadata = Some(Arc::new(self.metadata(metadata)));
        }
        let has_rule = self.limits(map, &mut rule);
        lint::check_flags(map, &rule, has_rule, self.sink);
        rule.location = Arc::clone(location);
        has_rule.then_some(rule)
    }
}

/// The origin of the key and the value of a descriptor: [`KeyOrigin::Replaced`] if it is
/// that of one of them, [`KeyOrigin::Inherited`] if it is that of all.
fn key_origin(map: &Map<'_>) -> KeyOrigin {
    let mut result = KeyOrigin::Inherited;
    for name in ["key", "value"] {
        match map.get(name) {
            Some(entry) if entry.origin == KeyOrigin::Replaced => return KeyOrigin::Replaced,
            Some(entry) if entry.origin == KeyOrigin::Written => result = KeyOrigin::Written,
            _ => {}
        }
    }
    result
}
