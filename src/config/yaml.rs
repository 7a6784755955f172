//! From text to a tree of YAML nodes that know where they stand.
//!
//! Built on the events of the parser rather than on a deserializer: those stop
//! at the first mistake and forget how a scalar was written, and `010` is a
//! number in one place and a text in another.

use std::{borrow::Cow, rc::Rc};

use indexmap::IndexMap;

use super::{
    report::{Place, quote},
    scalar::{self, Plain},
};

mod compose;

pub(super) use self::compose::{parse, parse_all};

/// How deep lists and maps may stand in one another: 31 levels of descriptors.
pub(super) const MAX_DEPTH: usize = 64;

/// How many nodes a file may have, where an alias counts as all it stands for:
/// enough for 150,000 descriptors.
pub(super) const MAX_NODES: usize = 1_000_000;

/// A node, which aliases share.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) place: Place,
    pub(super) value: Value<'a>,
    /// How many nodes it is, all below it included.
    size: usize,
    /// How many levels of lists and maps it has, itself included.
    height: usize,
}

#[derive(Debug)]
pub(super) enum Value<'a> {
    Scalar(Scalar<'a>),
    List(Vec<Rc<Node<'a>>>),
    Map(Map<'a>),
}

#[derive(Clone, Debug)]
pub(super) struct Scalar<'a> {
    pub(super) text: Cow<'a, str>,
    /// It is not quoted, and may be something else than a text.
    pub(super) plain: bool,
}

/// By key, in the order of the file.
pub(super) type Map<'a> = IndexMap<Cow<'a, str>, Entry<'a>, foldhash::fast::RandomState>;

#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    /// Of the key.
    pub(super) place: Place,
    /// Of the key.
    pub(super) plain: bool,
    pub(super) node: Rc<Node<'a>>,
}

impl<'a> Node<'a> {
    pub(super) fn new(place: Place, value: Value<'a>) -> Rc<Self> {
        let (size, height) = match &value {
            Value::Scalar(_) => (1, 0),
            Value::List(list) => measure(list.iter()),
            Value::Map(map) => measure(map.values().map(|it| &it.node)),
        };
        Rc::new(Self { place, value, size, height })
    }

    fn null(place: Place) -> Rc<Self> {
        Self::new(place, Value::Scalar(Scalar { text: Cow::Borrowed(""), plain: true }))
    }

    /// What it is if it is not quoted and no collection.
    pub(super) fn plain(&self) -> Option<Plain> {
        match &self.value {
            Value::Scalar(it) if it.plain => Some(scalar::resolve(&it.text)),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        self.plain() == Some(Plain::Null)
    }

    /// What it is, to follow "is".
    pub(super) fn describe(&self) -> String {
        match &self.value {
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
            Value::Scalar(it) if !it.plain => format!("the quoted string {}", quote(&it.text)),
            Value::Scalar(_) if self.is_null() => "empty".into(),
            Value::Scalar(it) => quote(&it.text),
        }
    }
}

fn measure<'n, 'a: 'n>(nodes: impl Iterator<Item = &'n Rc<Node<'a>>>) -> (usize, usize) {
    nodes.fold((1, 1), |(size, height), it| (size + it.size, height.max(it.height + 1)))
}
