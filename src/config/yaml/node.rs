//! The nodes of a YAML document.

use std::{borrow::Cow, rc::Rc};

use indexmap::IndexMap;

use super::super::{
    excerpt::quote,
    scalar::{self, Plain},
    source::Location,
};

/// The maximum nesting of lists and maps: 31 levels of descriptors.
pub(in super::super) const MAX_DEPTH: usize = 64;

/// The maximum number of nodes that aliases and `<<` add to those that are written in a
/// file: an alias adds as many as its anchor has. Also the maximum in a tree.
pub(in super::super) const MAX_NODES: usize = 1_000_000;

/// A value in a document. All aliases of an anchor share its node.
#[derive(Debug)]
pub(in super::super) struct YamlNode<'a> {
    pub(in super::super) location: Location,
    pub(in super::super) value: YamlValue<'a>,
    /// The number of nodes in this subtree, including this one.
    pub(super) size: usize,
    /// The number of nested lists and maps, including this one; 0 for a scalar.
    pub(super) height: usize,
}

#[derive(Debug)]
pub(in super::super) enum YamlValue<'a> {
    Scalar(Scalar<'a>),
    List(Vec<Rc<YamlNode<'a>>>),
    Map(Map<'a>),
}

#[derive(Clone, Debug)]
pub(in super::super) struct Scalar<'a> {
    pub(in super::super) text: Cow<'a, str>,
    pub(in super::super) kind: ScalarKind,
}

/// The values that a scalar may have, by its quotes and its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum ScalarKind {
    /// A string, whatever its text.
    Text,
    /// A number, a flag or null if its text is that of one.
    Plain,
    /// A number that is not an integer, even without a fraction.
    Float,
}

/// The entries of a map by key, in the order of the file.
pub(in super::super) type Map<'a> =
    IndexMap<Cow<'a, str>, MapEntry<'a>, foldhash::fast::RandomState>;

#[derive(Clone, Debug)]
pub(in super::super) struct MapEntry<'a> {
    pub(in super::super) key_location: Location,
    /// True if the key is not quoted.
    pub(in super::super) key_is_plain: bool,
    pub(in super::super) origin: KeyOrigin,
    /// The value for a reader that knows the keys of the map: of maps that `<<` brings
    /// together under one key, the union.
    pub(in super::super) node: Rc<YamlNode<'a>>,
    /// The last value by itself, if `node` is a union.
    pub(super) last: Option<Rc<YamlNode<'a>>>,
    /// True if `node` replaces a value from `<<`, instead of joining it as maps do.
    pub(in super::super) is_fresh: bool,
}

/// The way in which a key came into its map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum KeyOrigin {
    /// It is written there.
    Written,
    /// It comes from a `<<` of the map.
    Inherited,
    /// It is written there, and a `<<` below it replaces its value.
    Replaced,
}

impl<'a> MapEntry<'a> {
    /// An entry that is written in its map.
    pub(in super::super) fn new(
        key_location: Location,
        key_is_plain: bool,
        node: Rc<YamlNode<'a>>,
    ) -> Self {
        let origin = KeyOrigin::Written;
        Self { key_location, key_is_plain, origin, node, last: None, is_fresh: false }
    }

    /// The value for a reader that takes any keys: the last one.
    pub(in super::super) fn last_value(&self) -> &Rc<YamlNode<'a>> {
        self.last.as_ref().unwrap_or(&self.node)
    }
}

impl<'a> YamlNode<'a> {
    pub(in super::super) fn new(location: Location, value: YamlValue<'a>) -> Rc<Self> {
        let mut node = Self { location, value, size: 1, height: 0 };
        let (mut size, mut height) = (1, 0);
        match &node.value {
            YamlValue::Scalar(_) => {}
            YamlValue::List(list) => {
                height = 1;
                for child in list {
                    size += child.size;
                    height = height.max(child.height + 1);
                }
            }
            YamlValue::Map(map) => {
                height = 1;
                for entry in map.values() {
                    size += entry.node.size;
                    height = height.max(entry.node.height + 1);
                }
            }
        }
        (node.size, node.height) = (size, height);
        Rc::new(node)
    }

    pub(super) fn null(location: Location) -> Rc<Self> {
        let empty = Scalar { text: Cow::Borrowed(""), kind: ScalarKind::Plain };
        Self::new(location, YamlValue::Scalar(empty))
    }

    /// The meaning of an unquoted scalar; `None` for a quoted one and for lists
    /// and maps.
    pub(in super::super) fn plain(&self) -> Option<Plain> {
        let YamlValue::Scalar(scalar) = &self.value else { return None };
        match scalar.kind {
            ScalarKind::Text => None,
            ScalarKind::Plain => Some(scalar::resolve(&scalar.text)),
            ScalarKind::Float => Some(scalar::resolve(&scalar.text).into_float()),
        }
    }

    pub(in super::super) fn is_null(&self) -> bool {
        self.plain() == Some(Plain::Null)
    }

    /// True if both values are written alike, except for the order of keys.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (YamlValue::Scalar(one), YamlValue::Scalar(two)) => {
                one.text == two.text && one.kind == two.kind
            }
            (YamlValue::List(one), YamlValue::List(two)) => {
                one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.same(two))
            }
            (YamlValue::Map(one), YamlValue::Map(two)) => {
                one.len() == two.len()
                    && one.iter().all(|(key, entry)| {
                        two.get(key).is_some_and(|other| entry.node.same(&other.node))
                    })
            }
            _ => false,
        }
    }

    /// Describes the value for a message, to follow the word "is".
    pub(in super::super) fn describe(&self) -> String {
        match &self.value {
            YamlValue::List(_) => "a list".into(),
            YamlValue::Map(_) => "a map".into(),
            YamlValue::Scalar(scalar) if scalar.kind == ScalarKind::Text => {
                format!("the quoted string {}", quote(&scalar.text))
            }
            YamlValue::Scalar(_) if self.is_null() => "empty".into(),
            YamlValue::Scalar(scalar) => quote(&scalar.text),
        }
    }
}
