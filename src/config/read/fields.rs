//! The values of keys, each by what the table of keys expects.

use std::rc::Rc;

use super::{
    super::{
        keys::{self, Home},
        report::quote,
        scalar::Plain,
        yaml::{Map, Node, Value},
    },
    Reader,
};

impl<'a> Reader<'a, '_> {
    pub(super) fn text(&mut self, map: &Map<'a>, home: Home, name: &str) -> String {
        let Some(entry) = map.get(name) else { return String::new() };
        self.text_of(&entry.node, name, expected(home, name)).unwrap_or_default()
    }

    pub(super) fn text_of(
        &mut self,
        node: &Node<'a>,
        name: &str,
        expected: &str,
    ) -> Option<String> {
        match (&node.value, node.plain()) {
            (_, Some(Plain::Null)) => Some(String::new()),
            (Value::Scalar(scalar), Some(Plain::Float(_))) => {
                let message =
                    format!("`{name}` is the number {}, expected {expected}", quote(&scalar.text));
                let help = match scalar.text.len() {
                    0..40 => format!("quote it: '{}'", scalar.text),
                    _ => "quote it".into(),
                };
                self.report.mistake(node.place, message, Some(help));
                None
            }
            (Value::Scalar(scalar), _) => Some(scalar.text.to_string()),
            _ => {
                self.wrong(node, &format!("`{name}`"), expected);
                None
            }
        }
    }

    /// Whether [`Self::text_of`] takes it without a report.
    pub(super) fn is_text(&self, node: &Node<'a>) -> bool {
        matches!(&node.value, Value::Scalar(_)) && !matches!(node.plain(), Some(Plain::Float(_)))
    }

    pub(super) fn flag(&mut self, map: &Map<'a>, home: Home, name: &str) -> bool {
        let Some(entry) = map.get(name) else { return false };
        match entry.node.plain() {
            Some(Plain::Bool(flag)) => flag,
            Some(Plain::Null) => false,
            _ => {
                self.wrong(&entry.node, &format!("`{name}`"), expected(home, name));
                false
            }
        }
    }

    pub(super) fn map<'m>(
        &mut self,
        map: &'m Map<'a>,
        home: Home,
        name: &str,
    ) -> Option<&'m Map<'a>> {
        let node = &map.get(name)?.node;
        match &node.value {
            Value::Map(map) => return Some(map),
            _ if node.is_null() => {}
            _ => self.wrong(node, &format!("`{name}`"), expected(home, name)),
        }
        None
    }

    pub(super) fn list(&mut self, map: &Map<'a>, home: Home, name: &str) -> Vec<Rc<Node<'a>>> {
        let Some(entry) = map.get(name) else { return Vec::new() };
        match &entry.node.value {
            Value::List(list) => return list.clone(),
            _ if entry.node.is_null() => {}
            _ => self.wrong(&entry.node, &format!("`{name}`"), expected(home, name)),
        }
        Vec::new()
    }

    /// Reports that `node`, which is `what`, is not what was expected.
    pub(super) fn wrong(&mut self, node: &Node<'a>, what: &str, expected: &str) {
        let quoted = matches!(&node.value, Value::Scalar(it) if !it.plain);
        let scalar = expected.starts_with("a whole number") || expected.starts_with('`');
        let help = (quoted && scalar).then(|| "remove the quotes".to_owned());
        let message = format!("{what} is {}, expected {expected}", node.describe());
        self.report.mistake(node.place, message, help);
    }

    pub(super) fn requests(&mut self, map: &Map<'a>) -> Option<u32> {
        let node = &map.get("requests_per_unit")?.node;
        let requests = match node.plain() {
            Some(Plain::Null) => return None,
            Some(Plain::Int(int)) => u32::try_from(int).ok(),
            _ => None,
        };
        if requests.is_none() {
            let expected = expected(Home::RateLimit, "requests_per_unit");
            self.wrong(node, "`requests_per_unit`", expected);
        }
        // It has been reported and is not missing.
        Some(requests.unwrap_or_default())
    }
}

/// What the value of a key is expected to be.
pub(super) fn expected(home: Home, name: &str) -> &'static str {
    keys::find(home, name).map_or("something else", |it| it.expects)
}
