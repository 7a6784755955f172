//! Reads the `http` of a file.

use super::{
    super::{
        keys::KeyContext,
        lint,
        parsed::{ParsedHttp, ParsedTemplate},
        yaml::{Map, YamlNode, YamlValue},
    },
    reader::{SourceReader, expected_value, is_misspelt, non_null},
};
use crate::mapping::{ClientAddress, MOST_DESCRIPTORS, MOST_ENTRIES, Network};

const MOST_PROXIES: usize = 256;

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
        let network = network?;
        lint::check_trusted(network, node.location, self.sink);
        Some(network)
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
