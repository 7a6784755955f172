//! The values of keys, each by what the table of keys expects.

use std::{ops::RangeInclusive, rc::Rc, time::Duration};

use super::{
    super::{
        keys::{self, Home},
        report::quote,
        scalar::Plain,
        yaml::{Entry, Map, Node, Value},
    },
    Reader,
};
use crate::duration;

pub(super) const SECOND: Duration = Duration::from_secs(1);

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
        self.flag_or(map, home, name, false)
    }

    pub(super) fn flag_or(&mut self, map: &Map<'a>, home: Home, name: &str, default: bool) -> bool {
        let Some(entry) = map.get(name) else { return default };
        match entry.node.plain() {
            Some(Plain::Bool(flag)) => flag,
            Some(Plain::Null) => default,
            _ => {
                self.wrong(&entry.node, &format!("`{name}`"), expected(home, name));
                default
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

    /// A whole number in `range`; none also if it is another, which is
    /// reported.
    pub(super) fn number(
        &mut self,
        map: &Map<'a>,
        home: Home,
        name: &str,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let node = &present(map, name)?.node;
        let number = match node.plain() {
            Some(Plain::Int(int)) => u32::try_from(int).ok().filter(|it| range.contains(it)),
            _ => None,
        };
        if number.is_none() {
            self.wrong(node, &format!("`{name}`"), expected(home, name));
        }
        number
    }

    /// A duration in `range` that is a multiple of `grain`.
    pub(super) fn duration(
        &mut self,
        map: &Map<'a>,
        name: &str,
        range: RangeInclusive<Duration>,
        grain: Duration,
    ) -> Option<Duration> {
        let node = &present(map, name)?.node;
        let duration = match &node.value {
            Value::Scalar(scalar) => duration::parse(&scalar.text),
            Value::List(_) | Value::Map(_) => None,
        };
        let whole = |it: &Duration| it.as_nanos().is_multiple_of(grain.as_nanos());
        let duration = duration.filter(|it| range.contains(it) && whole(it));
        if duration.is_none() {
            self.wrong(node, &format!("`{name}`"), expected(Home::RateLimit, name));
        }
        duration
    }

    /// One of `words`.
    pub(super) fn choice<T: Copy>(
        &mut self,
        map: &Map<'a>,
        name: &str,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        let node = &present(map, name)?.node;
        let text = match &node.value {
            Value::Scalar(scalar) => &scalar.text,
            Value::List(_) | Value::Map(_) => "",
        };
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let expected = expected(Home::RateLimit, name);
        let message = format!("`{name}` is {}, expected {expected}", node.describe());
        let near = keys::nearest(text, words.iter().map(|(word, _)| *word));
        let help = near.map(|it| format!("did you mean `{it}`?"));
        self.report.mistake(node.place, message, help);
        None
    }
}

/// What stands under `name`, if it says anything.
pub(super) fn present<'m, 'a>(map: &'m Map<'a>, name: &str) -> Option<&'m Entry<'a>> {
    map.get(name).filter(|it| !it.node.is_null())
}

/// What the value of a key is expected to be.
pub(super) fn expected(home: Home, name: &str) -> &'static str {
    keys::find(home, name).map_or("something else", |it| it.expects)
}
