//! What callers say, as text that is fit to be recorded.

use std::fmt::{self, Write};

use crate::{
    descriptor::{Descriptor, Entry, Request},
    limit::Hits,
};

/// How much of what a caller says is recorded, in bytes.
pub(super) const LONGEST_TEXT: usize = 1_024;

/// Text that is cut where it becomes too long.
#[derive(Default)]
pub(super) struct Text(String);

impl Text {
    /// The text, with `…` where it was cut.
    pub(super) fn and(mut self, text: fmt::Arguments<'_>) -> String {
        if self.write_fmt(text).is_err() {
            self.0.push('…');
        }
        self.0
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LONGEST_TEXT - self.0.len();
        let part = &text[..text.floor_char_boundary(room)];
        self.0.push_str(part);
        if part.len() < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// A request, much like protobuf writes it for people.
pub(super) struct Shown<'a>(pub(super) &'a Request);

impl fmt::Display for Shown<'_> {
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
