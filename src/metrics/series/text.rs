//! Series as text: for Prometheus, and as lines of statsd names.

use std::{fmt::Write, sync::Arc};

use super::{
    counts::{NamedSeries, STATISTICS, Values, add_values, statsd_name},
    fixed::FixedSeries,
    order::{Order, labels},
};
use crate::{
    metrics::{chunks::text_chunks, label::push_label},
    rules::stat_name::StatName,
};

/// The series at one moment, and a position among them.
#[derive(Debug)]
pub(super) struct Rows {
    fixed: Arc<FixedSeries>,
    /// Sorted by `order`.
    dynamic: Vec<NamedSeries>,
    order: Order,
    next_fixed: usize,
    next_dynamic: usize,
}

impl Rows {
    /// The rows of both kinds of series. `dynamic` must be sorted by `order`.
    pub(super) fn new(fixed: Arc<FixedSeries>, dynamic: Vec<NamedSeries>, order: Order) -> Self {
        Self { fixed, dynamic, order, next_fixed: 0, next_dynamic: 0 }
    }

    fn is_at_start(&self) -> bool {
        self.next_fixed == 0 && self.next_dynamic == 0
    }

    fn restart(&mut self) {
        self.next_fixed = 0;
        self.next_dynamic = 0;
    }

    /// The next row: the name of a series, and the sum of all series that compare equal.
    fn next(&mut self) -> Option<(&StatName, Values)> {
        let sorted = self.fixed.sorted(self.order);
        let mut first: Option<&StatName> = None;
        let mut sums = Values::default();
        loop {
            let fixed = sorted.get(self.next_fixed);
            let dynamic = self.dynamic.get(self.next_dynamic);
            let take_dynamic = match (fixed, dynamic) {
                (Some(a), Some(b)) => self.order.compare(b.name(), a.name()).is_lt(),
                (None, Some(_)) => true,
                (_, None) => false,
            };
            let Some(series) = (if take_dynamic { dynamic } else { fixed }) else { break };
            let name = *first.get_or_insert(series.name());
            if self.order.compare(name, series.name()).is_ne() {
                break;
            }
            add_values(&mut sums, series.values());
            if take_dynamic {
                self.next_dynamic += 1;
            } else {
                self.next_fixed += 1;
            }
        }
        let name = first?;
        if self.order == Order::Labels {
            add_values(&mut sums, self.fixed.past(name));
        }
        Some((name, sums))
    }

    /// The rows in Prometheus' text format, in chunks. Each sample has the labels in
    /// `common` too.
    pub(super) fn prometheus(mut self, common: String) -> impl Iterator<Item = String> + Send {
        let mut statistic = 0;
        text_chunks(move |text| {
            let Some(shown) = STATISTICS.get(statistic) else { return false };
            let is_first = self.is_at_start();
            let Some((series, sums)) = self.next() else {
                statistic += 1;
                self.restart();
                return true;
            };
            if is_first {
                let name = format_args!("ratelimit_service_rate_limit_{}", shown.name);
                let _ = write!(text, "# HELP {name} {}\n# TYPE {name} counter\n", shown.help);
            }
            push_sample(text, shown.name, labels(series), &common, sums[statistic]);
            true
        })
    }

    /// The rows as lines `name: value` with statsd names, in chunks.
    pub(super) fn stat_lines(mut self) -> impl Iterator<Item = String> + Send {
        text_chunks(move |text| {
            let Some((name, sums)) = self.next() else { return false };
            let name = statsd_name(name, "");
            for (statistic, sum) in STATISTICS.iter().zip(sums) {
                let _ = writeln!(text, "{name}{}: {sum}", statistic.name);
            }
            true
        })
    }
}

fn push_sample(text: &mut String, name: &str, labels: [&str; 3], common: &str, value: u64) {
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

#[expect(clippy::cast_precision_loss, reason = "Prometheus reads values as f64")]
fn push_value(text: &mut String, value: u64) {
    const LARGEST_EXACT: u64 = 1 << f64::MANTISSA_DIGITS;
    if value <= LARGEST_EXACT {
        text.push_str(itoa::Buffer::new().format(value));
    } else {
        let _ = write!(text, "{}", value as f64);
    }
}

#[cfg(test)]
mod tests;
