//! Rules that no file was written for: a tree that some program made.

use std::{borrow::Cow, rc::Rc};

use super::{
    report::{Place, Report},
    yaml::{Entry, MAX_DEPTH, MAX_NODES, Map, Node, Scalar, Value},
};

/// What a rule file would say, from somewhere else.
#[derive(Clone, Debug)]
pub struct SourceTree {
    /// Its name, as it is shown to people.
    pub name: String,
    /// A map with the keys of a rule file. Nobody has looked at it yet.
    pub root: Tree,
}

/// A value in a [`SourceTree`].
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// Whole or not.
    Number(f64),
    /// A string, whatever it looks like.
    Text(String),
    /// Values in order.
    List(Vec<Tree>),
    /// Values by keys, all of which differ.
    Map(Vec<(Cow<'static, str>, Tree)>),
}

/// What leads from a value to one in it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// As nodes; none if it is too deep or too large, which is reported.
pub(super) fn nodes<'a>(report: &mut Report<'a>, index: usize) -> Option<Rc<Node<'a>>> {
    let root = &report.tree(index)?.root;
    let mut planter = Planter { report, left: MAX_NODES };
    let place = planter.report.top(index);
    match planter.node(root, place, 1) {
        Ok(node) => Some(node),
        Err((place, message)) => {
            planter.report.mistake(place, message, None);
            None
        }
    }
}

struct Planter<'a, 'r> {
    report: &'r mut Report<'a>,
    left: usize,
}

impl<'a> Planter<'a, '_> {
    fn node(
        &mut self,
        tree: &'a Tree,
        place: Place,
        depth: usize,
    ) -> Result<Rc<Node<'a>>, (Place, String)> {
        let is_collection = matches!(tree, Tree::List(_) | Tree::Map(_));
        if is_collection && MAX_DEPTH < depth {
            let levels = format!("{MAX_DEPTH} levels of lists and maps");
            return Err((place, format!("this is nested deeper than {levels}")));
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            (place, format!("there are more than {MAX_NODES} values, expected no more"))
        })?;
        let plain = |text: Cow<'a, str>| Value::Scalar(Scalar { text, plain: true });
        let value = match tree {
            Tree::Null => plain("".into()),
            Tree::Bool(true) => plain("true".into()),
            Tree::Bool(false) => plain("false".into()),
            Tree::Number(number) => plain(written(*number).into()),
            Tree::Text(text) => Value::Scalar(Scalar { text: text.into(), plain: false }),
            Tree::List(list) => {
                let elements = list.iter().enumerate().map(|(at, it)| {
                    let place = self.report.step(place, Step::Index(at));
                    self.node(it, place, depth + 1)
                });
                Value::List(elements.collect::<Result<_, _>>()?)
            }
            Tree::Map(map) => {
                let entries = map.iter().map(|(key, it)| {
                    let place = self.report.step(place, Step::Key(key));
                    let node = self.node(it, place, depth + 1)?;
                    Ok((Cow::Borrowed(&**key), Entry { place, plain: false, node }))
                });
                Value::Map(entries.collect::<Result<Map<'a>, _>>()?)
            }
        };
        Ok(Node::new(place, value))
    }
}

/// As it would be in YAML.
fn written(number: f64) -> String {
    match number {
        it if it.is_nan() => ".nan".into(),
        f64::INFINITY => ".inf".into(),
        f64::NEG_INFINITY => "-.inf".into(),
        it => it.to_string(),
    }
}
