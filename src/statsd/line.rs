//! Lines in the formats of statsd and DogStatsD.

use std::fmt::Write;

use super::{mogrifier::Mogrifier, settings::TagDialect};
use crate::metrics::{delta_tracker::Change, tags::Tags};

/// The format of lines for one server.
#[derive(Debug)]
pub(super) struct LineFormat {
    dialect: TagDialect,
    /// The tags as text: behind the name for statsd, behind `|#` for DogStatsD.
    tags: String,
}

impl LineFormat {
    pub(super) fn new(dialect: TagDialect, tags: &Tags) -> Self {
        let mut text = String::new();
        for (key, value) in tags.clean() {
            let _ = match dialect {
                TagDialect::Statsd => write!(text, ".__{key}={value}"),
                TagDialect::DogStatsd(_) => write!(text, "{}{key}:{value}", comma(&text)),
            };
        }
        Self { dialect, tags: text }
    }

    /// One line, with the line break.
    pub(super) fn line(&self, name: &str, change: Change) -> String {
        // `.__` marks tags, and a value of a request must not add any.
        let name = clean(name).replace(".__", ".-_");
        let value = value(change);
        match &self.dialect {
            TagDialect::Statsd => format!("{name}{}:{value}\n", self.tags),
            TagDialect::DogStatsd(mogrifiers) => {
                let mut tags = self.tags.clone();
                let name = mogrify(mogrifiers, &name, &mut tags).unwrap_or(name);
                let mark = if tags.is_empty() { "" } else { "|#" };
                format!("{name}:{value}{mark}{tags}\n")
            }
        }
    }
}

/// Applies the first of `mogrifiers` that matches `name`. Returns the new name and appends
/// the new tags to `tags`.
fn mogrify(mogrifiers: &[Mogrifier], name: &str, tags: &mut String) -> Option<String> {
    let mogrified = mogrifiers.iter().find_map(|mogrifier| mogrifier.apply(name))?;
    for (key, value) in mogrified.tags {
        let _ = write!(tags, "{}{}:{}", comma(tags), clean(key), clean(&value));
    }
    Some(clean(&mogrified.name))
}

fn comma(tags: &str) -> &'static str {
    if tags.is_empty() { "" } else { "," }
}

/// Replaces the characters that separate names, values and tags in the dialects of
/// statsd servers.
fn clean(text: &str) -> String {
    text.replace(|c: char| c.is_control() || ":|,#;[]".contains(c), "_")
}

fn value(change: Change) -> String {
    match change {
        Change::Growth(growth) => format!("{growth}|c"),
        // A gauge with a sign would be a change of the gauge, not its level.
        Change::Level(level) => format!("{}|g", decimal(level.max(0.0))),
        Change::Times { millis, calls: 1 } => format!("{}|ms", decimal(millis)),
        Change::Times { millis, calls } => {
            format!("{}|ms|@{}", decimal(millis), sample_rate(calls))
        }
    }
}

/// At most six decimal places, without trailing zeros.
fn decimal(number: f64) -> String {
    let text = format!("{number:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The sample rate with which one line stands for `calls` calls. Servers divide 1 by the
/// rate and drop the fraction: the result is exactly `calls`, up to 2³².
fn sample_rate(calls: u64) -> f64 {
    let calls = f64::from(u32::try_from(calls).unwrap_or(u32::MAX));
    let rate = calls.recip();
    if rate.recip() < calls { rate.next_down() } else { rate }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tags() -> Tags {
        Tags::new([("foo", "bar"), ("a", "b")]).unwrap()
    }

    /// A pattern, a template of the name, and tags.
    type MogrifierText<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

    fn dogstatsd(mogrifiers: &[MogrifierText<'_>]) -> LineFormat {
        let mut all = Vec::new();
        for (pattern, name, tags) in mogrifiers {
            let tags = tags.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
            let pattern = pattern.parse().unwrap();
            all.push(Mogrifier { pattern, name: (*name).into(), tags });
        }
        LineFormat::new(TagDialect::DogStatsd(all), &tags())
    }

    #[test]
    fn lines_of_statsd_have_tags_in_the_name() {
        let format = LineFormat::new(TagDialect::Statsd, &tags());
        let times = |millis, calls| Change::Times { millis, calls };
        for (change, expected) in [
            (Change::Growth(3), "3|c"),
            (Change::Level(0.0), "0|g"),
            (Change::Level(120.0), "120|g"),
            (Change::Level(-1.0), "0|g"),
            (times(0.0025, 1), "0.0025|ms"),
            (times(0.007_500_000_000_000_001, 4), "0.0075|ms|@0.25"),
            (times(10_000.0, 1000), "10000|ms|@0.001"),
        ] {
            assert_eq!(format.line("a.b", change), format!("a.b.__a=b.__foo=bar:{expected}\n"));
        }
        let plain = LineFormat::new(TagDialect::Statsd, &Tags::default());
        assert_eq!(plain.line("a.b", Change::Growth(3)), "a.b:3|c\n");
    }

    #[test]
    fn lines_of_dogstatsd_have_tags_at_the_end() {
        let growth = Change::Growth(3);
        assert_eq!(dogstatsd(&[]).line("a.b", growth), "a.b:3|c|#a:b,foo:bar\n");
        let times = Change::Times { millis: 1.5, calls: 2 };
        assert_eq!(dogstatsd(&[]).line("a.b", times), "a.b:1.5|ms|@0.5|#a:b,foo:bar\n");
        let plain = LineFormat::new(TagDialect::DogStatsd(vec![]), &Tags::default());
        assert_eq!(plain.line("a.b", growth), "a.b:3|c\n");
    }

    #[test]
    fn the_first_matching_mogrifier_applies() {
        let format = dogstatsd(&[
            (r"^shop\.(.*?)\.(.*)$", "s.$2", &[("key", "$1"), ("all", "<$0>"), ("no", "$7$10")]),
            ("hit", "any", &[]),
            ("h", "never", &[]),
        ]);
        let line = |name| format.line(name, Change::Growth(1));
        assert_eq!(
            line("shop.user.hits"),
            "s.hits:1|c|#a:b,foo:bar,key:user,all:<shop.user.hits>,no:$7$10\n"
        );
        // A pattern may match a part of the name.
        assert_eq!(line("a.hits"), "any:1|c|#a:b,foo:bar\n");
        assert_eq!(line("a.b"), "a.b:1|c|#a:b,foo:bar\n");
    }

    #[test]
    fn servers_read_the_exact_number_of_calls_from_a_sample_rate() {
        for calls in (2..200_000).chain([u32::MAX, u32::MAX - 1, 1 << 31, 1_000_000_007]) {
            let text = sample_rate(calls.into()).to_string();
            assert!(!text.contains('e'), "{text}");
            let read: f64 = text.parse().unwrap();
            assert_eq!((1.0 / read).trunc(), f64::from(calls), "{text}");
        }
    }

    proptest! {
        /// Any value of a request results in one line with one name, one value, our tags.
        #[test]
        fn a_name_contains_no_separators(
            name in prop_oneof![any::<String>(), "[a.:|,#;@_\\[\\]\n\r\u{0}=ü]{0,40}"],
            capture in prop::sample::select(vec![".*", "[^.]+", "."]),
        ) {
            let line = LineFormat::new(TagDialect::Statsd, &tags()).line(&name, Change::Growth(7));
            let body = line.strip_suffix(".__a=b.__foo=bar:7|c\n").unwrap();
            prop_assert!(!body.contains([':', '|', '\n', '\r', ',', '#', '[', ';']));
            prop_assert!(!body.contains(".__"));

            let pattern = format!("^({capture})");
            let format = dogstatsd(&[(&pattern, "x.$1", &[("t", "$1")])]);
            let line = format.line(&name, Change::Growth(7));
            let parts: Vec<_> = line.strip_suffix('\n').unwrap().split('|').collect();
            prop_assert_eq!(parts.len(), 3);
            prop_assert_eq!(parts[0].split(':').count(), 2);
            let tags: Vec<_> = parts[2].split(',').collect();
            prop_assert_eq!(&tags[..2], &["#a:b", "foo:bar"]);
            prop_assert!(tags.len() <= 3);
            prop_assert!(!line[..line.len() - 1].contains(char::is_control));
        }
    }
}
