//! The contents of rule files after parsing: the input of the checks in `lint`
//! and of the compiler of the rules.

use std::{collections::HashSet, sync::Arc};

use super::{source::Location, yaml::KeyOrigin};
use crate::{
    mapping::{ClientAddress, ConditionSpec, EntrySpec, MappingSpec},
    rules::spec::{DescriptorSpec, DomainSpec, LimitSpec},
};

/// The unit of a lease share: it is counted in millionths of the limit.
pub(super) const WHOLE_LIMIT: u64 = 1_000_000;
/// The largest lease share: a tenth of the limit.
pub(super) const MAX_LEASE_SHARE: u64 = WHOLE_LIMIT / 10;

/// The rules of one domain, from one or more files.
#[derive(Debug, Default)]
pub(super) struct ParsedDomain {
    pub(super) name: Arc<str>,
    pub(super) location: Location,
    pub(super) descriptors: Vec<ParsedDescriptor>,
    /// The names of all limits and of the rules without a limit.
    pub(super) names: HashSet<Arc<str>>,
    /// The names in all `replaces` lists.
    pub(super) replaced_names: Vec<ReplacedName>,
    pub(super) http: Option<ParsedHttp>,
}

/// The `http` of a domain.
#[derive(Debug)]
pub(super) struct ParsedHttp {
    /// The location of the key.
    pub(super) location: Location,
    pub(super) client: ClientAddress,
    pub(super) skip: Vec<ConditionSpec>,
    pub(super) descriptors: Vec<ParsedTemplate>,
}

/// A descriptor of `http`.
#[derive(Debug)]
pub(super) struct ParsedTemplate {
    pub(super) location: Location,
    pub(super) entries: Vec<ParsedEntry>,
}

/// An entry of a descriptor of `http`.
#[derive(Debug)]
pub(super) struct ParsedEntry {
    pub(super) location: Location,
    pub(super) spec: EntrySpec,
}

#[derive(Debug)]
pub(super) struct ReplacedName {
    pub(super) name: Arc<str>,
    pub(super) location: Location,
}

/// An element of a list of descriptors.
#[derive(Debug)]
pub(super) struct ParsedDescriptor {
    /// The element without its own descriptors, which are in `children`.
    pub(super) spec: DescriptorSpec,
    pub(super) composite_key: String,
    pub(super) location: Location,
    /// The origin of `key` and `value`.
    pub(super) key_origin: KeyOrigin,
    pub(super) children: Vec<ParsedDescriptor>,
}

#[derive(Debug)]
pub(super) struct ParsedLimit {
    pub(super) location: Location,
    pub(super) spec: LimitSpec,
}

impl ParsedDomain {
    /// Adds the rules of another file for the same domain. Only one of them should have
    /// `http`.
    pub(super) fn merge(&mut self, other: Self) {
        self.descriptors.extend(other.descriptors);
        self.names.extend(other.names);
        self.replaced_names.extend(other.replaced_names);
        if self.http.is_none() {
            self.http = other.http;
        }
    }

    pub(super) fn into_spec(self) -> DomainSpec {
        DomainSpec {
            domain: self.name.to_string(),
            descriptors: into_specs(self.descriptors),
            http: self.http.map(ParsedHttp::into_spec),
        }
    }
}

impl ParsedHttp {
    fn into_spec(self) -> MappingSpec {
        let mut descriptors = Vec::with_capacity(self.descriptors.len());
        for template in self.descriptors {
            descriptors.push(template.entries.into_iter().map(|entry| entry.spec).collect());
        }
        MappingSpec { client: self.client, skip: self.skip, descriptors }
    }
}

fn into_specs(descriptors: Vec<ParsedDescriptor>) -> Vec<DescriptorSpec> {
    let mut specs = Vec::with_capacity(descriptors.len());
    for descriptor in descriptors {
        let mut spec = descriptor.spec;
        spec.descriptors = into_specs(descriptor.children);
        specs.push(spec);
    }
    specs
}
