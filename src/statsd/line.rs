//! Lines as statsd and DogStatsD read them.

use std::fmt::Write;

use super::{TagDialect, mogrifier::Mogrifier};
use crate::metrics::{ledger::What, tags::Tags};

/// How statistics are written.
#[derive(Debug)]
pub(super) struct Format {
    dialect: TagDialect,
    /// What follows the name or, in DogStatsD, the value.
    tags: String,
}

impl Format {
    pub(super) fn new(dialect: TagDialect, tags: &Tags) -> Self {
        let tags = tags.clean();
        let tags: Vec<_> = match dialect {
            TagDialect::Statsd => tags.map(|(key, value)| format!(".__{key}={value}")).collect(),
            TagDialect::DogStatsd(_) => vec![
                tags.map(|(key, value)| format!("{key}:{value}")).collect::<Vec<_>>().join(","),
            ],
        };
        Self { dialect, tags: tags.concat() }
    }

    /// One line, with its end.
    pub(super) fn line(&self, name: &str, what: What) -> String {
        // Nobody but us adds tags.
        let name = clean(name).replace(".__", ".-_");
        match &self.dialect {
            TagDialect::Statsd => format!("{name}{}:{}\n", self.tags, value(what)),
            TagDialect::DogStatsd(mogrifiers) => {
                let mut tags = self.tags.clone();
                let name = mogrify(mogrifiers, &name, &mut tags).unwrap_or(name);
                let mark = if tags.is_empty() { "" } else { "|#" };
                format!("{name}:{}{mark}{tags}\n", value(what))
            }
        }
    }
}

/// What the first of `mogrifiers` that knows `name` makes of it; its tags are
/// added to `tags`.
fn mogrify(mogrifiers: &[Mogrifier], name: &str, tags: &mut String) -> Option<String> {
    let (name, more) = mogrifiers.iter().find_map(|it| it.apply(name))?;
    for (key, value) in more {
        let comma = if tags.is_empty() { "" } else { "," };
        let _ = write!(tags, "{comma}{}:{}", clean(key), clean(&value));
    }
    Some(clean(&name))
}

/// Without what separates names, values and tags, here and in the dialects that
/// other servers know.
fn clean(text: &str) -> String {
    text.replace(|it: char| it.is_control() || ":|,#;[]".contains(it), "_")
}

fn value(what: What) -> String {
    match what {
        What::More(more) => format!("{more}|c"),
        // A sign would change the gauge and not set it.
        What::Level(level) => format!("{}|g", number(level.max(0.0))),
        What::Times { millis, calls: 1 } => format!("{}|ms", number(millis)),
        // One call stands for all.
        What::Times { millis, calls } => format!("{}|ms|@{}", number(millis), rate(calls)),
    }
}

/// With six decimals at most.
fn number(number: f64) -> String {
    let text = format!("{number:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The part of the calls that one of `calls` is: such that whoever divides 1 by it
/// and cuts off the fraction gets `calls`, as servers do. Calls beyond 2³² are not
/// told.
fn rate(calls: u64) -> f64 {
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

    /// A pattern, a name, and tags.
    type Shown<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

    fn dog(mogrifiers: &[Shown<'_>]) -> Format {
        let mogrifier = |&(pattern, name, tags): &Shown<'_>| {
            let tags = tags.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
            Mogrifier { pattern: pattern.parse().unwrap(), name: name.into(), tags }
        };
        Format::new(TagDialect::DogStatsd(mogrifiers.iter().map(mogrifier).collect()), &tags())
    }

    #[test]
    fn lines_of_statsd_have_tags_in_the_name() {
        let format = Format::new(TagDialect::Statsd, &tags());
        let times = |millis, calls| What::Times { millis, calls };
        for (what, expected) in [
            (What::More(3), "3|c"),
            (What::Level(0.0), "0|g"),
            (What::Level(120.0), "120|g"),
            (What::Level(-1.0), "0|g"),
            (times(0.0025, 1), "0.0025|ms"),
            (times(0.007_500_000_000_000_001, 4), "0.0075|ms|@0.25"),
            (times(10_000.0, 1000), "10000|ms|@0.001"),
        ] {
            assert_eq!(format.line("a.b", what), format!("a.b.__a=b.__foo=bar:{expected}\n"));
        }
        let plain = Format::new(TagDialect::Statsd, &Tags::default());
        assert_eq!(plain.line("a.b", What::More(3)), "a.b:3|c\n");
    }

    #[test]
    fn lines_of_dogstatsd_have_tags_at_the_end() {
        let more = What::More(3);
        assert_eq!(dog(&[]).line("a.b", more), "a.b:3|c|#a:b,foo:bar\n");
        let times = What::Times { millis: 1.5, calls: 2 };
        assert_eq!(dog(&[]).line("a.b", times), "a.b:1.5|ms|@0.5|#a:b,foo:bar\n");
        let plain = Format::new(TagDialect::DogStatsd(vec![]), &Tags::default());
        assert_eq!(plain.line("a.b", more), "a.b:3|c\n");
    }

    #[test]
    fn the_first_mogrifier_that_matches_counts() {
        let format = dog(&[
            (r"^shop\.(.*?)\.(.*)$", "s.$2", &[("key", "$1"), ("all", "<$0>"), ("no", "$7$10")]),
            ("hit", "any", &[]),
            ("h", "never", &[]),
        ]);
        let line = |name| format.line(name, What::More(1));
        assert_eq!(
            line("shop.user.hits"),
            "s.hits:1|c|#a:b,foo:bar,key:user,all:<shop.user.hits>,no:$7$10\n"
        );
        // Patterns need not match from end to end.
        assert_eq!(line("a.hits"), "any:1|c|#a:b,foo:bar\n");
        assert_eq!(line("a.b"), "a.b:1|c|#a:b,foo:bar\n");
    }

    #[test]
    fn a_rate_stands_for_exactly_so_many_calls() {
        let cut = |it: f64| it.trunc();
        let check = |calls: u32| {
            // As it is read from the line.
            let text = rate(calls.into()).to_string();
            assert!(!text.contains('e'), "{text}");
            let read: f64 = text.parse().unwrap();
            assert_eq!(cut(1.0 / read), f64::from(calls), "{text}");
        };
        (2..200_000).for_each(check);
        [u32::MAX, u32::MAX - 1, 1 << 31, 1_000_000_007].into_iter().for_each(check);
    }

    proptest! {
        /// Whatever a caller sends: one line, one name, one value, our tags.
        #[test]
        fn no_separator_gets_out_of_a_name(
            name in prop_oneof![any::<String>(), "[a.:|,#;@_\\[\\]\n\r\u{0}=ü]{0,40}"],
            capture in prop::sample::select(vec![".*", "[^.]+", "."]),
        ) {
            let line = Format::new(TagDialect::Statsd, &tags()).line(&name, What::More(7));
            let body = line.strip_suffix(".__a=b.__foo=bar:7|c\n").unwrap();
            prop_assert!(!body.contains([':', '|', '\n', '\r', ',', '#', '[', ';']));
            prop_assert!(!body.contains(".__"));

            let pattern = format!("^({capture})");
            let format = dog(&[(&pattern, "x.$1", &[("t", "$1")])]);
            let line = format.line(&name, What::More(7));
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
