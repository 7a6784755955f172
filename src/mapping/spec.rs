//! Mappings as they are written, after all checks: the input of
//! [`Mapping::new`](super::Mapping::new).

use super::{address::ClientAddress, source::Source};

/// The `http:` of a domain.
#[derive(Clone, Debug, Default)]
pub struct MappingSpec {
    /// The way to find the address of the client.
    pub client: ClientAddress,
    /// Requests for which one of these holds have no descriptors.
    pub skip: Vec<ConditionSpec>,
    /// The entries of each descriptor.
    pub descriptors: Vec<Vec<EntrySpec>>,
}

/// One entry of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntrySpec {
    /// The key of the entry.
    pub key: String,
    /// The source of its value.
    pub source: Source,
    /// The value if the source has none.
    pub default: Option<String>,
}

/// A condition that holds if all parts that it names are as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConditionSpec {
    /// Any method if `None`.
    pub method: Option<TextPattern>,
    /// Compared with the normalized path. Any path if `None`.
    pub path: Option<TextPattern>,
    /// Compared with the host in lower case, without port. Any host if `None`.
    pub host: Option<TextPattern>,
}

/// A text, or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPattern {
    /// The text to compare with.
    pub text: String,
    /// Matches all texts that begin with `text`.
    pub is_prefix: bool,
}

impl ConditionSpec {
    /// Returns true if this condition holds wherever `other` does.
    pub fn covers(&self, other: &Self) -> bool {
        let covers = |own: &Option<TextPattern>, other: &Option<TextPattern>| match (own, other) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => own.covers(other),
        };
        covers(&self.method, &other.method)
            && covers(&self.path, &other.path)
            && covers(&self.host, &other.host)
    }

    pub(super) fn into_tests(self) -> impl Iterator<Item = (Source, TextPattern)> {
        let tests =
            [(Source::Method, self.method), (Source::Path, self.path), (Source::Host, self.host)];
        tests.into_iter().filter_map(|(source, pattern)| Some((source, pattern?)))
    }
}

impl TextPattern {
    /// Reads a text that may end in `*`; `None` if there is a `*` elsewhere.
    pub fn parse(text: &str) -> Option<Self> {
        let (text, is_prefix) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        if text.contains('*') {
            return None;
        }
        Some(Self { text: text.to_owned(), is_prefix })
    }

    /// Returns true if this pattern matches whatever `other` matches.
    fn covers(&self, other: &Self) -> bool {
        (self.is_prefix || !other.is_prefix) && self.matches(other.text.as_bytes())
    }

    /// Returns true if the pattern matches this path or host. A prefix is not that of a path with
    /// `..` behind it, as in `/health/..%2Flogin`: applications may resolve them.
    pub(super) fn matches(&self, value: &[u8]) -> bool {
        let text = self.text.as_bytes();
        if !self.is_prefix {
            return value == text;
        }
        // The first dot may be the end of the prefix.
        let rest = value.get(text.len().saturating_sub(1)..).unwrap_or_default();
        value.starts_with(text) && !rest.windows(2).any(|two| two == b"..")
    }
}
