//! Reads YAML documents that are not rule files, such as Kubernetes manifests.

use std::rc::Rc;

use super::{
    diagnostic::Diagnostics,
    scalar::{self, Plain},
    sink::DiagnosticSink,
    source::{SourceFile, Sources},
    yaml::{self, YamlNode, YamlValue},
};

/// The YAML documents of one file.
#[derive(Debug)]
pub struct Documents<'a> {
    /// `None` if the file is not YAML.
    roots: Option<Vec<Rc<YamlNode<'a>>>>,
    /// The errors in the file. The documents are available despite errors that
    /// concern only a part of them, such as a repeated key.
    pub diagnostics: Option<Diagnostics>,
}

/// A value in a document.
#[derive(Clone, Copy, Debug)]
pub struct Item<'n> {
    /// The line on which the value begins, from 1.
    pub line: u32,
    /// The column of its first character, from 1.
    pub column: u32,
    node: &'n YamlNode<'n>,
}

/// A key of a map, and its value.
#[derive(Clone, Copy, Debug)]
pub struct Field<'n> {
    /// The key.
    pub key: &'n str,
    /// The line of the key, from 1.
    pub line: u32,
    /// The column of its first character, from 1.
    pub column: u32,
    /// The value.
    pub value: Item<'n>,
}

/// The type of a value in a document, by the rules of YAML 1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A null or missing value.
    Null,
    /// An unquoted flag, such as `true` or `on`.
    Bool(bool),
    /// A whole number that fits into an `i64` or a `u64`.
    Int(i128),
    /// Any number that is not an [`Int`](Self::Int).
    Float,
    /// A string, quoted or not.
    Text,
    /// A list of values of any type.
    List,
    /// A map from strings to values.
    Map,
}

/// Reads all documents of `file`.
pub fn read(file: &SourceFile) -> Documents<'_> {
    let mut sink = DiagnosticSink::new(Sources::Files(std::slice::from_ref(file)));
    let roots = yaml::parse_all(&mut sink, 0);
    Documents { roots, diagnostics: sink.finish().err() }
}

impl Documents<'_> {
    /// The root value of each document, in order; `None` if the file is not
    /// YAML.
    pub fn roots(&self) -> Option<impl Iterator<Item = Item<'_>>> {
        let roots = self.roots.as_ref()?;
        Some(roots.iter().map(|root| Item::new(root)))
    }
}

impl<'n> Item<'n> {
    fn new(node: &'n YamlNode<'_>) -> Self {
        Self { line: node.location.line, column: node.location.column, node }
    }

    /// The type of the value; for a flag or a whole number, also the value.
    pub fn kind(self) -> Kind {
        match &self.node.value {
            YamlValue::List(_) => Kind::List,
            YamlValue::Map(_) => Kind::Map,
            YamlValue::Scalar(_) => match self.node.plain() {
                Some(Plain::Null) => Kind::Null,
                Some(Plain::Bool(flag)) => Kind::Bool(flag),
                Some(Plain::Int(number)) => Kind::Int(number),
                Some(Plain::Float(_)) => Kind::Float,
                Some(Plain::Text) | None => Kind::Text,
            },
        }
    }

    /// The text of a scalar as it is written; `None` for null, a list or a map.
    pub fn text(self) -> Option<&'n str> {
        match &self.node.value {
            YamlValue::Scalar(scalar) if self.kind() != Kind::Null => Some(&scalar.text),
            _ => None,
        }
    }

    /// The elements of a list. Empty if the value is not a list.
    pub fn list(self) -> impl Iterator<Item = Item<'n>> {
        let list = match &self.node.value {
            YamlValue::List(list) => list.as_slice(),
            _ => &[],
        };
        list.iter().map(|element| Item::new(element))
    }

    /// The entries of a map, in order. Empty if the value is not a map. The
    /// flag is true if the key is a string; an unquoted `on` is not.
    pub fn map(self) -> impl Iterator<Item = (&'n str, bool, Item<'n>)> {
        let map = match &self.node.value {
            YamlValue::Map(map) => Some(map),
            _ => None,
        };
        map.into_iter().flatten().map(|(key, entry)| {
            let is_text = !entry.key_is_plain || scalar::resolve(key) == Plain::Text;
            (&**key, is_text, Item::new(entry.last_value()))
        })
    }

    /// The entries of a map with the positions of their keys, in order. Empty if the value
    /// is not a map.
    pub fn fields(self) -> impl Iterator<Item = Field<'n>> {
        let map = match &self.node.value {
            YamlValue::Map(map) => Some(map),
            _ => None,
        };
        map.into_iter().flatten().map(|(key, entry)| Field {
            key,
            line: entry.key_location.line,
            column: entry.key_location.column,
            value: Item::new(&entry.node),
        })
    }

    /// The value of `key` in a map; `None` if it is null or the value is not a
    /// map.
    pub fn get(self, key: &str) -> Option<Item<'n>> {
        let YamlValue::Map(map) = &self.node.value else { return None };
        let item = Item::new(&map.get(key)?.node);
        if item.kind() == Kind::Null { None } else { Some(item) }
    }

    /// The value of the last key, when [`Self::get`] is followed from key to key.
    pub fn get_path(self, keys: &[&str]) -> Option<Item<'n>> {
        let mut item = self;
        for key in keys {
            item = item.get(key)?;
        }
        Some(item)
    }
}
