//! The input of a compilation: rule files, or rules sent as trees of values.

use std::borrow::Cow;

/// The maximum size of one rule file, in bytes.
pub const MAX_BYTES: usize = 16 << 20;

/// A rule file that has been read but not parsed.
#[derive(Clone, Debug, Default)]
pub struct SourceFile {
    /// The path or name that diagnostics show.
    pub name: String,
    /// The contents, which may be any bytes.
    pub bytes: Vec<u8>,
}

/// Rules that another program, such as an xDS server, sends as a tree of values.
#[derive(Clone, Debug)]
pub struct SourceTree {
    /// The name that diagnostics show.
    pub name: String,
    /// A map with the keys of a rule file. Nothing in it has been checked.
    pub root: TreeValue,
}

/// A value in a [`SourceTree`].
#[derive(Clone, Debug, PartialEq)]
pub enum TreeValue {
    /// An absent value, like `null` in JSON.
    Null,
    /// A flag, like `true` in JSON.
    Bool(bool),
    /// A number, with or without a fraction.
    Number(f64),
    /// A string; never read as a number or a flag.
    Text(String),
    /// Values in a fixed order.
    List(Vec<TreeValue>),
    /// Values by key, in the order of the sender. Keys must be unique.
    Map(Vec<(Cow<'static, str>, TreeValue)>),
}

/// The sources of one compilation: only files, or only trees.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sources<'a> {
    Files(&'a [SourceFile]),
    Trees(&'a [SourceTree]),
}

/// A range of bytes in a file, or a value in a tree.
///
/// The order of locations is the order in which a reader of the sources meets
/// them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Location {
    /// The index of the source in [`Sources`].
    pub(super) source: usize,
    /// The line in a file, from 1. In a tree, the number that
    /// [`DiagnosticSink::child`](super::sink::DiagnosticSink::child) gave to
    /// the value; 0 for the root.
    pub(super) line: u32,
    /// The column in a file in characters, from 1. In a tree, 0.
    pub(super) column: u32,
    /// The first byte of the range. In a tree, 0.
    pub(super) start: u32,
    /// The byte after the range. In a tree, 0.
    pub(super) end: u32,
}

/// One step of the path from the root of a tree to a value in it.
#[derive(Clone, Copy, Debug)]
pub(super) enum PathSegment<'a> {
    Key(&'a str),
    Index(usize),
}
