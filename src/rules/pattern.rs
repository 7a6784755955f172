//! Texts in which `*` stands for any characters.

use memchr::memmem;
use smallvec::SmallVec;

/// A buffer for the text of an entry, which is on the stack if the entry is
/// short.
pub(super) type TextBuffer = SmallVec<[u8; 128]>;

/// A text in which each `*` matches any number of bytes, including none.
///
/// The text is split once, when the pattern is made. A match takes one pass over
/// the tested text.
///
/// ```
/// # use tollgate::rules::pattern::Pattern;
/// let images = Pattern::new(b"path_/img/*.png");
/// assert!(images.matches(b"path_/img/a/b.png"));
/// assert!(!images.matches(b"path_/img/a.jpg"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The text before the first `*`.
    pub(super) prefix: Box<[u8]>,
    /// The texts between two `*`, in order.
    pub(super) middle: Vec<Box<[u8]>>,
    /// The text after the last `*`; `None` if there is no `*`.
    pub(super) suffix: Option<Box<[u8]>>,
}

impl Pattern {
    /// Splits `text` at each `*`.
    pub fn new(text: &[u8]) -> Self {
        let mut pieces = text.split(|&byte| byte == b'*').map(Box::from);
        let prefix = pieces.next().unwrap_or_default();
        let mut middle: Vec<_> = pieces.collect();
        let suffix = middle.pop();
        Self { prefix, middle, suffix }
    }

    /// True if the pattern matches the whole of `text`.
    pub fn matches(&self, text: &[u8]) -> bool {
        let Some(suffix) = &self.suffix else { return *text == *self.prefix };
        let Some(text) = text.strip_prefix(&*self.prefix) else { return false };
        let Some(text) = text.strip_suffix(&**suffix) else { return false };
        contains_in_order(text, &self.middle)
    }
}

/// True if `text` contains all `pieces` one after the other, without overlap.
pub(super) fn contains_in_order(mut text: &[u8], pieces: &[Box<[u8]>]) -> bool {
    for piece in pieces {
        // The first occurrence leaves the most text for the pieces that follow.
        let Some(start) = memmem::find(text, piece) else { return false };
        text = &text[start + piece.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Compares byte by byte, and tries every length for each `*`.
    fn matches_by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => {
                (0..=text.len()).any(|start| matches_by_definition(rest, &text[start..]))
            }
            Some((first, rest)) => {
                text.first() == Some(first) && matches_by_definition(rest, &text[1..])
            }
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_by_definition(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            let expected = matches_by_definition(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(Pattern::new(pattern.as_bytes()).matches(text.as_bytes()), expected);
        }
    }

    #[test]
    fn prefix_and_suffix_may_not_overlap() {
        assert!(!Pattern::new(b"ab*ba").matches(b"aba"));
        assert!(Pattern::new(b"ab*ba").matches(b"abba"));
    }
}
