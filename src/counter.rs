//! The names of counters, in every store. Only this file spells one.

use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};

use crate::{
    limit::{Limit, Span, Window, window::Phase},
    time::Timestamp,
};

/// The name of a counter: equal names share a counter, across every instance
/// that uses the same store.
#[derive(Clone, Debug)]
pub struct CounterKey {
    name: Vec<u8>,
    /// How much of it says whose it is.
    domain: usize,
}

impl CounterKey {
    /// The name as the store is to use it. Any bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.name
    }

    /// What the names of all counters of the same domain begin with, and those of
    /// no other domain are given. Equal names may tell of different ones, where
    /// [`KeyStyle::Reference`] has domains share a counter.
    pub fn domain(&self) -> &[u8] {
        &self.name[..self.domain]
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

/// The name of a counter, and its window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterRef {
    /// Its name.
    pub key: CounterKey,
    /// Its present window.
    pub span: Span,
}

/// How counters are named.
#[derive(Clone, Debug, Default)]
pub struct KeyFormat {
    /// What every name begins with.
    pub prefix: String,
    /// How the rest is written.
    pub style: KeyStyle,
}

/// How the parts of a counter's name are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyStyle {
    /// `domain|key=value|60s@1200`: different descriptors, different windows and
    /// different algorithms never share a name.
    ///
    /// With a penalty it is `domain|key=value|penalty:fixed_window:60s`, whatever the
    /// window: the ban is kept in the same counter, and outlasts windows.
    ///
    /// `~` takes the place of `=` where all values that match a pattern count
    /// together. Bytes that mean something here, and braces, by which a caller
    /// could choose the node of a Redis Cluster, are written `%XX`. Where the
    /// entries take more than [`MAX_ENTRIES_BYTES`] bytes, their SHA-256 stands for them.
    #[default]
    Unambiguous,
    /// `domain_key_value_1200`: what Envoy's reference service uses, so that
    /// both can count together. `a`, `b_c` and `a_b`, `c` share a counter, and
    /// so do different units when their windows begin at the same time, except
    /// those of one descriptor with several limits.
    Reference,
}

/// The longest list of entries that is written out, in bytes.
pub const MAX_ENTRIES_BYTES: usize = 200;

/// One entry of the descriptor that is counted.
#[derive(Clone, Copy, Debug)]
pub struct KeyPart<'a> {
    /// The entry's key.
    pub key: &'a [u8],
    /// The entry's value, or the text of the pattern under which it counts.
    pub value: &'a [u8],
    /// Whether `value` is a pattern.
    pub shared: bool,
}

impl KeyFormat {
    /// The counter for these entries, and the window of it that contains `now`.
    pub fn key<'a>(
        &self,
        domain: &[u8],
        parts: impl Iterator<Item = KeyPart<'a>>,
        limit: &Limit,
        now: Timestamp,
    ) -> CounterRef {
        let ours = self.style == KeyStyle::Unambiguous;
        named(self.begin(domain, parts), limit, now, ours)
    }

    /// The same if `limit` is one of several of the descriptor: nothing of them
    /// is shared, also in the reference service's format, which knows one.
    pub fn key_of_several<'a>(
        &self,
        domain: &[u8],
        parts: impl Iterator<Item = KeyPart<'a>>,
        limit: &Limit,
        now: Timestamp,
    ) -> CounterRef {
        named(self.begin(domain, parts), limit, now, true)
    }

    /// What the names of all limits of a descriptor begin with.
    fn begin<'a>(&self, domain: &[u8], parts: impl Iterator<Item = KeyPart<'a>>) -> CounterKey {
        let mut name = Vec::with_capacity(96);
        name.extend_from_slice(self.prefix.as_bytes());
        match self.style {
            KeyStyle::Unambiguous => escape(&mut name, domain),
            KeyStyle::Reference => name.extend_from_slice(domain),
        }
        let domain = name.len();
        match self.style {
            KeyStyle::Unambiguous => {
                unambiguous(&mut name, parts);
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
        CounterKey { name, domain }
    }
}

/// The counter whose name begins with that of `key`. If `windows`, the name tells
/// fixed windows of different lengths apart.
fn named(mut key: CounterKey, limit: &Limit, now: Timestamp, windows: bool) -> CounterRef {
    let name = &mut key.name;
    let seed = if limit.window.phase == Phase::Spread { seed(name) } else { 0 };
    let span = limit.window.span(now, seed);
    if !limit.penalty.is_zero() {
        name.extend_from_slice(b"penalty:");
    }
    if limit.has_window_in_key() {
        // The reference service's names end with nothing but the moment.
        if windows || limit.window.phase != Phase::Epoch {
            push_window(name, &limit.window);
            name.push(b'@');
        }
        push_number(name, span.start.as_secs());
    } else {
        push_limit(name, limit);
    }
    CounterRef { key, span }
}

/// The algorithm and the window: limits of one descriptor that differ in either
/// count apart.
fn push_limit(name: &mut Vec<u8>, limit: &Limit) {
    name.extend_from_slice(limit.algorithm.name().as_bytes());
    if limit.algorithm.info().window {
        name.push(b':');
        push_window(name, &limit.window);
    }
}

/// `60s`, `60s+15`, `60s+*`, `month:Europe/Berlin:1`.
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

/// A number that the name decides, the same in every instance.
fn seed(name: &[u8]) -> u64 {
    let digest = Sha256::digest(name);
    digest.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

fn unambiguous<'a>(name: &mut Vec<u8>, parts: impl Iterator<Item = KeyPart<'a>>) {
    let begin = name.len();
    for part in parts {
        name.push(b'|');
        escape(name, part.key);
        name.push(if part.shared { b'~' } else { b'=' });
        escape(name, part.value);
    }
    if name.len() - begin > MAX_ENTRIES_BYTES {
        let digest = Sha256::digest(&name[begin..]);
        name.truncate(begin);
        name.extend_from_slice(b"|#");
        digest.iter().for_each(|&byte| push_hex(name, byte));
    }
}

fn escape(name: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        if matches!(byte, b'|' | b'=' | b'~' | b'#' | b'%' | b'{' | b'}') {
            name.push(b'%');
            push_hex(name, byte);
        } else {
            name.push(byte);
        }
    }
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
