//! The series as text: for Prometheus, and for people.

use std::{cmp::Ordering, fmt::Write, sync::Arc};

use super::{Fixed, Followed, STATISTICS, Values, dotted};
use crate::{metrics::chunks::text_chunks, rules::stat_name::StatName};

/// In which order series are shown, and which of them are shown as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// By domain and the first two components of the name: those that differ only
    /// further on are added up, as Envoy's reference service does.
    Labels,
    /// By all of the name.
    Path,
}

impl Order {
    pub(super) fn compare(self, a: &StatName, b: &StatName) -> Ordering {
        match self {
            // As the libraries of Prometheus do: those with the fewest labels first.
            Self::Labels => {
                let count = given(a).count().cmp(&given(b).count());
                let texts = count.then_with(|| given(a).cmp(given(b)));
                texts.then_with(|| labels(a).cmp(&labels(b)))
            }
            Self::Path => path(a).cmp(path(b)),
        }
    }
}

/// The values of the labels. A name of one component has no second label, as in the
/// reference service.
fn labels(name: &StatName) -> [&str; 3] {
    [name.domain(), name.component(0), name.component(1)]
}

/// Those that Prometheus is shown.
fn given(name: &StatName) -> impl Iterator<Item = &str> {
    labels(name).into_iter().filter(|it| !it.is_empty())
}

/// What [`dotted`] makes of the name.
fn path(name: &StatName) -> impl Iterator<Item = char> {
    let parts = name.components().flat_map(|it| std::iter::once('.').chain(it.chars()));
    name.domain().chars().chain(parts).map(|it| if it.is_control() { '_' } else { it })
}

/// The series of one moment, and which of them comes next.
#[derive(Debug)]
pub(super) struct Rows {
    fixed: Arc<Fixed>,
    /// Sorted.
    dynamic: Vec<Followed>,
    order: Order,
    /// How many of either have been shown.
    at: [usize; 2],
}

impl Rows {
    /// The rows of these, which are sorted, and those of the rules in the same order.
    pub(super) fn new(fixed: Arc<Fixed>, dynamic: Vec<Followed>, order: Order) -> Self {
        Self { fixed, dynamic, order, at: [0; 2] }
    }

    /// The next one, with the values of all that are shown as one with it.
    fn next(&mut self) -> Option<(&StatName, Values)> {
        let tables = [self.fixed.sorted(self.order), &self.dynamic];
        let mut first: Option<&StatName> = None;
        let mut sums = Values::default();
        loop {
            let [fixed, dynamic] = [0, 1].map(|it| tables[it].get(self.at[it]));
            let from = match (fixed, dynamic) {
                (Some(a), Some(b)) => usize::from(self.order.compare(&b.0, &a.0).is_lt()),
                (None, Some(_)) => 1,
                (_, None) => 0,
            };
            let Some(row) = [fixed, dynamic][from] else { break };
            if first.is_some_and(|it| self.order.compare(it, row.name()).is_ne()) {
                break;
            }
            first.get_or_insert(row.name());
            for (sum, value) in sums.iter_mut().zip(row.values()) {
                *sum = sum.saturating_add(value);
            }
            self.at[from] += 1;
        }
        Some((first?, sums))
    }

    /// For Prometheus, with `common` labels.
    pub(super) fn prometheus(mut self, common: String) -> impl Iterator<Item = String> + Send {
        let mut statistics = STATISTICS.iter().enumerate();
        let mut shown = statistics.next();
        text_chunks(move |text| {
            let Some((at, (name, help))) = shown else { return false };
            let begins = self.at == [0; 2];
            let Some((series, sums)) = self.next() else {
                shown = statistics.next();
                self.at = [0; 2];
                return true;
            };
            if begins {
                let name = format_args!("ratelimit_service_rate_limit_{name}");
                let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} counter\n");
            }
            sample(text, name, labels(series), &common, sums[at]);
            true
        })
    }

    /// As statsd is told.
    pub(super) fn dotted(mut self) -> impl Iterator<Item = String> + Send {
        text_chunks(move |text| {
            let Some((name, sums)) = self.next() else { return false };
            let name = dotted(name, "");
            for ((statistic, _), sum) in STATISTICS.iter().zip(sums) {
                let _ = writeln!(text, "{name}{statistic}: {sum}");
            }
            true
        })
    }
}

fn sample(text: &mut String, name: &str, labels: [&str; 3], common: &str, value: u64) {
    text.push_str("ratelimit_service_rate_limit_");
    text.push_str(name);
    let mut separator = '{';
    for (label, value) in ["domain", "key1", "key2"].into_iter().zip(labels) {
        if !value.is_empty() {
            text.push(separator);
            push_label(text, label, value);
            separator = ',';
        }
    }
    if !common.is_empty() {
        text.push(separator);
        text.push_str(common);
        separator = ',';
    }
    text.push_str(if separator == '{' { " " } else { "} " });
    push_value(text, value);
    text.push('\n');
}

/// Adds a label as Prometheus' text format has it.
pub(in crate::metrics) fn push_label(text: &mut String, label: &str, value: &str) {
    text.push_str(label);
    text.push_str("=\"");
    let mut rest = value;
    while let Some(at) = rest.bytes().position(|it| matches!(it, b'\\' | b'"' | b'\n')) {
        let (before, behind) = rest.split_at(at);
        text.push_str(before);
        text.push('\\');
        text.push_str(if behind.starts_with('\n') { "n" } else { &behind[..1] });
        rest = &behind[1..];
    }
    text.push_str(rest);
    text.push('"');
}

/// Prometheus knows only `f64`.
#[expect(clippy::cast_precision_loss, reason = "that is what it reads")]
fn push_value(text: &mut String, value: u64) {
    const EXACT: u64 = 1 << f64::MANTISSA_DIGITS;
    if value <= EXACT {
        text.push_str(itoa::Buffer::new().format(value));
    } else {
        let _ = write!(text, "{}", value as f64);
    }
}

#[cfg(test)]
mod tests;
