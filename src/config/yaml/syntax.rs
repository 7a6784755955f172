//! Errors after which a file cannot be parsed further.

use granit_parser::{ErrorKind, ScanError};

use super::{super::source::Location, node::MAX_DEPTH};

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

/// Turns an error of the parser into a message with a proposal for a correction.
pub(super) fn explain(error: &ScanError, location: Location) -> SyntaxError {
    let help = match error.kind() {
        ErrorKind::RecursionLimitExceeded => return SyntaxError::too_deep(location),
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart => Some("indent with spaces".to_owned()),
        ErrorKind::UnexpectedCharacter { .. } => {
            Some("quote the text that begins with it".to_owned())
        }
        ErrorKind::MissingAnchorOrAliasName | ErrorKind::UnknownAnchor => {
            Some("quote a text that begins with `*` or `&`".to_owned())
        }
        ErrorKind::UnclosedQuotedScalar | ErrorKind::InvalidQuotedScalarIndent => {
            Some("is a quote above not closed?".to_owned())
        }
        ErrorKind::MappingValueNotAllowed => Some("quote a text that contains `: `".to_owned()),
        _ => None,
    };
    SyntaxError { location, message: format!("this is not YAML: {}", error.info()), help }
}
