//! The text of requests in span attributes.

use std::fmt::{self, Write};

use opentelemetry::KeyValue;

use crate::{
    descriptor::{Descriptor, Entry, Request},
    limit::Hits,
};

/// The largest text that is recorded, in bytes, without the `…` of truncated text.
pub(super) const MAX_TEXT_BYTES: usize = 1_024;

/// Formats `text`, and cuts it at [`MAX_TEXT_BYTES`] with a `…`. Formatting stops there.
pub(super) fn truncated(text: fmt::Arguments<'_>) -> String {
    let mut truncated = Truncated(String::new());
    if truncated.write_fmt(text).is_err() {
        truncated.0.push('…');
    }
    truncated.0
}

struct Truncated(String);

impl Write for Truncated {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_TEXT_BYTES - self.0.len();
        let part = &text[..text.floor_char_boundary(room)];
        self.0.push_str(part);
        if part.len() < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// A request in a form like protobuf's text format.
pub(super) struct RequestText<'a>(pub(super) &'a Request);

impl fmt::Display for RequestText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { domain, descriptors, .. } = self.0;
        write!(f, "domain:\"{}\"", domain.escape_ascii())?;
        for Descriptor { entries, hits, limit, .. } in descriptors {
            f.write_str(" descriptors:{")?;
            for Entry { key, value } in entries {
                let (key, value) = (key.escape_ascii(), value.escape_ascii());
                write!(f, "entries:{{key:\"{key}\" value:\"{value}\"}} ")?;
            }
            if let Some(limit) = limit {
                write!(f, "limit:\"{limit}\" ")?;
            }
            match hits {
                Hits::Add(hits) => write!(f, "hits:{hits}}}")?,
                Hits::Refund(hits) => write!(f, "hits:-{hits}}}")?,
            }
        }
        Ok(())
    }
}

/// An integer attribute. A number beyond `i64` becomes the largest `i64`.
pub(super) fn integer(key: &'static str, number: impl TryInto<i64>) -> KeyValue {
    KeyValue::new(key, number.try_into().unwrap_or(i64::MAX))
}
