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

    /// The pattern of the value, if all values that match it share one counter.
    pub(super) fn shared_pattern(&self) -> Option<&str> {
        if self.is_pattern && self.share_threshold {
            // A pattern in the key alone has an empty value.
            Some(self.composite_key.get(self.key_length + 1..).unwrap_or_default())
        } else {
            None
        }
    }

    /// The part of a counter's name for `entry`, which this step matches.
    pub(super) fn key_part<'a>(&'a self, entry: &'a Entry) -> KeyPart<'a> {
        match self.shared_pattern() {
            Some(pattern) => KeyPart { key: &entry.key, value: pattern.as_bytes(), shared: true },
            None => KeyPart { key: &entry.key, value: &entry.value, shared: false },
        }
    }
}
