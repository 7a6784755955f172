//! YAML that is not a rule file, or is one for another program.

use std::rc::Rc;

use super::{
    Diagnostics, SourceFile,
    report::{Report, Sources},
    scalar::Plain,
    yaml::{self, Node, Value},
};

/// The documents of one file.
#[derive(Debug)]
pub struct Documents<'a> {
    /// None if it is no YAML.
    roots: Option<Vec<Rc<Node<'a>>>>,
    /// Set if something is wrong with the file; what could be read of it is
    /// here all the same.
    pub diagnostics: Option<Diagnostics>,
}

/// A value in a document.
#[derive(Clone, Copy, Debug)]
pub struct Item<'n> {
    /// The line on which it begins, from 1.
    pub line: u32,
    node: &'n Node<'n>,
}

/// What kind of value it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number that fits into 64 bits, with or without a sign.
    Int(i128),
    /// Another number.
    Float,
    /// A string.
    Text,
    /// A list.
    List,
    /// A map.
    Map,
}

/// Reads the documents of `file`, all of them.
pub fn read(file: &SourceFile) -> Documents<'_> {
    let mut report = Report::new(Sources::Files(std::slice::from_ref(file)));
    let roots = yaml::parse_all(&mut report, 0);
    Documents { roots, diagnostics: report.finish().err() }
}

impl Documents<'_> {
    /// The documents, in order; none if the file is no YAML.
    pub fn roots(&self) -> Option<impl Iterator<Item = Item<'_>>> {
        Some(self.roots.as_ref()?.iter().map(|it| Item::new(it)))
    }
}

impl<'n> Item<'n> {
    fn new(node: &'n Node<'_>) -> Self {
        Self { line: node.place.line, node }
    }

    /// What kind of value it is.
    pub fn kind(self) -> Kind {
        match (&self.node.value, self.node.plain()) {
            (Value::List(_), _) => Kind::List,
            (Value::Map(_), _) => Kind::Map,
            (_, Some(Plain::Null)) => Kind::Null,
            (_, Some(Plain::Bool(it))) => Kind::Bool(it),
            (_, Some(Plain::Int(it))) => Kind::Int(it),
            (_, Some(Plain::Float(_))) => Kind::Float,
            (Value::Scalar(_), _) => Kind::Text,
        }
    }

    /// The text of a scalar, as it is written; none if it is nothing, a list or
    /// a map.
    pub fn text(self) -> Option<&'n str> {
        match &self.node.value {
            Value::Scalar(it) if self.kind() != Kind::Null => Some(&it.text),
            _ => None,
        }
    }

    /// The elements of a list; of anything else none.
    pub fn list(self) -> impl Iterator<Item = Item<'n>> {
        let list = match &self.node.value {
            Value::List(list) => list.as_slice(),
            _ => &[],
        };
        list.iter().map(|it| Item::new(it))
    }

    /// The entries of a map, in order; of anything else none. With each key
    /// comes whether it is a string, which `on` is not.
    pub fn map(self) -> impl Iterator<Item = (&'n str, bool, Item<'n>)> {
        let map = match &self.node.value {
            Value::Map(map) => Some(map),
            _ => None,
        };
        map.into_iter().flatten().map(|(key, entry)| {
            let is_text = !entry.plain || super::scalar::resolve(key) == Plain::Text;
            (&**key, is_text, Item::new(&entry.node))
        })
    }

    /// What a map has under `key`; nothing if that is empty.
    pub fn get(self, key: &str) -> Option<Item<'n>> {
        match &self.node.value {
            Value::Map(map) => map.get(key).map(|it| Item::new(&it.node)),
            _ => None,
        }
        .filter(|it| it.kind() != Kind::Null)
    }

    /// What one finds going down by `keys`.
    pub fn get_path(self, keys: &[&str]) -> Option<Item<'n>> {
        keys.iter().try_fold(self, |it, key| it.get(key))
    }
}
