//! The element of a rule that matches one entry of a descriptor.

use std::sync::Arc;

use super::spec::DescriptorSpec;
use crate::{counter::KeyPart, descriptor::Entry};

#[derive(Clone, Debug)]
pub(super) struct RuleStep {
    composite_key: Arc<str>,
    /// The length of the key within the composite key, in bytes.
    key_length: usize,
    is_pattern: bool,
    value_to_metric: bool,
    share_threshold: bool,
}

impl RuleStep {
    pub(super) fn new(spec: &DescriptorSpec) -> Self {
        let composite_key = spec.composite_key();
        Self {
            key_length: spec.key.len(),
            is_pattern: composite_key.contains('*'),
            value_to_metric: spec.value_to_metric,
            share_threshold: spec.share_threshold,
            composite_key: composite_key.into(),
        }
    }

    pub(super) fn composite_key(&self) -> &Arc<str> {
        &self.composite_key
    }

    pub(super) fn value_to_metric(&self) -> bool {
        self.value_to_metric
    }

    /// The pattern of the value, if all values that match it share one counter. Empty if
    /// the pattern is in the key alone.
    pub(super) fn shared_pattern(&self) -> Option<&str> {
        if self.is_pattern && self.share_threshold {
            Some(self.composite_key.get(self.key_length + 1..).unwrap_or_default())
        } else {
            None
        }
    }

    /// The part of a counter's name for `entry`, which this step matches.
    pub(super) fn key_part<'a>(&'a self, entry: &'a Entry) -> KeyPart<'a> {
        if !self.is_pattern || !self.share_threshold {
            return KeyPart { key: &entry.key, value: &entry.value, shared: false };
        }
        // As in the reference service, the pattern loses the key only if it begins with the
        // key of the entry: not if the `*` is in it.
        let pattern = self.composite_key.as_bytes();
        let value = match pattern.strip_prefix(&*entry.key) {
            Some(rest) => rest.strip_prefix(b"_").unwrap_or(pattern),
            None => pattern,
        };
        KeyPart { key: &entry.key, value, shared: true }
    }
}
