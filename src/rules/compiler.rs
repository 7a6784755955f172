//! Compiles the descriptors of a domain to levels.

use std::sync::Arc;

use super::{
    element::Element,
    level::{Branch, Level, LevelBuilder},
    rule::Rule,
    spec::DescriptorSpec,
    step::RuleStep,
};

pub(super) struct Compiler<'a> {
    domain: &'a Arc<str>,
    /// All rules so far, including those of other domains.
    rules: &'a mut Vec<Arc<Rule>>,
    /// The path from the root to the level that is being compiled.
    path: Vec<RuleStep>,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(domain: &'a Arc<str>, rules: &'a mut Vec<Arc<Rule>>) -> Self {
        Self { domain, rules, path: Vec::new() }
    }

    pub(super) fn level(&mut self, descriptors: Vec<DescriptorSpec>) -> Level {
        let mut level = LevelBuilder::default();
        for spec in descriptors {
            let step = RuleStep::new(&spec);
            let composite_key = Arc::clone(step.composite_key());
            self.path.push(step);
            let branch = self.branch(spec, &composite_key);
            self.path.pop();
            level.add(&composite_key, branch);
        }
        level.build()
    }

    fn branch(&mut self, descriptor: DescriptorSpec, composite_key: &Arc<str>) -> Branch {
        let element = Box::new(Element::new(&descriptor, composite_key));
        let mut branch = Branch { element, rule: None, children: None };
        if let Some(spec) = descriptor.rule {
            let rule = Arc::new(Rule::new(self.rules.len(), self.domain, spec, &self.path));
            self.rules.push(Arc::clone(&rule));
            branch.rule = Some(rule);
        }
        if !descriptor.descriptors.is_empty() {
            branch.children = Some(Box::new(self.level(descriptor.descriptors)));
        }
        branch
    }
}
