//! Checks of requests that every protocol makes.

use super::Request;

/// The most descriptors of one request, whatever MAX_DESCRIPTORS allows.
pub const MOST_DESCRIPTORS: usize = 1_000;

/// The most entries of one descriptor: three times the depth of the rules.
pub const MOST_ENTRIES: usize = 100;

/// Why a request is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// The domain selects the rules, so it is required.
    #[error("rate limit domain must not be empty")]
    EmptyDomain,
    /// A request without descriptors has nothing to decide.
    #[error("rate limit descriptor list must not be empty")]
    NoDescriptors,
    /// The request exceeds MAX_DESCRIPTORS.
    #[error(
        "rate limit descriptor list has {count} elements, expected at most {most}, as \
         MAX_DESCRIPTORS allows; it can be set to {MOST_DESCRIPTORS} at most"
    )]
    TooManyDescriptors {
        /// The number of descriptors sent.
        count: usize,
        /// The number allowed.
        most: usize,
    },
    /// A descriptor exceeds [`MOST_ENTRIES`].
    #[error(
        "descriptors[{descriptor}].entries has {entries} elements, expected at most {MOST_ENTRIES}"
    )]
    TooManyEntries {
        /// The index of the descriptor.
        descriptor: usize,
        /// The number of entries sent.
        entries: usize,
    },
    /// The unit of an override is unknown.
    #[error(
        "descriptors[{descriptor}].limit.unit is {}, expected SECOND (1), MINUTE (2), \
         HOUR (3), DAY (4), MONTH (5), YEAR (6) or WEEK (7)",
        unit_text(*unit)
    )]
    OverrideUnit {
        /// The index of the descriptor.
        descriptor: usize,
        /// The number sent; 0 is UNKNOWN or a missing field.
        unit: i32,
    },
    /// The window of an override exceeds 100 years.
    #[error(
        "descriptors[{descriptor}].limit.unit_multiplier is {multiplier}, expected a window of \
         at most 100 years"
    )]
    OverrideMultiplier {
        /// The index of the descriptor.
        descriptor: usize,
        /// The number sent.
        multiplier: u32,
    },
}

impl Request {
    /// Checks the sizes of the request.
    ///
    /// # Errors
    ///
    /// The first violation: no domain, no descriptors, more than
    /// `max_descriptors`, or a descriptor with more than [`MOST_ENTRIES`].
    pub fn validate(&self, max_descriptors: usize) -> Result<(), InvalidRequest> {
        if self.domain.is_empty() {
            return Err(InvalidRequest::EmptyDomain);
        }
        if self.descriptors.is_empty() {
            return Err(InvalidRequest::NoDescriptors);
        }
        let count = self.descriptors.len();
        if max_descriptors < count {
            return Err(InvalidRequest::TooManyDescriptors { count, most: max_descriptors });
        }
        for (descriptor, found) in self.descriptors.iter().enumerate() {
            let entries = found.entries.len();
            if MOST_ENTRIES < entries {
                return Err(InvalidRequest::TooManyEntries { descriptor, entries });
            }
        }
        Ok(())
    }
}

fn unit_text(unit: i32) -> String {
    match unit {
        // A client that leaves the field out sent no number.
        0 => "missing or UNKNOWN (0)".to_owned(),
        unit => unit.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        descriptor::{Descriptor, Entry},
        limit::Hits,
    };

    fn request(descriptors: &[usize]) -> Request {
        let entry = Entry { key: "k".into(), value: "".into() };
        let mut list = Vec::new();
        for entries in descriptors {
            list.push(Descriptor {
                entries: vec![entry.clone(); *entries],
                hits: Hits::Add(1),
                has_own_hits: false,
                limit: None,
            });
        }
        Request { domain: "shop".into(), descriptors: list, hits_addend: 0 }
    }

    #[test]
    fn requests_have_a_domain_and_bounded_lists() {
        let nameless = Request { domain: "".into(), ..request(&[]) };
        assert_eq!(nameless.validate(1), Err(InvalidRequest::EmptyDomain));
        assert_eq!(request(&[]).validate(1), Err(InvalidRequest::NoDescriptors));
        assert_eq!(request(&[1, 1]).validate(2), Ok(()));
        let too_many = InvalidRequest::TooManyDescriptors { count: 3, most: 2 };
        assert_eq!(request(&[1, 1, 1]).validate(2), Err(too_many));
        assert_eq!(request(&[0, MOST_ENTRIES]).validate(2), Ok(()));
        let entries = MOST_ENTRIES + 1;
        let too_long = InvalidRequest::TooManyEntries { descriptor: 1, entries };
        assert_eq!(request(&[0, entries]).validate(2), Err(too_long));
    }
}
