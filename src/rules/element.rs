//! An element of a `descriptors` list, for explanations.

use std::sync::Arc;

use super::spec::DescriptorSpec;

/// An element of a `descriptors` list: it matches one entry of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    composite_key: Arc<str>,
    /// The length of the key within the composite key, in bytes.
    key_length: usize,
    /// The position in the source, as `file:line` or `tree: path`.
    pub location: Arc<str>,
}

impl Element {
    pub(super) fn new(spec: &DescriptorSpec, composite_key: &Arc<str>) -> Self {
        Self {
            composite_key: Arc::clone(composite_key),
            key_length: spec.key.len(),
            location: Arc::clone(&spec.location),
        }
    }

    /// The key as it is written. It may be a pattern.
    pub fn key(&self) -> &str {
        self.composite_key.get(..self.key_length).unwrap_or_default()
    }

    /// The value as it is written, which may be a pattern. Empty for any value.
    pub fn value(&self) -> &str {
        // One byte separates key and value.
        self.composite_key.get(self.key_length + 1..).unwrap_or_default()
    }

    /// The key and the value, joined with an underscore; the key alone if the element
    /// matches any value.
    pub fn composite_key(&self) -> &str {
        &self.composite_key
    }

    /// True if key or value has a `*`.
    pub fn is_pattern(&self) -> bool {
        self.composite_key.contains('*')
    }
}
