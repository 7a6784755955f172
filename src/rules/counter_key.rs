//! The names of counters, in every store. Only this file spells one.

use sha2::{Digest, Sha256};

use crate::{
    limit::{Algorithm, Limit, Span, Window, window::Phase},
    time::Timestamp,
};

/// The name of a counter: equal names share a counter, across every instance
/// that uses the same store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CounterKey(Vec<u8>);

impl CounterKey {
    /// The name as the store is to use it. Any bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The name of a counter, and what depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub key: CounterKey,
    /// Where a ban is kept, if its limit has a penalty.
    pub ban: Option<CounterKey>,
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
    /// `~` takes the place of `=` where all values that match a pattern count
    /// together. Bytes that mean something here, and braces, by which a caller
    /// could choose the node of a Redis Cluster, are written `%XX`. Where the
    /// entries take more than [`LONGEST`] bytes, their SHA-256 stands for them.
    #[default]
    Unambiguous,
    /// `domain_key_value_1200`: what Envoy's reference service uses, so that
    /// both can count together. `a`, `b_c` and `a_b`, `c` share a counter, and
    /// so do different units when their windows begin at the same time.
    Reference,
}

/// The longest list of entries that is written out, in bytes.
pub const LONGEST: usize = 200;

/// One entry of the descriptor that is counted.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
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
        parts: impl Iterator<Item = Part<'a>>,
        limit: &Limit,
        now: Timestamp,
    ) -> Named {
        let mut name = Vec::with_capacity(96);
        name.extend_from_slice(self.prefix.as_bytes());
        match self.style {
            KeyStyle::Unambiguous => {
                escape(&mut name, domain);
                unambiguous(&mut name, parts);
                name.push(b'|');
            }
            KeyStyle::Reference => {
                name.extend_from_slice(domain);
                name.push(b'_');
                for part in parts {
                    for text in [part.key, part.value] {
                        name.extend_from_slice(text);
                        name.push(b'_');
                    }
                }
            }
        }
        let seed = if limit.window.phase == Phase::Spread { seed(&name) } else { 0 };
        let span = limit.window.span(now, seed);
        let ban = (!limit.penalty.is_zero()).then(|| {
            let mut ban = name.clone();
            ban.extend_from_slice(b"penalty:");
            push_limit(&mut ban, limit);
            CounterKey(ban)
        });
        if let Algorithm::FixedWindow { .. } = limit.algorithm {
            // The reference service's names end with nothing but the moment.
            if self.style == KeyStyle::Unambiguous || limit.window.phase != Phase::Epoch {
                push_window(&mut name, &limit.window);
                name.push(b'@');
            }
            push_number(&mut name, span.start.as_secs());
        } else {
            push_limit(&mut name, limit);
        }
        Named { key: CounterKey(name), ban, span }
    }
}

/// The algorithm and the window: limits of one descriptor that differ in either
/// count apart.
fn push_limit(name: &mut Vec<u8>, limit: &Limit) {
    name.extend_from_slice(limit.algorithm.name().as_bytes());
    if !matches!(limit.algorithm, Algorithm::Concurrency { .. }) {
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

fn unambiguous<'a>(name: &mut Vec<u8>, parts: impl Iterator<Item = Part<'a>>) {
    let begin = name.len();
    for part in parts {
        name.push(b'|');
        escape(name, part.key);
        name.push(if part.shared { b'~' } else { b'=' });
        escape(name, part.value);
    }
    if name.len() - begin > LONGEST {
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
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::limit::Unit;

    fn key(format: &KeyFormat, entries: &[(&[u8], &[u8], bool)], unit: Unit, now: u64) -> Vec<u8> {
        let parts = entries.iter().map(|&(key, value, shared)| Part { key, value, shared });
        let limit = Limit::fixed(1, Window::of(unit));
        format.key(b"domain", parts, &limit, Timestamp::from_secs(now)).key.0
    }

    #[track_caller]
    fn check(format: &KeyFormat, entries: &[(&str, &str)], unit: Unit, now: u64, expected: &str) {
        let entries: Vec<_> =
            entries.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes(), false)).collect();
        assert_eq!(String::from_utf8_lossy(&key(format, &entries, unit, now)), expected);
    }

    #[test]
    fn the_reference_format_is_byte_exact() {
        let reference = KeyFormat { style: KeyStyle::Reference, ..KeyFormat::default() };
        check(&reference, &[("key", "value")], Unit::Second, 1234, "domain_key_value_1234");
        let two = [("key2", "value2"), ("subkey2", "subvalue2")];
        check(&reference, &two, Unit::Minute, 1234, "domain_key2_value2_subkey2_subvalue2_1200");
        check(
            &reference,
            &[("key3", "value3")],
            Unit::Hour,
            1_000_000,
            "domain_key3_value3_997200",
        );
        check(&reference, &[("key3", "value3")], Unit::Day, 1_000_000, "domain_key3_value3_950400");
        check(&reference, &[("files", "files/*")], Unit::Second, 1234, "domain_files_files/*_1234");
        let prefixed = KeyFormat { prefix: "prefix:".into(), ..reference };
        check(&prefixed, &[("key", "value")], Unit::Second, 1234, "prefix:domain_key_value_1234");
    }

    #[test]
    fn our_own_format_reads_well() {
        let ours = KeyFormat::default();
        check(
            &ours,
            &[("user", "ann"), ("path", "/a_b")],
            Unit::Minute,
            1234,
            "domain|user=ann|path=/a_b|60s@1200",
        );
        check(
            &ours,
            &[("a{b}", "c|d=100%")],
            Unit::Second,
            9,
            "domain|a%7bb%7d=c%7cd%3d100%25|1s@9",
        );
    }

    #[test]
    fn a_long_name_is_cut_short() {
        let long = vec![b'x'; 1 << 20];
        let name = key(&KeyFormat::default(), &[(b"key", &long, false)], Unit::Day, 0);
        assert!(name.len() < 100, "{}", String::from_utf8_lossy(&name));
    }

    fn entries() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>, bool)>> {
        let text = || vec(prop::sample::select(&b"a|=~#%{_\xff"[..]), 0..3);
        vec((text(), text(), any::<bool>()), 0..3)
    }

    proptest! {
        #[test]
        fn different_descriptors_never_share_a_name(a in entries(), b in entries()) {
            let name = |entries: &[(Vec<u8>, Vec<u8>, bool)]| {
                let entries: Vec<_> = entries.iter().map(|(k, v, s)| (&k[..], &v[..], *s)).collect();
                key(&KeyFormat::default(), &entries, Unit::Minute, 60)
            };
            prop_assert_eq!(a == b, name(&a) == name(&b));
        }
    }

    #[test]
    fn different_windows_never_share_a_name() {
        let entries: [(&[u8], &[u8], bool); 1] = [(b"a", b"b", false)];
        let mut names: Vec<_> = Unit::ALL
            .into_iter()
            .map(|unit| key(&KeyFormat::default(), &entries, unit, 0))
            .collect();
        names.dedup();
        assert_eq!(names.len(), Unit::ALL.len());
    }
}
