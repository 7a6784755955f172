//! Reads the `skip` of an `http`.

use super::{
    super::{
        excerpt::quote,
        keys::KeyContext,
        lint,
        source::Location,
        yaml::{Map, YamlNode, YamlValue},
    },
    reader::{SourceReader, expected_value, non_null},
};
use crate::mapping::{self, ConditionSpec, TextPattern};

const MOST_CONDITIONS: usize = 100;

const CONTEXT: KeyContext = KeyContext::Skip;

impl<'a> SourceReader<'a, '_> {
    pub(super) fn conditions(&mut self, http: &Map<'a>) -> Vec<ConditionSpec> {
        let mut conditions = Vec::new();
        let elements = self.list(http, KeyContext::Http, "skip");
        for node in elements.iter().take(MOST_CONDITIONS) {
            conditions.extend(self.condition(node).map(|condition| (condition, node.location)));
        }
        if let Some(node) = elements.get(MOST_CONDITIONS) {
            let message = format!("`skip` has more than {MOST_CONDITIONS} elements");
            self.sink.error(node.location, message);
        }
        lint::check_conditions(&conditions, self.sink);
        conditions.into_iter().map(|(condition, _)| condition).collect()
    }

    fn condition(&mut self, node: &YamlNode<'a>) -> Option<ConditionSpec> {
        let YamlValue::Map(map) = &node.value else {
            let expected = "a map with `method`, `path` or `host`";
            self.unexpected(node, "an element of `skip`", expected);
            return None;
        };
        let errors_before = self.sink.error_count();
        self.check_keys(map, CONTEXT);
        let condition = ConditionSpec {
            method: self.skipped_method(map),
            path: self.skipped_path(map),
            host: self.skipped_host(map),
        };
        if condition == ConditionSpec::default() && self.sink.error_count() == errors_before {
            let message = "this would skip every request, expected `method`, `path` or `host`";
            self.sink.error(node.location, message);
        }
        Some(condition)
    }

    fn skipped_method(&mut self, map: &Map<'a>) -> Option<TextPattern> {
        let (method, location) = self.skipped_text(map, "method")?;
        let upper_case = method.to_ascii_uppercase();
        if method == upper_case {
            lint::check_method(&method, location, self.sink);
        } else {
            let message = format!("the method {} is not in upper case", quote(&method));
            let help = format!("write {}", quote(&upper_case));
            self.sink.error_with_help(location, message, help);
        }
        Some(TextPattern { text: method, is_prefix: false })
    }

    fn skipped_path(&mut self, map: &Map<'a>) -> Option<TextPattern> {
        let (pattern, location) = self.text_pattern(map, "path")?;
        let text = &pattern.text;
        let normal =
            String::from_utf8_lossy(&mapping::normalize_path(text.as_bytes())).into_owned();
        if !text.starts_with('/') {
            let message = format!("the path {} matches no path", quote(text));
            self.sink.error_with_help(location, message, "begin it with `/`");
        } else if pattern.is_prefix {
            lint::check_path_prefix(&pattern, location, self.sink);
        } else if *text != normal {
            let message = format!("the path {} matches no normalized path", quote(text));
            let help = match text.split_once('?') {
                Some((path, _)) => {
                    format!("write {}, as the query is not part of the path", quote(path))
                }
                None => format!("write {}", quote(&normal)),
            };
            self.sink.error_with_help(location, message, help);
        }
        Some(pattern)
    }

    fn skipped_host(&mut self, map: &Map<'a>) -> Option<TextPattern> {
        let (pattern, location) = self.text_pattern(map, "host")?;
        let lower_case = pattern.text.to_ascii_lowercase();
        if pattern.text == lower_case {
            lint::check_host(&pattern, location, self.sink);
        } else {
            let message = format!("the host {} is not in lower case", quote(&pattern.text));
            let help = format!("write {}", quote(&lower_case));
            self.sink.error_with_help(location, message, help);
        }
        Some(pattern)
    }

    /// The pattern under `name` of an element of `skip`, with its location.
    fn text_pattern(&mut self, map: &Map<'a>, name: &str) -> Option<(TextPattern, Location)> {
        let (text, location) = self.skipped_text(map, name)?;
        let Some(pattern) = TextPattern::parse(&text) else {
            self.unexpected(
                &non_null(map, name)?.node,
                &format!("`{name}`"),
                expected_value(CONTEXT, name),
            );
            return None;
        };
        Some((pattern, location))
    }

    /// The text under `name`. An empty one is an error: the element would skip more without it.
    fn skipped_text(&mut self, map: &Map<'a>, name: &str) -> Option<(String, Location)> {
        let text = self.text(map, CONTEXT, name);
        let node = &non_null(map, name)?.node;
        if text.is_empty() {
            // A value of another kind has been reported.
            if self.is_text_or_absent(map, name) {
                let expected = expected_value(CONTEXT, name);
                self.unexpected(node, &format!("`{name}`"), expected);
            }
            return None;
        }
        Some((text, node.location))
    }
}
