//! Elements that nearly match an entry.

use super::{
    super::{
        Element,
        level::{Found, Level},
        lookup::MatchKind,
        pattern::Pattern,
    },
    similar::Difference,
};
use crate::descriptor::Entry;

/// The most elements or rules listed of each kind.
pub(super) const MOST_LISTED: usize = 3;

/// An element that nearly matches an entry.
#[derive(Clone, Copy, Debug)]
pub struct NearElement<'t> {
    /// The index of the entry.
    pub entry: usize,
    /// The element.
    pub element: &'t Element,
    /// The part of the entry that differs.
    pub part: EntryPart,
    /// The difference.
    pub difference: Difference,
}

/// A part of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryPart {
    /// The value.
    Value,
    /// The key.
    Key,
}

/// The elements like an entry that nothing matches, the most similar first.
pub(super) fn similar<'t>(level: &'t Level, index: usize, entry: &Entry) -> Vec<NearElement<'t>> {
    nearest(level, index, entry, |_, _, _| true)
}

/// The elements that would come before the first of `matching` but for a slip: case, blanks
/// or quotation marks.
pub(super) fn missed<'t>(
    level: &'t Level,
    index: usize,
    entry: &Entry,
    matching: &[Found<'t>],
) -> Vec<NearElement<'t>> {
    let Some(first) = matching.first() else { return Vec::new() };
    if first.by == MatchKind::Value {
        return Vec::new();
    }
    nearest(level, index, entry, |element, part, difference| {
        let is_slip = difference <= Difference::Quotes;
        let has_value = part == EntryPart::Value || element.value().as_bytes() == entry.value;
        let comes_before = match_kind(element) < first.by;
        let matches = matching.iter().any(|found| std::ptr::eq(&*found.branch.element, element));
        is_slip && (has_value || element.is_pattern()) && comes_before && !matches
    })
}

fn match_kind(element: &Element) -> MatchKind {
    if element.is_pattern() {
        MatchKind::Pattern
    } else if element.value().is_empty() {
        MatchKind::AnyValue
    } else {
        MatchKind::Value
    }
}

/// The elements like `entry` that `is_wanted` accepts, the most similar first.
fn nearest<'t>(
    level: &'t Level,
    index: usize,
    entry: &Entry,
    is_wanted: impl Fn(&Element, EntryPart, Difference) -> bool,
) -> Vec<NearElement<'t>> {
    let key = String::from_utf8_lossy(&entry.key);
    let value = String::from_utf8_lossy(&entry.value);
    let mut found = Vec::new();
    for branch in level.branches() {
        let element = &*branch.element;
        if let Some((part, difference)) = near(element, &key, &value)
            && is_wanted(element, part, difference)
        {
            let has_other_value = !element.value().is_empty() && element.value() != value;
            let rank = (difference, part, has_other_value, element.composite_key());
            found.push((rank, NearElement { entry: index, element, part, difference }));
        }
    }
    found.sort_unstable_by_key(|(rank, _)| *rank);
    found.truncate(MOST_LISTED);
    found.into_iter().map(|(_, near)| near).collect()
}

/// The difference between an entry and `element`, which does not match it.
fn near(element: &Element, key: &str, value: &str) -> Option<(EntryPart, Difference)> {
    if element.is_pattern() {
        let text = format!("{key}_{value}");
        let matches = |level: &Difference| {
            let pattern = level.plain(element.composite_key());
            Pattern::new(pattern.as_bytes()).matches(level.plain(&text).as_bytes())
        };
        let difference = Difference::LEVELS.into_iter().find(matches)?;
        let part = if element.key() == key { EntryPart::Value } else { EntryPart::Key };
        return Some((part, difference));
    }
    if element.key() == key {
        return Some((EntryPart::Value, Difference::between(element.value(), value)?));
    }
    let difference = Difference::between(element.key(), key)?;
    let has_value = element.value().is_empty()
        || element.value() == value
        || Difference::between(element.value(), value).is_some();
    if has_value { Some((EntryPart::Key, difference)) } else { None }
}
