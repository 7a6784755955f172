//! Texts of clients, bounded and without control characters.

use std::fmt::{self, Write};

use crate::descriptor::Entry;

/// The longest text that is shown, in bytes.
pub(super) const MAX_TEXT: usize = 200;

/// The longest list of entries that is shown, in bytes, beside its last entry.
pub(super) const MAX_ENTRIES: usize = 1_000;

/// A text on one line: control characters, backslashes and commas are escaped, bytes that
/// are not UTF-8 replaced, and the end of a long text is left out.
pub(super) struct Shown<'a>(pub(super) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = MAX_TEXT;
        for chunk in self.0.utf8_chunks() {
            let replacement = if chunk.invalid().is_empty() { None } else { Some('\u{fffd}') };
            for letter in chunk.valid().chars().chain(replacement) {
                let escaped = Escaped(letter);
                let length = escaped.length();
                if left < length {
                    return f.write_char('…');
                }
                left -= length;
                write!(f, "{escaped}")?;
            }
        }
        Ok(())
    }
}

/// A character, escaped if it could end the line, move the cursor of a terminal, or be
/// taken for a separator.
struct Escaped(char);

impl Escaped {
    fn length(&self) -> usize {
        match self.0 {
            '"' | '\'' => 1,
            ',' => 2,
            other => other.escape_debug().map(char::len_utf8).sum(),
        }
    }
}

impl fmt::Display for Escaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            '"' | '\'' => f.write_char(self.0),
            ',' => f.write_str("\\,"),
            other => write!(f, "{}", other.escape_debug()),
        }
    }
}

/// An entry as `key=value`.
pub(super) struct ShownEntry<'a>(pub(super) &'a Entry);

impl fmt::Display for ShownEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { key, value } = self.0;
        write!(f, "{}={}", Shown(key), Shown(value))
    }
}

/// Entries as `key=value,key=value`, which `tollgate hit` takes.
pub(super) fn entries(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "(no entries)".to_owned();
    }
    let mut text = String::new();
    for (index, entry) in entries.iter().enumerate() {
        if MAX_ENTRIES < text.len() {
            let _ = write!(text, ",… ({} more entries)", entries.len() - index);
            break;
        }
        let separator = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{separator}{}", ShownEntry(entry));
    }
    text
}

/// The beginning of a text, of at most `most` bytes. Bytes that are not UTF-8 are replaced.
pub(super) fn excerpt(text: &[u8], most: usize) -> String {
    let mut excerpt = String::new();
    for chunk in text.utf8_chunks() {
        let replacement = if chunk.invalid().is_empty() { None } else { Some('\u{fffd}') };
        for letter in chunk.valid().chars().chain(replacement) {
            if most < excerpt.len() + letter.len_utf8() {
                excerpt.push('…');
                return excerpt;
            }
            excerpt.push(letter);
        }
    }
    excerpt
}
