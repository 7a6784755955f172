//! Finds the rule and the limits that apply to each descriptor.

use std::sync::Arc;

use smallvec::SmallVec;

use super::decision::Match;
use crate::{
    descriptor::{Descriptor, Request},
    rules::{Domain, RuleTree},
};

/// One match for each descriptor, without the limits that other rules of the same
/// request replace.
pub(super) fn find(rules: &RuleTree, request: &Request) -> Vec<Match> {
    let domain = rules.domain(&request.domain);
    let mut matches = Vec::with_capacity(request.descriptors.len());
    for descriptor in &request.descriptors {
        matches.push(find_one(domain, descriptor));
    }
    drop_replaced(&mut matches);
    matches
}

fn find_one(domain: Option<&Domain>, descriptor: &Descriptor) -> Match {
    let Some(domain) = domain else { return Match::UnknownDomain };
    if let Some(limit) = &descriptor.limit {
        return Match::Override(limit.clone());
    }
    match domain.find(&descriptor.entries) {
        None => Match::None,
        Some(rule) if rule.is_unlimited() => Match::Unlimited(Arc::clone(rule)),
        Some(rule) => Match::Rule(Arc::clone(rule), (0..rule.spec.limits.len()).collect()),
    }
}

fn drop_replaced(matches: &mut [Match]) {
    let mut replaced: SmallVec<[Arc<str>; 4]> = SmallVec::new();
    for found in matches.iter() {
        if let Some(rule) = found.rule() {
            replaced.extend(rule.spec.replaces.iter().cloned());
        }
    }
    if replaced.is_empty() {
        return;
    }
    for found in matches {
        // Replaced or not, an unlimited rule counts nothing.
        let Match::Rule(rule, limits) = found else { continue };
        limits.retain(|limit| !replaced.contains(&rule.spec.limits[*limit].name));
        if limits.is_empty() {
            let rule = Arc::clone(rule);
            *found = Match::Replaced(rule);
        }
    }
}
