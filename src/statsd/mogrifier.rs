//! Names that become other names and tags.

use regex::{Captures, Regex};

/// Changes the names of some statistics, as Envoy's reference service does for
/// DogStatsD.
#[derive(Clone, Debug)]
pub struct Mogrifier {
    /// Which names. It may match any part of them.
    pub pattern: Regex,
    /// What becomes of the whole name. `$0` stands for what matched, and `$1` and
    /// so on for its groups; those that there are not stay as they are.
    pub name: String,
    /// Keys and values of tags; `$` means the same in the values.
    pub tags: Vec<(String, String)>,
}

impl Mogrifier {
    /// What becomes of `name`, and the tags, unless it is none of ours.
    pub(super) fn apply(&self, name: &str) -> Option<(String, Vec<(&str, String)>)> {
        let captures = self.pattern.captures(name)?;
        let tags = self.tags.iter().map(|(key, value)| (key.as_str(), expand(value, &captures)));
        Some((expand(&self.name, &captures), tags.collect()))
    }
}

fn expand(template: &str, captures: &Captures<'_>) -> String {
    let mut pieces = template.split('$');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = piece.split_at(digits);
        match number.parse().ok().filter(|it| *it < captures.len()) {
            // A group may have matched nothing.
            Some(group) => text += captures.get(group).map_or("", |it| it.as_str()),
            None => {
                text.push('$');
                text += number;
            }
        }
        text += rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_stand_for_groups_that_there_are() {
        let pattern = Regex::new("(a)(x)?(b)").unwrap();
        let captures = pattern.captures("-ab-").unwrap();
        for (template, expected) in [
            ("", ""),
            ("$0", "ab"),
            ("<$1$2$3>", "<ab>"),
            ("$3.$1", "b.a"),
            ("$4 $11 $99999999999999999999", "$4 $11 $99999999999999999999"),
            ("$ $$1 $x 1$", "$ $a $x 1$"),
            ("ä$1ö", "äaö"),
        ] {
            assert_eq!(expand(template, &captures), expected, "{template}");
        }
    }
}
