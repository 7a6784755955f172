//! Reads the `http` of a file.

use super::{
    super::{
        excerpt::quote,
        keys::KeyContext,
        parsed::{ParsedHttp, ParsedTemplate},
        source::Location,
        yaml::{Map, YamlNode, YamlValue},
    },
    reader::{SourceReader, expected_value, is_misspelt, non_null},
};
use crate::mapping::{
    self, ClientAddress, ConditionSpec, MOST_DESCRIPTORS, MOST_ENTRIES, Network, TextPattern,
};

const MOST_PROXIES: usize = 256;
const MOST_CONDITIONS: usize = 100;

impl<'a> SourceReader<'a, '_> {
    /// The value of the key `http`, of which parts with errors are left out.
    pub(super) fn http(&mut self, map: &Map<'a>) -> Option<ParsedHttp> {
        const NONE: &str = "`http` has no `descriptors`, expected at least one";
        const EXAMPLE: &str = "for example: [[remote_address]]";
        let entry = map.get("http")?;
        let location = entry.key_location;
        if entry.node.is_null() {
            self.sink.error_with_help(location, NONE, EXAMPLE);
        }
        let http = self.map(map, KeyContext::File, "http")?;
        self.check_keys(http, KeyContext::Http);
        let client = self.client_address(http);
        let skip = self.conditions(http);
        let mut descriptors = Vec::new();
        let elements = self.list(http, KeyContext::Http, "descriptors");
        for element in elements.iter().take(MOST_DESCRIPTORS) {
            descriptors.extend(self.template(element));
        }
        if let Some(node) = elements.get(MOST_DESCRIPTORS) {
            let message = format!("`descriptors` has more than {MOST_DESCRIPTORS} elements");
            self.sink.error(node.location, message);
        }
        let is_empty_list = elements.is_empty() && self.is_list_or_absent(http, "descriptors");
        if is_empty_list && !is_misspelt(http, KeyContext::Http, "descriptors") {
            self.sink.error_with_help(location, NONE, EXAMPLE);
        }
        Some(ParsedHttp { location, client, skip, descriptors })
    }

    fn is_list_or_absent(&self, map: &Map<'a>, name: &str) -> bool {
        non_null(map, name).is_none_or(|entry| matches!(entry.node.value, YamlValue::List(_)))
    }

    fn client_address(&mut self, http: &Map<'a>) -> ClientAddress {
        const CONTEXT: KeyContext = KeyContext::Http;
        let hops = self.number(http, CONTEXT, "trusted_hops", 1..=100);
        let Some(entry) = non_null(http, "trusted_proxies") else {
            let hops = hops.and_then(|hops| u8::try_from(hops).ok());
            return hops.map_or_else(ClientAddress::default, ClientAddress::Hops);
        };
        if non_null(http, "trusted_hops").is_some() {
            self.conflict(entry, "trusted_proxies", "`trusted_hops`");
        }
        let mut networks = Vec::new();
        let elements = self.list(http, CONTEXT, "trusted_proxies");
        for node in elements.iter().take(MOST_PROXIES) {
            networks.extend(self.network(node));
        }
        let is_list = matches!(entry.node.value, YamlValue::List(_));
        if is_list && !(1..=MOST_PROXIES).contains(&elements.len()) {
            let count = elements.len();
            let expected = expected_value(CONTEXT, "trusted_proxies");
            let message = format!("`trusted_proxies` has {count} elements, expected {expected}");
            self.sink.error(entry.key_location, message);
        }
        ClientAddress::Proxies(networks)
    }

    fn network(&mut self, node: &YamlNode<'a>) -> Option<Network> {
        let network = match &node.value {
            YamlValue::Scalar(scalar) => Network::parse(&scalar.text),
            YamlValue::List(_) | YamlValue::Map(_) => None,
        };
        if network.is_none() {
            let expected = "a network such as `10.0.0.0/8` or `fd00::/8`";
            self.unexpected(node, "an element of `trusted_proxies`", expected);
        }
        network
    }

    fn conditions(&mut self, http: &Map<'a>) -> Vec<ConditionSpec> {
        let mut conditions = Vec::new();
        let elements = self.list(http, KeyContext::Http, "skip");
        for node in elements.iter().take(MOST_CONDITIONS) {
            conditions.extend(self.condition(node));
        }
        if let Some(node) = elements.get(MOST_CONDITIONS) {
            let message = format!("`skip` has more than {MOST_CONDITIONS} elements");
            self.sink.error(node.location, message);
        }
        conditions
    }

    fn condition(&mut self, node: &YamlNode<'a>) -> Option<ConditionSpec> {
        const CONTEXT: KeyContext = KeyContext::Skip;
        let YamlValue::Map(map) = &node.value else {
            let expected = "a map with `method`, `path` or `host`";
            self.unexpected(node, "an element of `skip`", expected);
            return None;
        };
        let errors_before = self.sink.error_count();
        self.check_keys(map, CONTEXT);
        let condition = ConditionSpec {
            method: self.skipped_method(map),
            path: self.skipped_path(map),
            host: self.skipped_host(map),
        };
        if condition == ConditionSpec::default() && self.sink.error_count() == errors_before {
            let message = "this would skip every request, expected `method`, `path` or `host`";
            self.sink.error(node.location, message);
        }
        Some(condition)
    }

    fn skipped_method(&mut self, map: &Map<'a>) -> Option<TextPattern> {
        let method = self.text(map, KeyContext::Skip, "method");
        let entry = non_null(map, "method")?;
        let upper_case = method.to_ascii_uppercase();
        if method != upper_case {
            let message = format!("the method {} is not in upper case", quote(&method));
            let help = format!("write {}", quote(&upper_case));
            self.sink.error_with_help(entry.node.location, message, help);
        }
        (!method.is_empty()).then_some(TextPattern { text: method, is_prefix: false })
    }

    fn skipped_path(&mut self, map: &Map<'a>) -> Option<TextPattern> {
        let (pattern, location) = self.text_pattern(map, "path")?;
        let text = &pattern.text;
        let normal =
            String::from_utf8_lossy(&mapping::normalize_path(text.as_bytes())).into_owned();
        if !text.starts_with('/') {
            let message = format!("the path {} matches no path", quote(text));
            self.sink.error_with_help(location, message, "begin it with `/`");
        } else if !pattern.is_prefix && *text != normal {
            let message = format!("the path {} matches no normalized path", quote(text));
            self.sink.error_with_help(location, message, format!("write {}", quote(&normal)));
        }
        Some(pattern)
    }

    fn skipped_host(&mut self, map: &Map<'a>) -> Option<TextPattern> {
        let (pattern, location) = self.text_pattern(map, "host")?;
        let lower_case = pattern.text.to_ascii_lowercase();
        if pattern.text != lower_case {
            let message = format!("the host {} is not in lower case", quote(&pattern.text));
            let help = format!("write {}", quote(&lower_case));
            self.sink.error_with_help(location, message, help);
        }
        Some(pattern)
    }

    /// The pattern under `name` of an element of `skip`, with its location.
    fn text_pattern(&mut self, map: &Map<'a>, name: &str) -> Option<(TextPattern, Location)> {
        let text = self.text(map, KeyContext::Skip, name);
        let node = &non_null(map, name)?.node;
        if text.is_empty() {
            return None;
        }
        let Some(pattern) = TextPattern::parse(&text) else {
            let expected = expected_value(KeyContext::Skip, name);
            self.unexpected(node, &format!("`{name}`"), expected);
            return None;
        };
        Some((pattern, node.location))
    }

    /// One descriptor: a list of entries. `None` if it has an error: the rest of it would look
    /// like another descriptor.
    fn template(&mut self, node: &YamlNode<'a>) -> Option<ParsedTemplate> {
        let YamlValue::List(elements) = &node.value else {
            let message =
                format!("a descriptor is {}, expected a list of entries", node.describe());
            let help = "write it in brackets, such as [path, remote_address]";
            self.sink.error_with_help(node.location, message, help);
            return None;
        };
        if !(1..=MOST_ENTRIES).contains(&elements.len()) {
            let count = elements.len();
            let message = format!("a descriptor has {count} entries, expected 1 to {MOST_ENTRIES}");
            self.sink.error(node.location, message);
            return None;
        }
        let errors_before = self.sink.error_count();
        let mut entries = Vec::with_capacity(elements.len());
        for element in elements {
            entries.extend(self.entry(element));
        }
        let is_whole = self.sink.error_count() == errors_before;
        is_whole.then_some(ParsedTemplate { location: node.location, entries })
    }
}
