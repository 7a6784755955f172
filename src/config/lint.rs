//! Looks for what is legal and has no effect.
//!
//! It may overlook something, but what it says is true for every request.

use std::collections::HashSet;

use super::{
    read::{
        Domain, Sibling,
        accuracy::{MOST, WHOLE},
    },
    report::{Place, Report, quote},
    yaml::Map,
};
use crate::{
    limit::window::Phase,
    rules::{
        pattern::Pattern,
        spec::{LimitSpec, RuleSpec},
    },
};

/// A list with more patterns is not examined, nor is a longer key: the work
/// grows with the square of either.
const MAX_PATTERNS: usize = 100;
const MAX_LENGTH: usize = 256;

/// Warns of elements of one list that no entry reaches or that change nothing.
pub(super) fn siblings(list: &[Sibling], report: &mut Report<'_>) {
    let level = Level::new(list.iter().map(|it| it.composite.as_str()));
    if level.patterns.len() > MAX_PATTERNS {
        return;
    }
    for (index, it) in list.iter().enumerate() {
        if it.composite.len() > MAX_LENGTH || it.spec.key.is_empty() {
            continue;
        }
        let key_only = it.spec.value.is_empty();
        if let Some(by) = level.cover(index, key_only) {
            let (by, place) = (quote(&list[by].composite), report.place(list[by].place));
            let message = match it.composite.contains('*') {
                true => {
                    format!("nothing reaches this: {by} at {place} comes first and takes it all")
                }
                false => format!("no entry with this key reaches this: {by} at {place} takes all"),
            };
            report.warning(it.place, message);
        } else if it.spec.rule.is_none() && it.below.is_empty() && !level.diverts(index) {
            let message = "this has no effect: it has neither `rate_limit` nor `descriptors`, and \
                           there is no other rule that it keeps away from its entries";
            report.warning(it.place, message);
        }
    }
}

/// Warns of what a descriptor says about a limit that it does not have.
pub(super) fn flags(map: &Map<'_>, rule: &RuleSpec, limited: bool, report: &mut Report<'_>) {
    let flags = [
        ("shadow_mode", rule.shadow_mode),
        ("quota_mode", rule.quota_mode),
        ("detailed_metric", rule.detailed_metric),
        ("metadata", rule.metadata.is_some() && !limited),
    ];
    for (name, _) in flags.into_iter().filter(|(_, is_set)| *is_set) {
        let message = match limited {
            false => format!("`{name}` has no effect without a `rate_limit` beside it"),
            true if rule.limits.is_empty() => {
                format!("`{name}` has no effect on a limit that is `unlimited`")
            }
            true => continue,
        };
        report.warning(map[name].place, message);
    }
}

/// Warns of limits of one descriptor that make no difference.
pub(super) fn limits(limits: &[(Place, LimitSpec)], report: &mut Report<'_>) {
    for (index, (place, limit)) in limits.iter().enumerate() {
        let mut others = limits.iter().enumerate().filter(|(at, _)| *at != index);
        if let Some((_, (other, _))) = others.find(|(_, (_, it))| implies(it, limit)) {
            let message = format!(
                "this limit refuses nothing that the one at {} lets pass",
                report.place(*other)
            );
            report.warning(*place, message);
        }
    }
}

/// Whether `outer` refuses all that `inner` does: its windows consist of whole
/// windows of `inner`, allow no more than one of those, and count all that is
/// asked for.
fn implies(outer: &LimitSpec, inner: &LimitSpec) -> bool {
    let (window, within) = (&outer.limit.window, &inner.limit.window);
    outer.limit.algorithm.counts_denied()
        && inner.limit.algorithm.info().window_in_key
        && (&window.phase, &within.phase) == (&Phase::Epoch, &Phase::Epoch)
        && window.seconds().is_multiple_of(within.seconds())
        && outer.limit.requests <= inner.limit.requests
        && outer.limit.penalty.is_zero()
        && inner.limit.penalty.is_zero()
        && !outer.all_or_nothing
        && outer.on_error == inner.on_error
        // Else another rule may replace it alone.
        && (outer.name.is_empty() || outer.name == inner.name)
}

/// Warns of a lease of `part` of so many requests with which nothing is ever taken ahead.
pub(super) fn lease(place: Place, part: u64, requests: u32, report: &mut Report<'_>) {
    let requests = u64::from(requests);
    let message = if requests <= WHOLE / MOST {
        format!(
            "this has no effect: at most a tenth of what is left is taken ahead, and once one of \
             {requests} requests has passed that is less than one; leave `accuracy` out"
        )
    } else if requests * part < WHOLE {
        let least = WHOLE.div_ceil(requests);
        let percent = format!("{}.{:04}", least / 10_000, least % 10_000);
        let percent = percent.trim_end_matches('0').trim_end_matches('.');
        format!(
            "this has no effect: it is less than one of {requests} requests, so nothing is taken \
             ahead; write at least {percent}%, or leave `accuracy` out"
        )
    } else {
        return;
    };
    report.warning(place, message);
}

/// Warns of names in `replaces` that no rule of the domain has.
pub(super) fn replaced(domain: &Domain, report: &mut Report<'_>) {
    for (name, place) in domain.replaced.iter().filter(|(name, _)| !domain.names.contains(name)) {
        let message = format!("no rule of this domain has the name {}", quote(name));
        report.warning(*place, message);
    }
}

/// The composite keys of one list.
struct Level<'a> {
    all: Vec<&'a str>,
    exact: HashSet<&'a str>,
    /// With their positions in the list.
    patterns: Vec<(usize, Pattern)>,
}

impl<'a> Level<'a> {
    fn new(composites: impl Iterator<Item = &'a str>) -> Self {
        let all: Vec<_> = composites.collect();
        let patterns = all.iter().enumerate().filter(|(_, it)| it.contains('*'));
        Self {
            patterns: patterns.map(|(at, it)| (at, Pattern::new(it.as_bytes()))).collect(),
            exact: all.iter().copied().filter(|it| !it.contains('*')).collect(),
            all,
        }
    }

    /// The pattern that takes all that the element at `index` could take: for a
    /// pattern, one before it; for a key without a value, any; what names a
    /// value comes before every pattern.
    fn cover(&self, index: usize, key_only: bool) -> Option<usize> {
        let own = self.all[index];
        let covers = |it: &&(usize, Pattern)| match own.contains('*') {
            true => it.0 < index && covers(&it.1, own),
            false => key_only && it.1.matches(format!("{own}_*").as_bytes()),
        };
        self.patterns.iter().find(covers).map(|it| it.0)
    }

    /// Whether another element would take an entry that the one at `index`
    /// takes, if that one were not there.
    fn diverts(&self, index: usize) -> bool {
        let own = self.all[index];
        if own.contains('*') {
            let later = self.patterns.iter().filter(|it| it.0 > index);
            return later.map(|it| self.all[it.0]).any(|it| overlap(own, it))
                || self.exact.iter().any(|it| overlap(own, &format!("{it}_*")));
        }
        let mut keys = own.match_indices('_').map(|(at, _)| &own[..at]);
        self.patterns.iter().any(|it| it.1.matches(own.as_bytes()))
            || keys.any(|it| self.exact.contains(it))
    }
}

/// Whether `pattern` takes every entry that `other`, also a pattern, takes.
///
/// If it takes the letters of `other` themselves, each `*` of `other` is taken
/// by one of its own, and so is whatever stands in the place of that. All
/// entries have an underscore between key and value; where `other` does not
/// name one, one of its `*` takes it.
fn covers(pattern: &Pattern, other: &str) -> bool {
    let with_underscore = |at: usize| format!("{}*_{}", &other[..at], &other[at..]);
    pattern.matches(other.as_bytes())
        || (!other.contains('_')
            && other
                .match_indices('*')
                .all(|(at, _)| pattern.matches(with_underscore(at).as_bytes())))
}

/// Whether some text matches both patterns.
fn overlap(a: &str, b: &str) -> bool {
    let ends = |it: &'_ str| {
        let (prefix, rest) = it.split_once('*').unwrap_or((it, ""));
        (prefix.to_owned(), rest.rsplit('*').next().unwrap_or_default().to_owned())
    };
    let ((a_prefix, a_suffix), (b_prefix, b_suffix)) = (ends(a), ends(b));
    (a_prefix.starts_with(&b_prefix) || b_prefix.starts_with(&a_prefix))
        && (a_suffix.ends_with(&b_suffix) || b_suffix.ends_with(&a_suffix))
}

#[cfg(test)]
mod tests;
