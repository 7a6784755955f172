//! Maps HTTP requests to descriptors, as the `http:` of a domain in the rules describes it.
//!
//! A protocol that knows only HTTP looks the [`Mapping`] of its domain up with
//! [`RuleTree::mapping`](crate::rules::RuleTree::mapping), and gives it an [`HttpRequest`].
//!
//! The memory of a result is bounded: a mapping has at most [`MOST_DESCRIPTORS`] descriptors
//! with [`MOST_ENTRIES`] entries each, the value of a source is taken from the request only
//! once, and a value has at most [`MOST_VALUE_BYTES`] bytes.

use std::{fmt::Debug, net::IpAddr};

use bytes::Bytes;

use crate::{
    descriptor::{Descriptor, Entry, Request},
    limit::Hits,
};

mod absent;
mod address;
mod claim;
mod cookie;
mod describe;
mod error;
mod host;
mod path;
mod query;
mod source;
mod spec;
mod target;
mod values;

use self::values::Values;
pub use self::{
    absent::Absent,
    address::{ClientAddress, Network},
    claim::ClaimPath,
    error::MappingError,
    path::normalize as normalize_path,
    source::{AddressMask, Source},
    spec::{ConditionSpec, EntrySpec, MappingSpec, TextPattern},
};

/// The times that the bytes of a request are copied into descriptors, at most: a path may be
/// three times as long once it is escaped, and several entries may have a part of one header.
pub const COPIES: usize = 4;

/// The most descriptors of a mapping: the default of MAX_DESCRIPTORS.
pub const MOST_DESCRIPTORS: usize = 100;

/// The most entries of one descriptor of a mapping: the depth of the rules.
pub const MOST_ENTRIES: usize = 31;

/// The longest value of an entry, in bytes. A request with a longer one is an error: without
/// its value, no limit would apply to it.
pub const MOST_VALUE_BYTES: usize = 64 << 10;

/// A request that a proxy asks about. Nothing in it has been checked.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest<'a> {
    /// The method of the client. `None` or empty if the proxy did not tell it.
    pub method: Option<&'a [u8]>,
    /// The path and the query as the client sent them. An absolute URI is possible, too.
    /// `None` or empty if the proxy did not tell it.
    pub target: Option<&'a [u8]>,
    /// The host, with or without a port. If it is `None` or empty, that of an absolute `target`.
    pub host: Option<&'a [u8]>,
    /// The scheme. If it is `None` or empty, that of an absolute `target`.
    pub scheme: Option<&'a [u8]>,
    /// The headers of the client, and `X-Forwarded-For` with the peers that proxies added.
    pub headers: &'a dyn Headers,
    /// The address of the client for a request without `X-Forwarded-For`, if the protocol
    /// has it from elsewhere.
    pub peer: Option<IpAddr>,
}

/// The headers of a request.
pub trait Headers: Debug {
    /// Calls `visit` with the value of each header line with this name, in their order.
    /// `name` is in lower case, and the names of the lines are compared without case.
    fn visit<'h>(&'h self, name: &str, visit: &mut dyn FnMut(&'h [u8]));
}

/// The result of mapping a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// The request has these descriptors, at least one.
    Request(Request),
    /// No descriptor has a value for each of its entries: nothing limits the request.
    NoDescriptors,
    /// The `skip` of the mapping excludes the request: nothing limits it.
    Skipped,
}

/// One descriptor of a mapping for a request: its entries, or the reason why it has none.
pub type MappedDescriptor = Result<Vec<Entry>, Missing>;

/// The entry that has no value, which drops its descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The key of the entry.
    pub key: Bytes,
    /// The source of its value.
    pub source: Source,
    /// The reason.
    pub why: Absent,
}

/// The course of a mapping, for `tollgate explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappingCourse {
    /// The element of `skip` with this index, from 0, excludes the request.
    Skipped(usize),
    /// All descriptors of the mapping in their order.
    Descriptors(Vec<MappedDescriptor>),
}

/// The `http:` of a domain. Never changes.
#[derive(Clone, Debug)]
pub struct Mapping {
    domain: Bytes,
    client: ClientAddress,
    /// Each source once, also if several entries have it.
    sources: Vec<UsedSource>,
    skip: Vec<Condition>,
    descriptors: Vec<Vec<EntryTemplate>>,
}

/// A source of values.
#[derive(Clone, Debug)]
struct UsedSource {
    source: Source,
    /// Its value is needed more than once.
    is_shared: bool,
}

/// Holds if all tests do.
#[derive(Clone, Debug)]
struct Condition(Vec<SourceTest>);

#[derive(Clone, Debug)]
struct SourceTest {
    /// An index in [`Mapping::sources`].
    source: usize,
    pattern: TextPattern,
}

#[derive(Clone, Debug)]
struct EntryTemplate {
    key: Bytes,
    /// An index in [`Mapping::sources`].
    source: usize,
    default: Option<Bytes>,
}

impl Mapping {
    /// The mapping of `domain` as it is written in `spec`, which [`crate::config`] checks.
    pub fn new(domain: &str, spec: MappingSpec) -> Self {
        let mut sources = Vec::new();
        let mut skip = Vec::with_capacity(spec.skip.len());
        for condition in spec.skip {
            let mut tests = Vec::new();
            for (source, pattern) in condition.into_tests() {
                tests.push(SourceTest { source: index_of(source, &mut sources), pattern });
            }
            skip.push(Condition(tests));
        }
        let mut descriptors = Vec::with_capacity(spec.descriptors.len());
        for entries in spec.descriptors {
            let mut templates = Vec::with_capacity(entries.len());
            for EntrySpec { key, source, default } in entries {
                templates.push(EntryTemplate {
                    key: key.into(),
                    source: index_of(source, &mut sources),
                    default: default.map(Bytes::from),
                });
            }
            descriptors.push(templates);
        }
        let domain = Bytes::copy_from_slice(domain.as_bytes());
        Self { domain, client: spec.client, sources, skip, descriptors }
    }

    /// The descriptors of `request`, each with one hit.
    ///
    /// # Errors
    ///
    /// If the mapping needs a part of the request that every request has, and the proxy did not
    /// send it; if the address of the client is none; if an absolute URI has a delimiter in its
    /// host; or if a value is too long.
    pub fn map(&self, request: &HttpRequest<'_>) -> Result<Mapped, MappingError> {
        let MappingCourse::Descriptors(mapped) = self.explain(request)? else {
            return Ok(Mapped::Skipped);
        };
        let mut descriptors = Vec::with_capacity(mapped.len());
        for entries in mapped.into_iter().flatten() {
            descriptors.push(Descriptor {
                entries,
                hits: Hits::Add(1),
                has_own_hits: false,
                limit: None,
            });
        }
        if descriptors.is_empty() {
            return Ok(Mapped::NoDescriptors);
        }
        let domain = self.domain.clone();
        Ok(Mapped::Request(Request { domain, descriptors, hits_addend: 0 }))
    }

    /// The same as [`Self::map`], with the reason for each descriptor that `request` does not
    /// have.
    ///
    /// # Errors
    ///
    /// As [`Self::map`].
    pub fn explain(&self, request: &HttpRequest<'_>) -> Result<MappingCourse, MappingError> {
        let mut values = Values::new(&self.sources, &self.client, request);
        for (index, condition) in self.skip.iter().enumerate() {
            if condition.holds(&mut values)? {
                return Ok(MappingCourse::Skipped(index));
            }
        }
        let mut descriptors = Vec::with_capacity(self.descriptors.len());
        for templates in &self.descriptors {
            descriptors.push(self.descriptor(templates, &mut values)?);
        }
        Ok(MappingCourse::Descriptors(descriptors))
    }

    fn descriptor(
        &self,
        templates: &[EntryTemplate],
        values: &mut Values<'_>,
    ) -> Result<MappedDescriptor, MappingError> {
        let mut entries = Vec::with_capacity(templates.len());
        for EntryTemplate { key, source, default } in templates {
            let value = match (values.get(*source)?, default) {
                (Ok(value), _) => value,
                (Err(_), Some(default)) => default.clone(),
                (Err(why), None) => {
                    let source = self.sources[*source].source.clone();
                    if let Some(error) = MappingError::of_missing(&source) {
                        return Err(error);
                    }
                    return Ok(Err(Missing { key: key.clone(), source, why }));
                }
            };
            entries.push(Entry { key: key.clone(), value });
        }
        Ok(Ok(entries))
    }
}

impl Condition {
    fn holds(&self, values: &mut Values<'_>) -> Result<bool, MappingError> {
        for test in &self.0 {
            match values.get(test.source)? {
                Ok(value) if test.pattern.matches(&value) && values.may_skip(test.source) => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// The index of `source`, which is added if it is new.
fn index_of(source: Source, sources: &mut Vec<UsedSource>) -> usize {
    if let Some(index) = sources.iter().position(|known| known.source == source) {
        sources[index].is_shared = true;
        return index;
    }
    sources.push(UsedSource { source, is_shared: false });
    sources.len() - 1
}

#[cfg(test)]
mod tests;
