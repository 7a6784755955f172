//! The names of counters. No other file builds one.

use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};

use crate::{
    limit::{Limit, Span, Window, window::Phase},
    time::Timestamp,
};

/// The name of a counter. Equal names share a counter, across all instances that use the
/// same store.
#[derive(Clone, Debug)]
pub struct CounterKey {
    name: Vec<u8>,
    /// The length of the part that identifies the domain.
    domain_length: usize,
}

impl CounterKey {
    /// The name in the store. It is not always UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        &self.name
    }

    /// The prefix that identifies the domain. Equal names may have different prefixes,
    /// because with [`KeyStyle::Reference`] two domains may share a counter.
    pub fn domain(&self) -> &[u8] {
        &self.name[..self.domain_length]
    }
}

impl PartialEq for CounterKey {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for CounterKey {}

impl Hash for CounterKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// A counter, and one of its windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterRef {
    /// The counter's name in the store.
    pub key: CounterKey,
    /// The window that contains the time of the charge.
    pub span: Span,
}

/// The format of counter names.
#[derive(Clone, Debug, Default)]
pub struct KeyFormat {
    /// The prefix of all names.
    pub prefix: String,
    /// The style of the rest of the name.
    pub style: KeyStyle,
}

/// The style of counter names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyStyle {
    /// `domain|key=value|60s@1200`: counters of different descriptors, windows or
    /// algorithms never share a name.
    ///
    /// With a penalty: `domain|key=value|penalty:fixed_window:60s`, without the start of
    /// the window. The counter also holds the ban, which may outlast the window.
    ///
    /// With `~` instead of `=`, the value is a pattern, and all values that match it share
    /// the counter. Separators are escaped as `%XX`; so are braces, with which a client
    /// could choose the node of a Redis Cluster. Entries longer than
    /// [`MAX_ENTRIES_BYTES`] are replaced by their SHA-256.
    #[default]
    Unambiguous,
    /// `domain_key_value_1200`: the style of Envoy's reference service, so that both can
    /// share counters. The entries `a`, `b_c` and `a_b`, `c` share a counter. So do limits
    /// with different units whose windows begin at the same time, unless they belong to the
    /// same descriptor.
    Reference,
}

/// The longest list of entries that is part of a name, in bytes. Longer lists are replaced
/// by their SHA-256.
pub const MAX_ENTRIES_BYTES: usize = 200;

/// One entry of a descriptor, as a part of a counter's name.
#[derive(Clone, Copy, Debug)]
pub struct KeyPart<'a> {
    /// The key of the entry, not always UTF-8.
    pub key: &'a [u8],
    /// The entry's value, or the pattern that it matches.
    pub value: &'a [u8],
    /// True if `value` is a pattern, whose matches share the counter.
    pub shared: bool,
}

impl KeyFormat {
    /// The counter of a descriptor with these entries, and its window at `now`.
    pub fn counter<'a>(
        &self,
        domain: &[u8],
        parts: impl Iterator<Item = KeyPart<'a>>,
        limit: &Limit,
        now: Timestamp,
    ) -> CounterRef {
        let window_name = match self.style {
            KeyStyle::Unambiguous => WindowName::Full,
            KeyStyle::Reference => WindowName::StartOnly,
        };
        with_limit(self.descriptor_key(domain, parts), limit, now, window_name)
    }

    /// The counter of a descriptor with several limits. Their names differ also with
    /// [`KeyStyle::Reference`], although the reference service supports only one limit.
    pub fn counter_of_several<'a>(
        &self,
        domain: &[u8],
        parts: impl Iterator<Item = KeyPart<'a>>,
        limit: &Limit,
        now: Timestamp,
    ) -> CounterRef {
        with_limit(self.descriptor_key(domain, parts), limit, now, WindowName::Full)
    }

    /// The prefix of the names of all limits of a descriptor.
    fn descriptor_key<'a>(
        &self,
        domain: &[u8],
        parts: impl Iterator<Item = KeyPart<'a>>,
    ) -> CounterKey {
        let mut name = Vec::with_capacity(96);
        name.extend_from_slice(self.prefix.as_bytes());
        match self.style {
            KeyStyle::Unambiguous => push_escaped(&mut name, domain),
            KeyStyle::Reference => name.extend_from_slice(domain),
        }
        let domain_length = name.len();
        match self.style {
            KeyStyle::Unambiguous => {
                push_entries(&mut name, parts);
                name.push(b'|');
            }
            KeyStyle::Reference => {
                name.push(b'_');
                for part in parts {
                    for text in [part.key, part.value] {
                        name.extend_from_slice(text);
                        name.push(b'_');
                    }
                }
            }
        }
        CounterKey { name, domain_length }
    }
}

/// The form of a fixed window in a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WindowName {
    /// Its length, phase and start.
    Full,
    /// Its start, if windows begin at multiples of their length.
    StartOnly,
}

/// Appends the limit and its window to the key of a descriptor.
fn with_limit(
    mut key: CounterKey,
    limit: &Limit,
    now: Timestamp,
    window_name: WindowName,
) -> CounterRef {
    let name = &mut key.name;
    let seed = if limit.window.phase == Phase::Spread { seed(name) } else { 0 };
    let span = limit.window.span(now, seed);
    if !limit.penalty.is_zero() {
        name.extend_from_slice(b"penalty:");
    }
    if limit.has_window_in_key() {
        if window_name == WindowName::Full || limit.window.phase != Phase::Epoch {
            push_window(name, &limit.window);
            name.push(b'@');
        }
        push_number(name, span.start.as_secs());
    } else {
        push_limit(name, limit);
    }
    CounterRef { key, span }
}

/// Appends the algorithm and the length of the window, so that limits which differ in
/// either have different counters.
fn push_limit(name: &mut Vec<u8>, limit: &Limit) {
    name.extend_from_slice(limit.algorithm.name().as_bytes());
    if limit.algorithm.info().window {
        name.push(b':');
        push_window(name, &limit.window);
    }
}

/// Appends `60s`, `60s+15`, `60s+*` or `month:Europe/Berlin:1`.
fn push_window(name: &mut Vec<u8>, window: &Window) {
    if let Phase::Calendar(calendar) = &window.phase {
        let zone = calendar.time_zone.iana_name().unwrap_or("UTC");
        let unit = window.unit().name();
        name.extend_from_slice(format!("{unit}:{zone}:{}", calendar.first_day).as_bytes());
        return;
    }
    push_number(name, window.seconds());
    name.push(b's');
    match &window.phase {
        Phase::Epoch | Phase::Calendar(_) => {}
        Phase::Shifted(phase) => {
            name.push(b'+');
            push_number(name, phase.as_secs());
        }
        Phase::Spread => name.extend_from_slice(b"+*"),
    }
}

/// A hash of the name that is the same in all instances.
fn seed(name: &[u8]) -> u64 {
    let mut seed = 0;
    for byte in &Sha256::digest(name)[..8] {
        seed = seed << 8 | u64::from(*byte);
    }
    seed
}

fn push_entries<'a>(name: &mut Vec<u8>, parts: impl Iterator<Item = KeyPart<'a>>) {
    let begin = name.len();
    for part in parts {
        name.push(b'|');
        push_escaped(name, part.key);
        name.push(if part.shared { b'~' } else { b'=' });
        push_escaped(name, part.value);
    }
    if name.len() - begin > MAX_ENTRIES_BYTES {
        let digest = Sha256::digest(&name[begin..]);
        name.truncate(begin);
        name.extend_from_slice(b"|#");
        for &byte in &digest {
            push_hex(name, byte);
        }
    }
}

fn push_escaped(name: &mut Vec<u8>, text: &[u8]) {
    let is_separator = |byte: &u8| matches!(byte, b'|' | b'=' | b'~' | b'#' | b'%' | b'{' | b'}');
    let mut rest = text;
    while let Some(position) = rest.iter().position(is_separator) {
        let (plain, after) = rest.split_at(position);
        name.extend_from_slice(plain);
        name.push(b'%');
        push_hex(name, after[0]);
        rest = &after[1..];
    }
    name.extend_from_slice(rest);
}

fn push_hex(name: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    name.push(DIGITS[usize::from(byte >> 4)]);
    name.push(DIGITS[usize::from(byte & 15)]);
}

fn push_number(name: &mut Vec<u8>, number: u64) {
    name.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests;
