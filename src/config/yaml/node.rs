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

/// The maximum number of nodes in a file: enough for 150,000 descriptors. An
/// alias counts as many nodes as its anchor.
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
    /// True if the scalar is not quoted, so that it may be a number, a flag or
    /// null.
    pub(in super::super) is_plain: bool,
}

/// The entries of a map by key, in the order of the file.
pub(in super::super) type Map<'a> =
    IndexMap<Cow<'a, str>, MapEntry<'a>, foldhash::fast::RandomState>;

#[derive(Clone, Debug)]
pub(in super::super) struct MapEntry<'a> {
    pub(in super::super) key_location: Location,
    /// True if the key is not quoted.
    pub(in super::super) key_is_plain: bool,
    /// The value of the entry.
    pub(in super::super) node: Rc<YamlNode<'a>>,
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
        let empty = Scalar { text: Cow::Borrowed(""), is_plain: true };
        Self::new(location, YamlValue::Scalar(empty))
    }

    /// The meaning of an unquoted scalar; `None` for a quoted one and for lists
    /// and maps.
    pub(in super::super) fn plain(&self) -> Option<Plain> {
        match &self.value {
            YamlValue::Scalar(scalar) if scalar.is_plain => Some(scalar::resolve(&scalar.text)),
            _ => None,
        }
    }

    pub(in super::super) fn is_null(&self) -> bool {
        self.plain() == Some(Plain::Null)
    }

    /// Describes the value for a message, to follow the word "is".
    pub(in super::super) fn describe(&self) -> String {
        match &self.value {
            YamlValue::List(_) => "a list".into(),
            YamlValue::Map(_) => "a map".into(),
            YamlValue::Scalar(scalar) if !scalar.is_plain => {
                format!("the quoted string {}", quote(&scalar.text))
            }
            YamlValue::Scalar(_) if self.is_null() => "empty".into(),
            YamlValue::Scalar(scalar) => quote(&scalar.text),
        }
    }
}
