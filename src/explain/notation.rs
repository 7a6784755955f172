//! Descriptors and limits as text of one line.

use crate::{
    descriptor::Entry,
    printable::is_unprintable,
    rules::spec::{LimitSpec, OnError},
};

/// The `key=value` pairs as on the command line.
pub fn descriptor(entries: &[Entry]) -> String {
    let mut text = String::new();
    for Entry { key, value } in entries {
        if !text.is_empty() {
            text.push(',');
        }
        text += &escape(key);
        text.push('=');
        text += &escape(value);
    }
    text
}

fn escape(bytes: &[u8]) -> String {
    printable(&String::from_utf8_lossy(bytes)).replace(',', "\\,")
}

/// Escapes the characters that could change the output of a terminal.
pub fn printable(text: &str) -> String {
    let mut printable = String::new();
    for char in text.chars() {
        if is_unprintable(char) {
            printable.extend(char.escape_default());
        } else {
            printable.push(char);
        }
    }
    printable
}

/// A limit with the keys that change its decisions.
pub fn limit_text(spec: &LimitSpec) -> String {
    let LimitSpec { limit, name, all_or_nothing, on_error } = spec;
    let mut text = limit.to_string();
    if limit.algorithm.info().burst && limit.capacity() != limit.requests {
        text += &format!(", burst {}", limit.capacity());
    }
    if !limit.penalty.is_zero() {
        text += &format!(", penalty {:?}", limit.penalty);
    }
    if *all_or_nothing {
        text += ", all or nothing";
    }
    if let Some(policy) = on_error {
        text += &format!(", on_error {}", OnError::name(*policy));
    }
    if !name.is_empty() {
        text += &format!(", name {}", printable(name));
    }
    text
}
