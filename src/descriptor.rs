//! Rate-limit requests, as the protocols hand them to the engine.

use bytes::Bytes;

use crate::limit::{Hits, Limit};

pub mod envoy;
pub mod invalid;

/// The question whether a request with these descriptors may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The domain whose rules apply. Not empty after [`validate`](Self::validate), and not always UTF-8: Envoy does not check
    /// it.
    pub domain: Bytes,
    /// The descriptors of the request, at least one.
    pub descriptors: Vec<Descriptor>,
    /// The request's number of hits, as the caller sent it. [`Descriptor::hits`] already
    /// includes it; this copy is for the reply's metadata alone.
    pub hits_addend: u32,
}

/// One property of the request, such as its user or its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The entries, from general to specific. May be empty: Envoy sends that when an
    /// optional header is absent.
    pub entries: Vec<Entry>,
    /// The hits that the descriptor's counters are charged.
    pub hits: Hits,
    /// True if the caller set `hits` for this descriptor. For the reply's metadata alone.
    pub has_own_hits: bool,
    /// A limit that overrides those of the rules.
    pub limit: Option<Limit>,
}

/// A key and its value. Either may be empty or not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The kind of property, for example `remote_address`.
    pub key: Bytes,
    /// The property's value, for example `10.0.0.1`.
    pub value: Bytes,
}
