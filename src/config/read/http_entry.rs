//! Reads an entry of a descriptor of `http`: its key, and the source of its value.

use super::{
    super::{
        excerpt::quote,
        keys::{self, KeyContext},
        lint,
        parsed::ParsedEntry,
        scalar::Plain,
        yaml::{Map, MapEntry, YamlNode, YamlValue},
    },
    reader::{SourceReader, expected_value, non_null},
};
use crate::mapping::{AddressMask, ClaimPath, EntrySpec, Source};

const CONTEXT: KeyContext = KeyContext::HttpEntry;

/// The sources without a name of their own, which an entry may consist of.
const PLAIN_SOURCES: [(&str, Source); 6] = [
    ("remote_address", Source::RemoteAddress),
    ("path", Source::Path),
    ("raw_path", Source::RawPath),
    ("method", Source::Method),
    ("host", Source::Host),
    ("scheme", Source::Scheme),
];

/// The sources that a name follows.
const NAMED_SOURCES: [&str; 4] = ["header", "query", "cookie", "value"];

const EXPECTED: &str = "remote_address, path, raw_path, method, host, scheme, or a map with one of \
                        them, `header`, `query`, `cookie` or `value`";

impl<'a> SourceReader<'a, '_> {
    pub(super) fn entry(&mut self, node: &YamlNode<'a>) -> Option<ParsedEntry> {
        let spec = match &node.value {
            YamlValue::Scalar(scalar) => self.plain_entry(node, &scalar.text),
            YamlValue::Map(map) => self.entry_map(node, map),
            YamlValue::List(_) => {
                self.unexpected(node, "an entry", EXPECTED);
                None
            }
        };
        Some(ParsedEntry { location: node.location, spec: spec? })
    }

    fn plain_entry(&mut self, node: &YamlNode<'a>, text: &str) -> Option<EntrySpec> {
        for (name, source) in PLAIN_SOURCES {
            if name == text {
                return Some(EntrySpec { key: name.to_owned(), source, default: None });
            }
        }
        let message = format!("an entry is {}, expected {EXPECTED}", node.describe());
        let help = if NAMED_SOURCES.contains(&text) || text == "claim" {
            Some(format!("`{text}` needs a name: {{{text}: NAME}}"))
        } else {
            let names = PLAIN_SOURCES.map(|(name, _)| name);
            keys::nearest(text, &names).map(|name| format!("did you mean `{name}`?"))
        };
        self.sink.push_error(node.location, message, help);
        None
    }

    fn entry_map(&mut self, node: &YamlNode<'a>, map: &Map<'a>) -> Option<EntrySpec> {
        let errors_before = self.sink.error_count();
        self.check_keys(map, CONTEXT);
        let mut found: Option<(&MapEntry<'a>, &str)> = None;
        for (name, entry) in map {
            let is_source = NAMED_SOURCES.contains(&&**name)
                || PLAIN_SOURCES.iter().any(|(source, _)| source == name);
            if !is_source || entry.node.is_null() {
                continue;
            }
            if let Some((_, first)) = found {
                self.conflict(entry, name, &format!("`{first}`"));
                return None;
            }
            found = Some((entry, name));
        }
        let Some((entry, name)) = found else {
            if self.sink.error_count() == errors_before {
                self.report_no_source(node, map);
            }
            return None;
        };
        let source = self.source(map, entry, name)?;
        lint::check_entry(map, &source, entry.node.location, self.sink);
        let key = self.text(map, CONTEXT, "key");
        let key = match source.default_key() {
            Some(default) if key.is_empty() => default.to_owned(),
            None if key.is_empty() => {
                let message = "the entry with this `value` has no `key`, expected one";
                self.sink.error(entry.key_location, message);
                return None;
            }
            _ => key,
        };
        let default = self.text(map, CONTEXT, "default");
        let default = (!default.is_empty()).then_some(default);
        if let Some(default) = non_null(map, "default")
            && is_always_present(&source)
        {
            let message = format!("`default` has no meaning beside `{name}`, expected none");
            let help = "each request has this value";
            self.sink.error_with_help(default.key_location, message, help);
        }
        Some(EntrySpec { key, source, default })
    }

    fn report_no_source(&mut self, node: &YamlNode<'a>, map: &Map<'a>) {
        if let Some(claim) = map.get("claim") {
            let message = "`claim` has no `header` beside it, expected the one with the claims";
            let help = "a proxy that has verified a token can put its payload there, such as Envoy \
                        with `forward_payload_header`";
            return self.sink.error_with_help(claim.key_location, message, help);
        }
        for name in NAMED_SOURCES {
            if let Some(entry) = map.get(name) {
                let expected = expected_value(CONTEXT, name);
                return self.unexpected(&entry.node, &format!("`{name}`"), expected);
            }
        }
        let message = format!("the entry has no source, expected {EXPECTED}");
        self.sink.error(node.location, message);
    }

    /// The source under `name`, which is `entry`.
    fn source(&mut self, map: &Map<'a>, entry: &MapEntry<'a>, name: &str) -> Option<Source> {
        if let Some(claim) = non_null(map, "claim")
            && name != "header"
        {
            let message = "`claim` has no `header` beside it, expected the one with the claims";
            self.sink.error(claim.key_location, message);
            return None;
        }
        if let YamlValue::Map(mask) = &entry.node.value
            && name == "remote_address"
        {
            return Some(Source::MaskedAddress(self.address_mask(mask, entry)));
        }
        for (plain, source) in PLAIN_SOURCES {
            if plain == name {
                // The value says no more than the key; anything but `true` is a mistake.
                return self.is_true(entry, name).then_some(source);
            }
        }
        let text = self.text(map, CONTEXT, name);
        if text.is_empty() {
            // A value of another kind has been reported.
            if self.is_text_or_absent(map, name) {
                self.unexpected(&entry.node, &format!("`{name}`"), expected_value(CONTEXT, name));
            }
            return None;
        }
        match name {
            "header" => self.header(map, entry, &text),
            "query" => Some(Source::Query(text.into())),
            "cookie" => Some(Source::Cookie(text.into())),
            _ => Some(Source::Constant(text.into())),
        }
    }

    fn is_true(&mut self, entry: &MapEntry<'a>, name: &str) -> bool {
        let is_true = entry.node.plain() == Some(Plain::Bool(true));
        if !is_true {
            self.unexpected(&entry.node, &format!("`{name}`"), expected_value(CONTEXT, name));
        }
        is_true
    }

    fn address_mask(&mut self, map: &Map<'a>, entry: &MapEntry<'a>) -> AddressMask {
        const CONTEXT: KeyContext = KeyContext::AddressMask;
        let errors_before = self.sink.error_count();
        self.check_keys(map, CONTEXT);
        let ipv4 = self.number(map, CONTEXT, "ipv4", 1..=32);
        let ipv6 = self.number(map, CONTEXT, "ipv6", 1..=128);
        if ipv4.is_none() && ipv6.is_none() && self.sink.error_count() == errors_before {
            let message = "`remote_address` has neither `ipv4` nor `ipv6`, expected one of them";
            self.sink.error(entry.key_location, message);
        }
        let bits = |bits: Option<u32>| bits.and_then(|bits| u8::try_from(bits).ok());
        AddressMask { ipv4: bits(ipv4).unwrap_or(32), ipv6: bits(ipv6).unwrap_or(128) }
    }

    fn header(&mut self, map: &Map<'a>, entry: &MapEntry<'a>, text: &str) -> Option<Source> {
        let name = text.to_ascii_lowercase();
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if !name.bytes().all(is_token) {
            let message = format!("`header` is {}, expected the name of a header", quote(text));
            let help = match name.as_str() {
                ":path" => Some("the path is the source `path`"),
                ":method" => Some("the method is the source `method`"),
                ":authority" => Some("the host is the source `host`"),
                ":scheme" => Some("the scheme is the source `scheme`"),
                _ => None,
            };
            self.sink.push_error(entry.node.location, message, help.map(str::to_owned));
            return None;
        }
        let Some(claim) = non_null(map, "claim") else {
            return Some(Source::Header(name.into()));
        };
        if name == "authorization" {
            let message = "the claims of `authorization` are not verified, expected the header in \
                           which the proxy puts those that are";
            let help = "anybody could choose whose limit is used up";
            self.sink.error_with_help(entry.node.location, message, help);
            return None;
        }
        let text = self.text_of(&claim.node, "claim", expected_value(CONTEXT, "claim"))?;
        let path = ClaimPath::parse(&text);
        if path.is_none() {
            let most = ClaimPath::MOST_NAMES;
            let message =
                format!("`claim` is {}, expected 1 to {most} names with dots", quote(&text));
            self.sink.error(claim.node.location, message);
        }
        Some(Source::Claim { header: name.into(), path: path? })
    }
}

/// True if each request has a value, or is an error.
fn is_always_present(source: &Source) -> bool {
    matches!(
        source,
        Source::RemoteAddress
            | Source::MaskedAddress(_)
            | Source::Path
            | Source::RawPath
            | Source::Method
            | Source::Constant(_)
    )
}
