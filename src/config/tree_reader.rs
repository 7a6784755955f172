//! Turns a [`SourceTree`](super::source::SourceTree) into the nodes that the
//! YAML parser would make of it, so that both are checked alike.

use std::{borrow::Cow, rc::Rc};

use super::{
    sink::DiagnosticSink,
    source::{Location, PathSegment, TreeValue},
    yaml::{MAX_DEPTH, MAX_NODES, Map, MapEntry, Scalar, ScalarKind, YamlNode, YamlValue},
};

/// The root node of tree `index`; `None` if the tree is too deep or too large,
/// which is reported.
pub(super) fn read<'a>(sink: &mut DiagnosticSink<'a>, index: usize) -> Option<Rc<YamlNode<'a>>> {
    let root = &sink.tree(index)?.root;
    let mut reader = TreeReader { sink, nodes_left: MAX_NODES };
    let location = reader.sink.start_of(index);
    match reader.node(root, location, 1) {
        Ok(node) => Some(node),
        Err(too_large) => {
            reader.sink.error(too_large.location, too_large.message);
            None
        }
    }
}

/// The error that ends the reading of a tree.
struct TooLarge {
    location: Location,
    message: String,
}

struct TreeReader<'a, 'r> {
    sink: &'r mut DiagnosticSink<'a>,
    /// The number of nodes that may still be added.
    nodes_left: usize,
}

impl<'a> TreeReader<'a, '_> {
    fn node(
        &mut self,
        tree: &'a TreeValue,
        location: Location,
        depth: usize,
    ) -> Result<Rc<YamlNode<'a>>, TooLarge> {
        if matches!(tree, TreeValue::List(_) | TreeValue::Map(_)) && depth > MAX_DEPTH {
            let message =
                format!("this is nested deeper than {MAX_DEPTH} levels of lists and maps");
            return Err(TooLarge { location, message });
        }
        if self.nodes_left == 0 {
            let message = format!("there are more than {MAX_NODES} values, expected no more");
            return Err(TooLarge { location, message });
        }
        self.nodes_left -= 1;
        let value = match tree {
            TreeValue::Null => plain(""),
            TreeValue::Bool(true) => plain("true"),
            TreeValue::Bool(false) => plain("false"),
            TreeValue::Number(number) => plain(yaml_number(*number)),
            TreeValue::Text(text) => {
                YamlValue::Scalar(Scalar { text: text.into(), kind: ScalarKind::Text })
            }
            TreeValue::List(list) => self.list(list, location, depth)?,
            TreeValue::Map(map) => self.map(map, location, depth)?,
        };
        Ok(YamlNode::new(location, value))
    }

    fn list(
        &mut self,
        list: &'a [TreeValue],
        location: Location,
        depth: usize,
    ) -> Result<YamlValue<'a>, TooLarge> {
        let mut nodes = Vec::with_capacity(list.len());
        for (index, element) in list.iter().enumerate() {
            let location = self.sink.child(location, PathSegment::Index(index));
            nodes.push(self.node(element, location, depth + 1)?);
        }
        Ok(YamlValue::List(nodes))
    }

    fn map(
        &mut self,
        map: &'a [(Cow<'static, str>, TreeValue)],
        location: Location,
        depth: usize,
    ) -> Result<YamlValue<'a>, TooLarge> {
        let mut nodes = Map::default();
        for (key, value) in map {
            let location = self.sink.child(location, PathSegment::Key(key));
            let node = self.node(value, location, depth + 1)?;
            nodes.insert(Cow::Borrowed(&**key), MapEntry::new(location, false, node));
        }
        Ok(YamlValue::Map(nodes))
    }
}

fn plain<'a>(text: impl Into<Cow<'a, str>>) -> YamlValue<'a> {
    YamlValue::Scalar(Scalar { text: text.into(), kind: ScalarKind::Plain })
}

/// Writes `number` as YAML 1.1 does.
fn yaml_number(number: f64) -> String {
    if number.is_nan() {
        ".nan".into()
    } else if number == f64::INFINITY {
        ".inf".into()
    } else if number == f64::NEG_INFINITY {
        "-.inf".into()
    } else {
        number.to_string()
    }
}
