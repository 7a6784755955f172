//! Parses YAML into nodes that know their location in the file.
//!
//! The nodes are built from the events of the parser. A deserializer would stop
//! at the first error, and would not keep how a scalar was written: `010` is a
//! number where a number is expected, and a string where a string is expected.

mod compose;
mod merge;
mod node;
mod syntax;
mod tags;
mod text;

pub(super) use self::{
    compose::{parse, parse_all},
    node::{
        KeyOrigin, MAX_DEPTH, MAX_NODES, Map, MapEntry, Scalar, ScalarKind, YamlNode, YamlValue,
    },
};
