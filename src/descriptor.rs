//! What a caller asks about.

use bytes::Bytes;

use crate::limit::{Hits, Limit};

/// One question: may a request that these descriptors describe pass?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whose rules apply. Never empty. Any bytes, as Envoy does not check them.
    pub domain: Bytes,
    /// Never empty.
    pub descriptors: Vec<Descriptor>,
    /// The request's own number of hits, as the caller wrote it. It is already
    /// resolved in each [`Descriptor::hits`] and is kept for the reply's
    /// metadata alone.
    pub hits_addend: u32,
}

/// One aspect of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// From the general to the particular. May be empty: Envoy sends that when
    /// an optional header is absent.
    pub entries: Vec<Entry>,
    /// What this descriptor is charged.
    pub hits: Hits,
    /// Whether the caller has said so of this descriptor. For the reply's metadata
    /// alone.
    pub has_own_hits: bool,
    /// A limit that takes the place of the rules'.
    pub limit: Option<Limit>,
}

/// A key and its value: any bytes, either may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The kind of thing, `remote_address` for example.
    pub key: Bytes,
    /// Which one, `10.0.0.1` for example.
    pub value: Bytes,
}
