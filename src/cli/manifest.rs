//! Kubernetes manifests: their objects, and the files in ConfigMaps.

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::config::documents::{Documents, Item};

/// Returns true if `text` is more likely a manifest, in YAML or JSON, than a
/// rule file.
pub(super) fn is_manifest(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{') {
        return text.contains("\"apiVersion\":");
    }
    const KEYS: [&str; 3] = ["apiVersion:", "\"apiVersion\":", "'apiVersion':"];
    text.lines().any(|line| KEYS.iter().any(|key| line.starts_with(key)))
}

/// The objects of all documents. A list, such as a `List` or `ConfigMapList`, is replaced by
/// its items, also in another list.
pub(super) fn objects<'n>(documents: &'n Documents<'_>) -> Vec<Item<'n>> {
    let mut objects = Vec::new();
    let Some(roots) = documents.roots() else { return objects };
    for root in roots {
        add_objects(root, &mut objects);
    }
    objects
}

fn add_objects<'n>(object: Item<'n>, objects: &mut Vec<Item<'n>>) {
    if !kind(object).ends_with("List") || object.get("items").is_none() {
        objects.push(object);
        return;
    }
    for item in list(object, "items") {
        add_objects(item, objects);
    }
}

/// Returns true for a ConfigMap, also as an item of a `ConfigMapList`, which may have no kind.
pub(super) fn is_config_map(object: Item<'_>) -> bool {
    let has_data = object.get("data").is_some() || object.get("binaryData").is_some();
    kind(object) == "ConfigMap" || kind(object).is_empty() && has_data
}

pub(super) fn kind(object: Item<'_>) -> &str {
    text(object, "kind")
}

/// Empty if the object has no name.
pub(super) fn name(object: Item<'_>) -> &str {
    metadata(object, "name")
}

/// Empty if the object has no namespace.
pub(super) fn namespace(object: Item<'_>) -> &str {
    metadata(object, "namespace")
}

fn metadata<'n>(object: Item<'n>, key: &str) -> &'n str {
    match object.get("metadata") {
        Some(metadata) => text(metadata, key),
        None => "",
    }
}

/// The text at `key`, or an empty text.
pub(super) fn text<'n>(item: Item<'n>, key: &str) -> &'n str {
    match item.get(key) {
        Some(value) => value.text().unwrap_or_default(),
        None => "",
    }
}

/// The elements of the list at `key`; empty if there is no such list.
pub(super) fn list<'n>(item: Item<'n>, key: &str) -> Vec<Item<'n>> {
    match item.get(key) {
        Some(list) => list.list().collect(),
        None => Vec::new(),
    }
}

/// One key of a ConfigMap, with its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConfigMapEntry<'n> {
    pub(super) key: &'n str,
    pub(super) value: Item<'n>,
    encoding: Encoding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Text,
    Base64,
}

impl ConfigMapEntry<'_> {
    /// The content of the file that a pod sees, or `None` if `binaryData` is
    /// not valid base64.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        let text = self.value.text().unwrap_or_default();
        match self.encoding {
            Encoding::Text => Some(text.as_bytes().to_vec()),
            Encoding::Base64 => {
                let text: String = text.split_ascii_whitespace().collect();
                BASE64_STANDARD.decode(text).ok()
            }
        }
    }
}

/// The keys of the ConfigMap `object`, from `data` and `binaryData`.
pub(super) fn config_map_entries(object: Item<'_>) -> Vec<ConfigMapEntry<'_>> {
    let mut entries = Vec::new();
    for (part, encoding) in [("data", Encoding::Text), ("binaryData", Encoding::Base64)] {
        let Some(map) = object.get(part) else { continue };
        for (key, _, value) in map.map() {
            entries.push(ConfigMapEntry { key, value, encoding });
        }
    }
    entries
}
