//! Reads the values of keys, and checks that each is of the kind that the table
//! of keys expects.

use std::{ops::RangeInclusive, rc::Rc, time::Duration};

use super::super::{
    excerpt::quote,
    keys::{self, KeyContext},
    parsed::ParsedDomain,
    scalar::Plain,
    sink::DiagnosticSink,
    yaml::{Map, MapEntry, ScalarKind, YamlNode, YamlValue},
};
use crate::{duration, time_zones::TimeZones};

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Reads one source. Errors go to the sink, and reading continues with the next
/// key.
pub(super) struct SourceReader<'a, 'r> {
    pub(super) sink: &'r mut DiagnosticSink<'a>,
    /// The contents of the source so far.
    pub(super) domain: ParsedDomain,
    pub(super) time_zones: &'r TimeZones,
}

impl<'a> SourceReader<'a, '_> {
    /// The string under `name`; empty if it is absent, null or not a string,
    /// which is reported.
    pub(super) fn text(&mut self, map: &Map<'a>, context: KeyContext, name: &str) -> String {
        let Some(entry) = map.get(name) else { return String::new() };
        let text = self.text_of(&entry.node, name, expected_value(context, name));
        text.unwrap_or_default()
    }

    /// The string that `node` is; empty if it is null, `None` if it is not a
    /// string, which is reported. Unquoted whole numbers and flags are strings,
    /// too. Other numbers are not, since it is unclear how to write them.
    pub(super) fn text_of(
        &mut self,
        node: &YamlNode<'a>,
        name: &str,
        expected: &str,
    ) -> Option<String> {
        let YamlValue::Scalar(scalar) = &node.value else {
            self.unexpected(node, &format!("`{name}`"), expected);
            return None;
        };
        match node.plain() {
            Some(Plain::Null) => Some(String::new()),
            Some(Plain::Float(_)) => {
                let number = quote(&scalar.text);
                let message = format!("`{name}` is the number {number}, expected {expected}");
                let help = match scalar.text.len() {
                    0..40 => format!("quote it: '{}'", scalar.text),
                    _ => "quote it".into(),
                };
                self.sink.error_with_help(node.location, message, help);
                None
            }
            _ => Some(scalar.text.to_string()),
        }
    }

    /// True if there is no value under `name`, or one that [`Self::text_of`]
    /// accepts: then no error has been reported yet.
    pub(super) fn is_text_or_absent(&self, map: &Map<'a>, name: &str) -> bool {
        let Some(entry) = map.get(name) else { return true };
        let is_scalar = matches!(entry.node.value, YamlValue::Scalar(_));
        is_scalar && !matches!(entry.node.plain(), Some(Plain::Float(_)))
    }

    /// The flag under `name`; false by default.
    pub(super) fn flag(&mut self, map: &Map<'a>, context: KeyContext, name: &str) -> bool {
        self.optional_flag(map, context, name).unwrap_or(false)
    }

    /// The flag under `name`; `None` if it is absent, null or not a flag, which
    /// is reported.
    pub(super) fn optional_flag(
        &mut self,
        map: &Map<'a>,
        context: KeyContext,
        name: &str,
    ) -> Option<bool> {
        let node = &non_null(map, name)?.node;
        if let Some(Plain::Bool(flag)) = node.plain() {
            return Some(flag);
        }
        self.unexpected(node, &format!("`{name}`"), expected_value(context, name));
        None
    }

    pub(super) fn map<'m>(
        &mut self,
        map: &'m Map<'a>,
        context: KeyContext,
        name: &str,
    ) -> Option<&'m Map<'a>> {
        let node = &non_null(map, name)?.node;
        if let YamlValue::Map(map) = &node.value {
            return Some(map);
        }
        self.unexpected(node, &format!("`{name}`"), expected_value(context, name));
        None
    }

    pub(super) fn list(
        &mut self,
        map: &Map<'a>,
        context: KeyContext,
        name: &str,
    ) -> Vec<Rc<YamlNode<'a>>> {
        let Some(entry) = non_null(map, name) else { return Vec::new() };
        if let YamlValue::List(list) = &entry.node.value {
            return list.clone();
        }
        self.unexpected(&entry.node, &format!("`{name}`"), expected_value(context, name));
        Vec::new()
    }

    /// The whole number under `name`; `None` if it is absent, null or not in
    /// `range`, which is reported.
    pub(super) fn number(
        &mut self,
        map: &Map<'a>,
        context: KeyContext,
        name: &str,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let node = &non_null(map, name)?.node;
        if let Some(Plain::Int(number)) = node.plain()
            && let Ok(number) = u32::try_from(number)
            && range.contains(&number)
        {
            return Some(number);
        }
        self.unexpected(node, &format!("`{name}`"), expected_value(context, name));
        None
    }

    /// The duration under `name` of a limit; `None` if it is absent, null, not
    /// in `range` or not a multiple of `resolution`, which is reported.
    pub(super) fn duration(
        &mut self,
        map: &Map<'a>,
        name: &str,
        range: RangeInclusive<Duration>,
        resolution: Duration,
    ) -> Option<Duration> {
        let node = &non_null(map, name)?.node;
        if let YamlValue::Scalar(scalar) = &node.value
            && let Some(duration) = duration::parse(&scalar.text)
            && range.contains(&duration)
            && duration.as_nanos().is_multiple_of(resolution.as_nanos())
        {
            return Some(duration);
        }
        self.unexpected(node, &format!("`{name}`"), expected_value(KeyContext::RateLimit, name));
        None
    }

    /// The value that belongs to the word under `name` of a limit; `None` if
    /// the word is absent, null or not one of `choices`, which is reported.
    pub(super) fn choice<T: Copy>(
        &mut self,
        map: &Map<'a>,
        name: &str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let node = &non_null(map, name)?.node;
        let text = match &node.value {
            YamlValue::Scalar(scalar) => &scalar.text,
            YamlValue::List(_) | YamlValue::Map(_) => "",
        };
        let mut words = Vec::with_capacity(choices.len());
        for (word, value) in choices {
            if *word == text {
                return Some(*value);
            }
            words.push(*word);
        }
        let expected = expected_value(KeyContext::RateLimit, name);
        let message = format!("`{name}` is {}, expected {expected}", node.describe());
        let help = keys::nearest(text, &words).map(|word| format!("did you mean `{word}`?"));
        self.sink.push_error(node.location, message, help);
        None
    }

    /// Reports that `node`, which the message calls `name`, is not the expected
    /// value.
    pub(super) fn unexpected(&mut self, node: &YamlNode<'a>, name: &str, expected: &str) {
        let message = format!("{name} is {}, expected {expected}", node.describe());
        let is_quoted = matches!(
            &node.value,
            YamlValue::Scalar(scalar) if scalar.kind == ScalarKind::Text
        );
        let expects_plain = expected.starts_with("a whole number") || expected.starts_with('`');
        if is_quoted && expects_plain {
            self.sink.error_with_help(node.location, message, "remove the quotes");
        } else {
            self.sink.error(node.location, message);
        }
    }

    /// Reports keys that are not allowed in `context`.
    pub(super) fn check_keys(&mut self, map: &Map<'a>, context: KeyContext) {
        for (name, entry) in map {
            if keys::find(context, name).is_some() {
                continue;
            }
            let quoted = quote(name);
            let message = if keys::is_known(name) {
                format!("the key {quoted} does not belong here")
            } else {
                format!("the key {quoted} is unknown")
            };
            self.sink.error_with_help(entry.key_location, message, keys::hint(context, name));
        }
    }
}

/// True if a key of `map` is reported as a misspelling of `name`, so that its absence need
/// not be reported, too.
pub(super) fn is_misspelt(map: &Map<'_>, context: KeyContext, name: &str) -> bool {
    map.keys().any(|key| keys::misspelt(context, key) == Some(name))
}

/// The entry under `name`, unless its value is null.
pub(super) fn non_null<'m, 'a>(map: &'m Map<'a>, name: &str) -> Option<&'m MapEntry<'a>> {
    map.get(name).filter(|entry| !entry.node.is_null())
}

/// The allowed values of a key, to follow "expected".
pub(super) fn expected_value(context: KeyContext, name: &str) -> &'static str {
    match keys::find(context, name) {
        Some(key) => key.expects,
        None => "another value",
    }
}
