//! `*` in keys and values.

use memchr::memmem;

/// A text in which each `*` stands for any bytes, also for none.
///
/// It is split once; a match then takes one pass over the text.
///
/// ```
/// # use tollgate::rules::pattern::Pattern;
/// let images = Pattern::new(b"path_/img/*.png");
/// assert!(images.matches(b"path_/img/a/b.png"));
/// assert!(!images.matches(b"path_/img/a.jpg"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Before the first `*`.
    pub(super) prefix: Box<[u8]>,
    /// Between one `*` and the next.
    pub(super) middle: Vec<Box<[u8]>>,
    /// Behind the last `*`; none if there is no `*` at all.
    pub(super) suffix: Option<Box<[u8]>>,
}

impl Pattern {
    /// Splits `text` at each `*`.
    pub fn new(text: &[u8]) -> Self {
        let mut pieces = text.split(|&it| it == b'*').map(Box::from);
        let prefix = pieces.next().unwrap_or_default();
        let mut middle: Vec<_> = pieces.collect();
        let suffix = middle.pop();
        Self { prefix, middle, suffix }
    }

    /// Whether all of `text` matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        let Some(suffix) = &self.suffix else { return *text == *self.prefix };
        let Some(text) = text.strip_prefix(&*self.prefix) else { return false };
        text.strip_suffix(&**suffix).is_some_and(|it| in_order(&self.middle, it))
    }
}

/// Whether `text` has these pieces, one behind the other.
pub(super) fn in_order(pieces: &[Box<[u8]>], mut text: &[u8]) -> bool {
    for piece in pieces {
        // The leftmost place leaves the most for the pieces that follow.
        let Some(at) = memmem::find(text, piece) else { return false };
        text = &text[at + piece.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `*` means, letter by letter.
    fn matches_by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => {
                (0..=text.len()).any(|it| matches_by_definition(rest, &text[it..]))
            }
            Some((first, rest)) => {
                text.first() == Some(first) && matches_by_definition(rest, &text[1..])
            }
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_its_letters_say(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            let expected = matches_by_definition(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(Pattern::new(pattern.as_bytes()).matches(text.as_bytes()), expected);
        }
    }

    #[test]
    fn prefix_and_suffix_may_not_share_letters() {
        assert!(!Pattern::new(b"ab*ba").matches(b"aba"));
        assert!(Pattern::new(b"ab*ba").matches(b"abba"));
    }
}
