//! The methods of the gRPC server, with the bounds on their calls.

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
            Self::Unary(estimate) => estimate(message),
            Self::Watch | Self::Streams => 0,
        }
    }
}

/// The kind of each method, by its path.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds(Vec<PathKind>);

#[derive(Clone, Debug)]
struct PathKind {
    path: String,
    kind: Kind,
}

impl Kinds {
    pub(super) fn add(&mut self, path: String, kind: Kind) {
        self.0.push(PathKind { path, kind });
    }

    /// The kind of the method of a call.
    pub(super) fn of(&self, path: &str) -> Kind {
        for known in &self.0 {
            if known.path == path {
                return known.kind;
            }
        }
        Kind::Streams
    }
}
