//! The names of rules in the statistics.

use std::{borrow::Cow, fmt};

use super::step::RuleStep;
use crate::descriptor::Entry;

/// A domain, and one component for each entry of a descriptor.
///
/// Characters with a meaning in statsd are replaced by underscores: `:` and `|`,
/// which separate fields, and the dots of IPv4 addresses, which would separate
/// components.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatName {
    domain: String,
    components: Vec<String>,
}

/// The component that stands for too many names, and the domain that stands for too many
/// domains. No rule has it, because `|` is replaced in all others.
pub const FOLDED: &str = "|other|";

/// The component of all limits that requests bring along. No rule has it either.
const OVERRIDES: &str = "|override|";

impl StatName {
    /// Makes a name of `domain` and `components`, and replaces the characters
    /// with a meaning in statsd.
    pub fn new(domain: &str, components: impl Iterator<Item = String>) -> Self {
        let components = components.map(|component| clean(&component)).collect();
        Self { domain: clean(domain), components }
    }

    /// The name for hits of `domain` whose own names would be too many or too long.
    pub fn folded(domain: &str) -> Self {
        Self { domain: clean(domain), components: vec![FOLDED.to_owned()] }
    }

    /// The name for the hits of all limits that requests of `domain` bring along.
    pub fn overrides(domain: &str) -> Self {
        Self { domain: clean(domain), components: vec![OVERRIDES.to_owned()] }
    }

    /// The domain of the rule.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The length of the domain and all components in bytes, without separators.
    pub fn length(&self) -> usize {
        self.domain.len() + self.components.iter().map(String::len).sum::<usize>()
    }

    /// One component for each entry, in order.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.components.iter().map(String::as_str)
    }

    /// The component at `index`; empty if there are fewer components.
    pub fn component(&self, index: usize) -> &str {
        self.components.get(index).map_or("", String::as_str)
    }
}

impl fmt::Display for StatName {
    /// Joins all parts with dots, as the reference service does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.domain)?;
        for component in &self.components {
            write!(f, ".{component}")?;
        }
        Ok(())
    }
}

/// The name of a rule with `detailed_metric`: every component has the value of
/// its entry, or the pattern if values share a counter.
pub(super) fn detailed(domain: &str, steps: &[RuleStep], entries: &[Entry]) -> StatName {
    // As in the reference service, an empty value keeps its underscore unless a
    // step of the rule shares its counter.
    let shares_counter = steps.iter().any(|step| step.shared_pattern().is_some());
    let mut components = Vec::with_capacity(steps.len());
    for (step, entry) in steps.iter().zip(entries) {
        let value = match step.shared_pattern() {
            Some(pattern) => Cow::Borrowed(pattern),
            None => lossy(&entry.value),
        };
        let component = if shares_counter {
            component(entry, &value)
        } else {
            format!("{}_{value}", lossy(&entry.key))
        };
        components.push(clean(&component));
    }
    StatName { domain: clean(domain), components }
}

/// The name of a rule with `value_to_metric`: the components of steps with that
/// flag have the value of their entry, the others are as the rule is written.
pub(super) fn by_value(domain: &str, steps: &[RuleStep], entries: &[Entry]) -> StatName {
    let mut components = Vec::with_capacity(steps.len());
    for (step, entry) in steps.iter().zip(entries) {
        let component = if step.value_to_metric() && step.shared_pattern().is_none() {
            component(entry, &lossy(&entry.value))
        } else {
            step.composite_key().to_string()
        };
        components.push(clean(&component));
    }
    StatName { domain: clean(domain), components }
}

fn component(entry: &Entry, value: &str) -> String {
    let key = lossy(&entry.key);
    if value.is_empty() { key.into_owned() } else { format!("{key}_{value}") }
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Replaces the characters that have a meaning in statsd.
fn clean(text: &str) -> String {
    let mut clean = text.replace([':', '|'], "_").into_bytes();
    let mut position = 0;
    while position < clean.len() {
        let Some(length) = address_length(&clean[position..]) else {
            position += 1;
            continue;
        };
        for byte in &mut clean[position..position + length] {
            if *byte == b'.' {
                *byte = b'_';
            }
        }
        position += length;
    }
    // ASCII characters were replaced by ASCII, so it is still UTF-8.
    String::from_utf8(clean).unwrap_or_default()
}

/// The length of the IPv4 address at the start of `text`: four numbers of one to
/// three digits. Other characters may follow directly.
fn address_length(text: &[u8]) -> Option<usize> {
    let mut length = 0;
    for number in 0..4 {
        if number > 0 {
            if text.get(length) != Some(&b'.') {
                return None;
            }
            length += 1;
        }
        let start = length;
        while length < start + 3 && text.get(length).is_some_and(u8::is_ascii_digit) {
            length += 1;
        }
        if length == start {
            return None;
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_of_statsd_and_dots_of_addresses_become_underscores() {
        assert_eq!(clean("a:b|c"), "a_b_c");
        assert_eq!(clean("masked_remote_address_0.0.0.0/0"), "masked_remote_address_0_0_0_0/0");
        assert_eq!(clean("remote_address_10.20.30.40"), "remote_address_10_20_30_40");
        assert_eq!(clean("v1.2 ü.ü 1.2.3.x"), "v1.2 ü.ü 1.2.3.x");
        assert_eq!(clean("v1.2.3.4-beta 1.2.3.4.5"), "v1_2_3_4-beta 1_2_3_4.5");
        assert_eq!(clean("1234.5.6.7890 1.2345.6.7.8"), "1234_5_6_7890 1.2345_6_7_8");
    }
}
