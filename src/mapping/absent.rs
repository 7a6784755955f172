//! The reasons why a request has no value for an entry.

use std::fmt;

/// Why a source has no value in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The request does not have it.
    Missing,
    /// It is empty.
    Empty,
    /// The header with the claims is not in base64url.
    NotBase64,
    /// The header with the claims is not the base64url of a JSON object.
    NotJson,
    /// The claims do not have it.
    NoClaim,
    /// The claim is an object, a list or null.
    ClaimKind,
}

impl fmt::Display for Absent {
    /// Writes a phrase that follows the name of the source.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is missing",
            Self::Empty => "is empty",
            Self::NotBase64 => "cannot be read: the header is not base64url",
            Self::NotJson => "cannot be read: the header is not the base64url of a JSON object",
            Self::NoClaim => "is missing in the JSON",
            Self::ClaimKind => "is neither a string nor a number nor a flag",
        })
    }
}
