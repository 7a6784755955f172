//! Errors after which a file cannot be parsed further.

use granit_parser::{ErrorKind, ScanError};

use super::{super::source::Location, node::MAX_DEPTH, text::saturating_u32};

pub(super) struct SyntaxError {
    pub(super) location: Location,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl SyntaxError {
    pub(super) fn new(location: Location, message: impl Into<String>) -> Self {
        Self { location, message: message.into(), help: None }
    }

    pub(super) fn too_deep(location: Location) -> Self {
        let levels = format!("{MAX_DEPTH} levels of lists and maps");
        Self::new(location, format!("this is nested deeper than {levels}"))
    }
}

/// True for an error about a tab in an indentation.
pub(super) fn is_about_tab(error: &ScanError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInPlainScalar
    )
}

/// The first tab in an indentation at or below the line of `location`, which the parser may
/// give as the end of the text above. `location` itself if there is none.
pub(super) fn tab_at_or_after(text: &str, location: Location) -> Location {
    let (mut start, mut number, mut after_return) = (0, 1, false);
    // The parser also counts a carriage return alone as the end of a line.
    for line in text.split_inclusive(['\n', '\r']) {
        if after_return && line == "\n" {
            start += 1;
            after_return = false;
            continue;
        }
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        if location.line <= number
            && let Some(column) = line[..indent].find('\t')
        {
            let byte = saturating_u32(start + column);
            let column = saturating_u32(column + 1);
            return Location { line: number, column, start: byte, end: byte, ..location };
        }
        start += line.len();
        number += 1;
        after_return = line.ends_with('\r');
    }
    location
}

/// The text between the start of the line of `location`, with its indentation and its `- `,
/// and `location`.
fn text_before(text: &str, location: Location) -> &str {
    let before = text.get(..location.start as usize).unwrap_or_default();
    let line = before.rsplit(['\n', '\r']).next().unwrap_or_default();
    line.trim_start_matches([' ', '-'])
}

/// Turns an error of the parser about `text` into a message with a proposal for a
/// correction.
pub(super) fn explain(error: &ScanError, text: &str, location: Location) -> SyntaxError {
    const INDENTATION: &str = "indent all keys of a map alike";
    let help = match error.kind() {
        ErrorKind::RecursionLimitExceeded => return SyntaxError::too_deep(location),
        _ if is_about_tab(error) => Some("indent with spaces".to_owned()),
        ErrorKind::UnexpectedCharacter { .. } => {
            Some("quote the text that begins with it".to_owned())
        }
        ErrorKind::MissingAnchorOrAliasName | ErrorKind::UnknownAnchor => {
            Some("quote a text that begins with `*` or `&`".to_owned())
        }
        ErrorKind::UnclosedQuotedScalar | ErrorKind::InvalidQuotedScalarIndent => {
            Some("is a quote above not closed?".to_owned())
        }
        // The first key of a line is only wrong because of its place.
        ErrorKind::MappingValueNotAllowed if !text_before(text, location).contains(": ") => {
            Some(INDENTATION.to_owned())
        }
        ErrorKind::MappingValueNotAllowed => Some("quote a text that contains `: `".to_owned()),
        ErrorKind::ExpectedBlockMappingKey if text_before(text, location).is_empty() => {
            Some(INDENTATION.to_owned())
        }
        _ => None,
    };
    SyntaxError { location, message: format!("this is not YAML: {}", error.info()), help }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tab_is_found_whatever_ends_the_lines() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["a: ?", "", "b:", " \tc: 1", "d: 2", ""].join(end);
            let place = |line| {
                let asked = Location { source: 0, line, column: 1, start: 0, end: 0 };
                let found = tab_at_or_after(&text, asked);
                (found.line, found.column, found.start as usize)
            };
            let tab = text.find('\t').unwrap();
            for line in 1..=4 {
                assert_eq!(place(line), (4, 2, tab), "{end:?}");
            }
            assert_eq!(place(5), (5, 1, 0), "{end:?}");
        }
    }
}
