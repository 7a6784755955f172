//! A short name for a set of rules, by which instances are compared.

use std::fmt::{self, Write};

use sha2::{Digest, Sha256};

use super::spec::DomainSpec;

/// Hexadecimal digits of the digest: the chance that two sets of rules share it is 2⁻⁶⁴.
const DIGITS: usize = 16;

/// The same text for the same rules at the same places in their sources, whatever the order
/// of the domains. Another version of this program may give the same rules another one.
pub(super) fn digest(domains: &[DomainSpec]) -> String {
    let mut digests = Vec::with_capacity(domains.len());
    for domain in domains {
        let mut hasher = Hasher(Sha256::new());
        // Nothing in it depends on addresses or on the order of a hash table, and `Hasher`
        // does not fail.
        let _ = write!(hasher, "{domain:?}");
        digests.push(hasher.0.finalize());
    }
    digests.sort_unstable();
    let mut all = Sha256::new();
    for digest in &digests {
        all.update(digest);
    }
    let mut text = String::with_capacity(DIGITS);
    for byte in &all.finalize()[..DIGITS / 2] {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

struct Hasher(Sha256);

impl Write for Hasher {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text);
        Ok(())
    }
}
