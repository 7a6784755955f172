//! Text of others, made safe to print: it stays on one line, and sends no commands to a terminal.

use std::path::Path;

/// Replaces a character that would move the cursor or change the direction of the text. Every
/// result takes one column, which keeps a caret below its character.
pub fn printable(character: char) -> char {
    match character {
        '\t' => ' ',
        other if is_unprintable(other) => '\u{fffd}',
        other => other,
    }
}

/// Returns true for characters that would move the cursor, end the line or change the
/// direction of the text.
pub fn is_unprintable(character: char) -> bool {
    matches!(
        character,
        '\u{61c}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
    ) || character.is_control()
}

/// `text` on one line. Characters that would move the cursor of a terminal or change the
/// direction of the text are replaced.
pub fn printable_text(text: &str) -> String {
    text.chars().map(printable).collect()
}

/// `path` on one line, like [`printable_text`]. Whoever adds a file chooses its name.
pub fn printable_path(path: &Path) -> String {
    printable_text(&path.to_string_lossy())
}
