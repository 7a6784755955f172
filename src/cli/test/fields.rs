//! Reads the fields of maps, and collects all mistakes.

use std::fmt;

use crate::{
    config::documents::{Field, Item, Kind},
    printable::printable_text,
};

/// All mistakes of a file, each on a line.
#[derive(Debug)]
pub(super) struct Mistakes {
    file: String,
    list: Vec<String>,
}

/// The fields of a map that has only known keys.
pub(super) struct Fields<'n> {
    list: Vec<Field<'n>>,
    /// The position of the map, for missing fields.
    map: Item<'n>,
}

impl Mistakes {
    pub(super) fn new(file: &str) -> Self {
        Self { file: printable_text(file), list: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Adds lines that have their own positions.
    pub(super) fn add_text(&mut self, text: &str) {
        self.list.push(text.trim_end().to_owned());
    }

    /// Adds an error with the position of its cause. It may have several lines.
    pub(super) fn add_lines(&mut self, item: Item<'_>, error: &str) {
        let place = format!("{}:{}:{}", self.file, item.line, item.column);
        self.add_text(&format!("{place}: {error}"));
    }

    pub(super) fn add(&mut self, item: Item<'_>, message: &str) {
        self.add_at(item.line, item.column, message);
    }

    fn add_at(&mut self, line: u32, column: u32, message: &str) {
        let message = printable_text(message);
        self.list.push(format!("{}:{line}:{column}: {message}", self.file));
    }

    /// The fields of `item`, of which `keys` are allowed.
    pub(super) fn fields<'n>(
        &mut self,
        item: Item<'n>,
        what: &str,
        keys: &[&str],
    ) -> Option<Fields<'n>> {
        if item.kind() != Kind::Map {
            self.add(item, &format!("{what} is not a map, expected one with {}", keys.join(", ")));
            return None;
        }
        let list: Vec<Field<'n>> = item.fields().collect();
        for field in &list {
            if !keys.contains(&field.key) {
                let key = field.key;
                let expected = keys.join(", ");
                let message = format!("the key `{key}` is unknown in {what}, expected {expected}");
                self.add_at(field.line, field.column, &message);
            } else if field.value.kind() == Kind::Null {
                let message = format!("`{}` has no value, expected one", field.key);
                self.add_at(field.line, field.column, &message);
            }
        }
        Some(Fields { list, map: item })
    }

    /// The value of `key` as `parse` reads its text; `expected` is for the message.
    pub(super) fn parse<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let item = fields.get(key)?;
        let parsed = item.text().and_then(parse);
        if parsed.is_none() {
            let given = item.text().map_or("not a text".to_owned(), |text| format!("`{text}`"));
            self.add(item, &format!("`{key}` is {given}, expected {expected}"));
        }
        parsed
    }

    /// The elements of the list under `key`.
    pub(super) fn list<'n>(&mut self, fields: &Fields<'n>, key: &str) -> Vec<Item<'n>> {
        let Some(item) = fields.get(key) else { return Vec::new() };
        if item.kind() != Kind::List {
            self.add(item, &format!("`{key}` is not a list, expected one"));
        }
        item.list().collect()
    }

    /// The elements of the list under `key`, which has at least one.
    pub(super) fn filled_list<'n>(&mut self, fields: &Fields<'n>, key: &str) -> Vec<Item<'n>> {
        let list = self.list(fields, key);
        if let Some(item) = fields.get(key)
            && item.kind() == Kind::List
            && list.is_empty()
        {
            self.add(item, &format!("`{key}` is empty, expected at least one element"));
        }
        list
    }

    pub(super) fn require(&mut self, fields: &Fields<'_>, key: &str, what: &str) {
        if fields.get(key).is_none() {
            self.add(fields.map, &format!("{what} has no `{key}`"));
        }
    }
}

impl<'n> Fields<'n> {
    /// The value of `key`, unless it is missing or null.
    pub(super) fn get(&self, key: &str) -> Option<Item<'n>> {
        let field = self.list.iter().find(|field| field.key == key)?;
        if field.value.kind() == Kind::Null { None } else { Some(field.value) }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.list {
            writeln!(f, "{mistake}")?;
        }
        Ok(())
    }
}
