//! The order of series on a page.

use std::{cmp::Ordering, iter};

use crate::rules::stat_name::StatName;

/// The order of series on a page. Series that compare equal are shown as one, with the
/// sum of their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// By domain and the first two components of the name, which are the labels for
    /// Prometheus. Envoy's reference service has no labels for further components either.
    Labels,
    /// By the whole name.
    Name,
}

impl Order {
    pub(super) fn compare(self, a: &StatName, b: &StatName) -> Ordering {
        match self {
            // The order of Prometheus libraries: series with fewer labels first.
            Self::Labels => {
                let by_count = set_labels(a).count().cmp(&set_labels(b).count());
                by_count
                    .then_with(|| set_labels(a).cmp(set_labels(b)))
                    .then_with(|| labels(a).cmp(&labels(b)))
            }
            Self::Name => shown_name(a).cmp(shown_name(b)),
        }
    }
}

/// A name that is compared by its labels.
#[derive(Debug)]
pub(super) struct ByLabels<'a>(pub(super) &'a StatName);

impl Ord for ByLabels<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        Order::Labels.compare(self.0, other.0)
    }
}

impl PartialOrd for ByLabels<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByLabels<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByLabels<'_> {}

/// The values of the labels `domain`, `key1` and `key2`. An empty value means that the
/// series has no such label.
pub(super) fn labels(name: &StatName) -> [&str; 3] {
    [name.domain(), name.component(0), name.component(1)]
}

fn set_labels(name: &StatName) -> impl Iterator<Item = &str> {
    labels(name).into_iter().filter(|label| !label.is_empty())
}

/// The characters of the name as `statsd_name` writes them.
fn shown_name(name: &StatName) -> impl Iterator<Item = char> {
    let components = name.components().flat_map(|part| iter::once('.').chain(part.chars()));
    let characters = name.domain().chars().chain(components);
    characters.map(|c| if c.is_control() { '_' } else { c })
}
