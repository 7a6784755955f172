//! The merge key `<<`.
//!
//! Files are decoded as the reference service does it: entries take effect in the order
//! of the file, whether they are written or come from a `<<`, and the last one wins. Maps
//! under the same key are merged key by key.

use std::{borrow::Cow, rc::Rc};

use indexmap::map::Entry as Slot;

use super::{
    super::{excerpt::quote, sink::DiagnosticSink, source::Location},
    node::{KeyOrigin, Map, MapEntry, YamlNode, YamlValue},
};

/// Adds entries to a map that has a `<<`.
pub(super) struct Merger<'a, 'r> {
    pub(super) sink: &'r mut DiagnosticSink<'a>,
    /// The location of the `<<` that the entries come from; `None` for written ones.
    pub(super) merge_key: Option<Location>,
    /// The number of entries of all unions that were made.
    pub(super) added: usize,
}

impl<'a> Merger<'a, '_> {
    /// Puts `entry` into `map`, over the entry that has `key`.
    pub(super) fn put(&mut self, map: &mut Map<'a>, key: Cow<'a, str>, mut entry: MapEntry<'a>) {
        let is_inherited = self.merge_key.is_some();
        let mut slot = match map.entry(key) {
            Slot::Vacant(slot) => {
                if is_inherited {
                    entry.origin = KeyOrigin::Inherited;
                }
                slot.insert(entry);
                return;
            }
            Slot::Occupied(slot) => slot,
        };
        let old = slot.get();
        entry.origin = match (is_inherited, old.origin) {
            (false, _) => KeyOrigin::Written,
            (true, KeyOrigin::Inherited) => KeyOrigin::Inherited,
            (true, KeyOrigin::Written | KeyOrigin::Replaced) => KeyOrigin::Replaced,
        };
        let (old_map, new_map) = (&old.node.value, &entry.node.value);
        if let (YamlValue::Map(old_map), YamlValue::Map(new_map)) = (old_map, new_map)
            && !entry.is_fresh
        {
            let union = YamlValue::Map(self.union(old_map, old.origin, new_map));
            let union = YamlNode::new(entry.node.location, union);
            entry.last = Some(Rc::clone(entry.last_value()));
            entry.node = union;
            entry.is_fresh = old.is_fresh;
        } else {
            entry.is_fresh = true;
            if entry.origin == KeyOrigin::Replaced && !old.node.same(&entry.node) {
                self.warn(slot.key(), old, &entry);
            }
        }
        slot.insert(entry);
    }

    /// The entries of `old`, which came with `origin`, and over them those of `new`.
    fn union(&mut self, old: &Map<'a>, origin: KeyOrigin, new: &Map<'a>) -> Map<'a> {
        let mut union = old.clone();
        if origin == KeyOrigin::Inherited {
            for entry in union.values_mut() {
                entry.origin = KeyOrigin::Inherited;
            }
        }
        for (key, entry) in new {
            self.put(&mut union, key.clone(), entry.clone());
        }
        self.added += union.len();
        union
    }

    /// Warns that `new` replaces the written entry `old`: its author surely expected the
    /// opposite.
    fn warn(&mut self, key: &str, old: &MapEntry<'a>, new: &MapEntry<'a>) {
        let Some(merge_key) = self.merge_key else { return };
        let message = format!(
            "{} is {} here, not {}: the `<<` at {} is below it, and replaces it",
            quote(key),
            new.node.describe(),
            old.node.describe(),
            self.sink.describe(merge_key)
        );
        let help = "write `<<` first, above the keys that differ from it";
        self.sink.warning_with_help(old.key_location, message, help);
    }
}
