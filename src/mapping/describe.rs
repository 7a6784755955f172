//! The text of a mapping, in the notation of rule files.

use std::fmt::Write;

use super::{
    Condition, EntryTemplate, Mapping, SourceTest, TextPattern,
    address::ClientAddress,
    source::{AddressMask, Source},
};

impl Mapping {
    /// One line for the proxies that are trusted, each element of `skip` and each descriptor.
    /// They may have control characters.
    pub fn describe(&self) -> impl Iterator<Item = String> {
        let skip = self.skip.iter().map(|condition| self.skipped(condition));
        let descriptors = self.descriptors.iter().map(|entries| self.entries(entries));
        [self.trusted()].into_iter().chain(skip).chain(descriptors)
    }

    fn trusted(&self) -> String {
        match &self.client {
            ClientAddress::Hops(hops) => format!("trusted_hops: {hops}"),
            ClientAddress::Proxies(networks) => {
                let names: Vec<_> = networks.iter().map(ToString::to_string).collect();
                format!("trusted_proxies: [{}]", names.join(", "))
            }
        }
    }

    fn skipped(&self, Condition(tests): &Condition) -> String {
        let mut parts = Vec::new();
        for SourceTest { source, pattern } in tests {
            let name = self.sources[*source].source.default_key().unwrap_or_default();
            let TextPattern { text, is_prefix } = pattern;
            parts.push(format!("{name}: {text}{}", if *is_prefix { "*" } else { "" }));
        }
        format!("skip: {{{}}}", parts.join(", "))
    }

    fn entries(&self, templates: &[EntryTemplate]) -> String {
        let entries: Vec<_> = templates.iter().map(|template| self.entry(template)).collect();
        format!("descriptor: [{}]", entries.join(", "))
    }

    fn entry(&self, EntryTemplate { key, source, default }: &EntryTemplate) -> String {
        let source = &self.sources[*source].source;
        let key = String::from_utf8_lossy(key);
        let has_default_key = source.default_key() == Some(&*key);
        let mut text = match source {
            Source::RemoteAddress
            | Source::Path
            | Source::RawPath
            | Source::Method
            | Source::Host
            | Source::Scheme => {
                let name = source.default_key().unwrap_or_default();
                if has_default_key && default.is_none() {
                    return name.to_owned();
                }
                format!("{name}: true")
            }
            Source::MaskedAddress(AddressMask { ipv4, ipv6 }) => {
                format!("remote_address: {{ipv4: {ipv4}, ipv6: {ipv6}}}")
            }
            Source::Header(name) => format!("header: {name}"),
            Source::Query(name) => format!("query: {name}"),
            Source::Cookie(name) => format!("cookie: {name}"),
            Source::Claim { header, path } => format!("header: {header}, claim: {}", path.as_str()),
            Source::Constant(value) => format!("value: {}", String::from_utf8_lossy(value)),
        };
        if !has_default_key {
            let _ = write!(text, ", key: {key}");
        }
        if let Some(default) = default {
            let _ = write!(text, ", default: {}", String::from_utf8_lossy(default));
        }
        format!("{{{text}}}")
    }
}
