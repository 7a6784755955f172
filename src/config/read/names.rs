//! The names of limits, and the names that they replace.

use std::sync::Arc;

use super::{
    super::{
        excerpt::quote,
        keys::KeyContext,
        parsed::ReplacedName,
        yaml::{Map, YamlNode, YamlValue},
    },
    reader::SourceReader,
};

impl<'a> SourceReader<'a, '_> {
    pub(super) fn name(&mut self, map: &Map<'a>, context: KeyContext) -> Arc<str> {
        let name = self.text(map, context, "name");
        if let Some(entry) = map.get("name")
            && name.contains(char::is_control)
        {
            let message = "the name contains control characters, expected none";
            let help = "it is sent to clients in a header";
            self.sink.error_with_help(entry.node.location, message, help);
        }
        name.into()
    }

    /// Reads an element of the `replaces` list of a limit. `own_names` are the
    /// names of all limits of the same descriptor.
    pub(super) fn replaced_name(
        &mut self,
        node: &YamlNode<'a>,
        own_names: &[Arc<str>],
    ) -> Option<Arc<str>> {
        let YamlValue::Map(map) = &node.value else {
            self.unexpected(node, "an element of `replaces`", "a map with a `name`");
            return None;
        };
        self.check_keys(map, KeyContext::Replaces);
        let name = self.name(map, KeyContext::Replaces);
        let location = map.get("name").map_or(node.location, |entry| entry.node.location);
        if name.is_empty() {
            if self.is_text_or_absent(map, "name") {
                let message = "the element of `replaces` has no `name`, expected that of a rule";
                self.sink.error(location, message);
            }
            return None;
        }
        if own_names.contains(&name) {
            let message = format!("the rule replaces itself: {} is its own name", quote(&name));
            self.sink.error(location, message);
            return None;
        }
        self.domain.replaced_names.push(ReplacedName { name: Arc::clone(&name), location });
        Some(name)
    }
}
