//! The name of a rule in the statistics.

use std::fmt;

use crate::{
    descriptor::Entry,
    rules::{Rule, Step},
};

/// A domain, and one component for each entry of the descriptor.
///
/// It is clean: `:` and `|`, which separate fields in statsd, and the dots of
/// IPv4 addresses, which would separate components, are underscores.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatName {
    domain: String,
    components: Vec<String>,
}

impl StatName {
    /// A name made of `domain` and `components`, cleaned.
    pub fn new(domain: &str, components: impl Iterator<Item = String>) -> Self {
        Self { domain: clean(domain), components: components.map(|it| clean(&it)).collect() }
    }

    /// The domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// How long all of it is, in bytes, without what stands between.
    pub fn length(&self) -> usize {
        self.domain.len() + self.components.iter().map(String::len).sum::<usize>()
    }

    /// Its components, in order.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.components.iter().map(String::as_str)
    }

    /// Component `i`, or nothing if there are fewer.
    pub fn component(&self, i: usize) -> &str {
        self.components.get(i).map_or("", String::as_str)
    }
}

impl fmt::Display for StatName {
    /// All of it, joined with dots, as Envoy's reference service writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.domain)?;
        self.components.iter().try_for_each(|it| write!(f, ".{it}"))
    }
}

/// The name of `rule` for a descriptor that it governs, where values of the
/// descriptor are part of the name.
pub(super) fn of_request(rule: &Rule, entries: &[Entry]) -> StatName {
    let steps = rule.steps.iter().zip(entries);
    let shares = rule.steps.iter().any(|it| it.shared().is_some());
    let component: fn((&Step, &Entry)) -> String = match rule.spec.detailed_metric {
        true if shares => detailed_shared,
        true => detailed,
        false => by_value,
    };
    StatName::new(&rule.domain, steps.map(component))
}

/// `detailed_metric`: the key and the value, also an empty one.
fn detailed((_, entry): (&Step, &Entry)) -> String {
    format!("{}_{}", lossy(&entry.key), lossy(&entry.value))
}

/// `detailed_metric` on a rule with a step that says `share_threshold`.
fn detailed_shared((step, entry): (&Step, &Entry)) -> String {
    match step.shared() {
        Some(pattern) => joined(entry, pattern),
        None => joined(entry, &lossy(&entry.value)),
    }
}

/// `value_to_metric` on some step of the rule.
fn by_value((step, entry): (&Step, &Entry)) -> String {
    if step.shared().is_some() || !step.value_to_metric {
        return step.composite.to_string();
    }
    joined(entry, &lossy(&entry.value))
}

fn joined(entry: &Entry, value: &str) -> String {
    match value {
        "" => lossy(&entry.key).into_owned(),
        value => format!("{}_{value}", lossy(&entry.key)),
    }
}

fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn clean(text: &str) -> String {
    let mut clean = text.replace([':', '|'], "_").into_bytes();
    let mut at = 0;
    while at < clean.len() {
        match address_length(&clean[at..]) {
            Some(length) => {
                clean[at..at + length]
                    .iter_mut()
                    .filter(|it| **it == b'.')
                    .for_each(|it| *it = b'_');
                at += length;
            }
            None => at += 1,
        }
    }
    // Only whole characters were replaced, by ASCII.
    String::from_utf8(clean).unwrap_or_default()
}

/// The length of what looks like an IPv4 address at the beginning of `text`, if it
/// does: four numbers of at most three digits, whatever stands around them.
fn address_length(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    for part in 0..4 {
        if part > 0 {
            (text.get(at) == Some(&b'.')).then_some(())?;
            at += 1;
        }
        let digits = text[at..].iter().take(3).take_while(|it| it.is_ascii_digit()).count();
        (0 < digits).then_some(())?;
        at += digits;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_of_statsd_and_dots_of_addresses_are_underscores() {
        assert_eq!(clean("a:b|c"), "a_b_c");
        assert_eq!(clean("masked_remote_address_0.0.0.0/0"), "masked_remote_address_0_0_0_0/0");
        assert_eq!(clean("remote_address_10.20.30.40"), "remote_address_10_20_30_40");
        assert_eq!(clean("v1.2 ü.ü 1.2.3.x"), "v1.2 ü.ü 1.2.3.x");
        assert_eq!(clean("v1.2.3.4-beta 1.2.3.4.5"), "v1_2_3_4-beta 1_2_3_4.5");
        assert_eq!(clean("1234.5.6.7890 1.2345.6.7.8"), "1234_5_6_7890 1.2345_6_7_8");
    }
}
