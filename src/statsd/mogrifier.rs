//! Rewrites names of statistics for DogStatsD.

use regex::{Captures, Regex};

/// Turns parts of some names into tags, like the setting of the same name of Envoy's
/// reference service.
#[derive(Clone, Debug)]
pub struct Mogrifier {
    /// The names to rewrite. The pattern may match any part of a name.
    pub pattern: Regex,
    /// The template of the new name. `$0` stands for the match, `$1` and so on for its
    /// groups; a number without a group stays as it is.
    pub name: String,
    /// Keys of tags, and templates of their values.
    pub tags: Vec<(String, String)>,
}

/// A new name and the tags that were part of the old one.
#[derive(Debug)]
pub(super) struct Mogrified<'m> {
    pub(super) name: String,
    pub(super) tags: Vec<(&'m str, String)>,
}

impl Mogrifier {
    /// Rewrites `name`, or returns `None` if the pattern does not match.
    pub(super) fn apply(&self, name: &str) -> Option<Mogrified<'_>> {
        let captures = self.pattern.captures(name)?;
        let mut tags = Vec::new();
        for (key, template) in &self.tags {
            tags.push((key.as_str(), expand(template, &captures)));
        }
        Some(Mogrified { name: expand(&self.name, &captures), tags })
    }
}

fn expand(template: &str, captures: &Captures<'_>) -> String {
    let mut pieces = template.split('$');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = piece.split_at(digits);
        match number.parse::<usize>() {
            Ok(group) if group < captures.len() => {
                // A group that is optional may have no match.
                if let Some(group) = captures.get(group) {
                    text += group.as_str();
                }
            }
            _ => {
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
    fn dollars_stand_for_existing_groups() {
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
