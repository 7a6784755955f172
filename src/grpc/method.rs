//! The methods of the gRPC server, with the bounds on their calls.

use axum::http::Uri;

use super::codec;

/// A method of a service.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Its name in the service.
    pub name: &'static str,
    /// The bounds on its calls.
    pub kind: Kind,
}

/// The kinds of methods, by their bounds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `ShouldRateLimit`: one message, one answer.
    Decision,
    /// One message, one answer.
    Unary(Estimate),
    /// One message, answers without an end.
    Watch,
    /// Messages and answers in any order: reflection, and unknown methods.
    Streams,
}

/// The memory that an encoded message takes once it has been decoded, about, besides the
/// encoded message, which is kept for its texts.
pub type Estimate = fn(&[u8]) -> usize;

/// The kind of methods whose messages take no memory besides their texts.
pub(super) const SMALL: Kind = Kind::Unary(|_| 0);

impl Kind {
    /// The memory that an encoded message takes once it has been decoded.
    pub(super) fn decoded_bytes(self, message: &[u8]) -> usize {
        match self {
            Self::Decision => codec::decoded_bytes(message),
            Self::Unary(estimate) => estimate(message),
            Self::Watch | Self::Streams => 0,
        }
    }
}

/// The kind of each method, by its path.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds {
    all: Vec<PathKind>,
    /// The path of `ShouldRateLimit`.
    decision: Uri,
}

#[derive(Clone, Debug)]
struct PathKind {
    path: String,
    kind: Kind,
}

impl Kinds {
    pub(super) fn add(&mut self, path: String, kind: Kind) {
        if let Kind::Decision = kind {
            // Every path of a method is a URI.
            self.decision = path.parse().unwrap_or_default();
        }
        self.all.push(PathKind { path, kind });
    }

    /// The kind of the method of a call.
    pub(super) fn of(&self, path: &str) -> Kind {
        for known in &self.all {
            if known.path == path {
                return known.kind;
            }
        }
        Kind::Streams
    }

    /// The path of `ShouldRateLimit`, which shares its memory.
    pub(super) fn decision(&self) -> Uri {
        self.decision.clone()
    }
}
