//! Text from rule files, made safe to print.

use crate::printable::printable;

/// The part of a line that a diagnostic shows, and the columns that it marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub(super) text: String,
    /// The number of characters before the marked ones.
    pub(super) indent: usize,
    /// The number of marked characters; at least 1.
    pub(super) width: usize,
}

impl Excerpt {
    /// The number of bytes shown before, and from, the start of the marked range.
    const MARGIN: usize = 100;
    /// The number of bytes decoded on each side: more than [`Self::MARGIN`], so
    /// that a character cut in two at the edge is not shown.
    const DECODED: usize = 200;

    /// Cuts out the line around `start`, and marks the bytes from `start` to
    /// `end`. Bytes that are not UTF-8 are replaced.
    pub(super) fn new(bytes: &[u8], start: usize, end: usize) -> Self {
        let split = start.min(bytes.len());
        let from = split.saturating_sub(Self::DECODED);
        let to = (start + Self::DECODED).min(bytes.len());
        let before = String::from_utf8_lossy(&bytes[from..split]);
        let after = String::from_utf8_lossy(&bytes[split..to]);
        Self::from_text(&before, &after, end.saturating_sub(start))
    }

    /// The line around the place between `before` and `after`, where the first
    /// `marked` bytes of `after` are marked.
    fn from_text(before: &str, after: &str, marked: usize) -> Self {
        let line_breaks = ['\n', '\r'];
        let before_start = before.len().saturating_sub(Self::MARGIN);
        let before = &before[before.ceil_char_boundary(before_start)..];
        let before = before.rsplit(line_breaks).next().unwrap_or_default();
        let after = &after[..after.floor_char_boundary(Self::MARGIN)];
        let after = after.split(line_breaks).next().unwrap_or_default();
        let marked = &after[..after.floor_char_boundary(marked)];

        let mut text = String::with_capacity(before.len() + after.len());
        text.extend(before.chars().map(printable));
        text.extend(after.chars().map(printable));
        Self {
            text,
            indent: before.chars().count(),
            width: marked.trim_end().chars().count().max(1),
        }
    }
}

/// Marks the text of a rule file in a message. [`printable`] replaces both
/// characters, so they are never part of that text.
const QUOTE_START: char = '\u{2068}';
const QUOTE_END: char = '\u{2069}';

/// Puts text of a rule file in backquotes for a message: printable, and cut
/// after 80 characters. [`with_quotes`] and [`without_quotes`] remove its marks.
pub(super) fn quote(text: &str) -> String {
    const MAX_CHARACTERS: usize = 80;
    let mut short: String = text.chars().take(MAX_CHARACTERS).map(printable).collect();
    if text.chars().nth(MAX_CHARACTERS).is_some() {
        short.push('…');
    }
    format!("`{QUOTE_START}{short}{QUOTE_END}`")
}

/// The message with the text of the rule file.
pub(super) fn with_quotes(message: &str) -> String {
    message.replace([QUOTE_START, QUOTE_END], "")
}

/// The message with `…` for each text of the rule file. `None` if it has none.
pub(super) fn without_quotes(message: &str) -> Option<String> {
    let (mut rest, mut text) = (message, String::new());
    while let Some((before, quoted)) = rest.split_once(QUOTE_START) {
        text += before;
        text.push('…');
        rest = quoted.split_once(QUOTE_END).map_or("", |(_, after)| after);
    }
    if text.is_empty() { None } else { Some(text + rest) }
}
