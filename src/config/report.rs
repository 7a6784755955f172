//! Collects what is wrong, with its place.

use super::{
    SourceFile,
    mistake::{Mistake, Mistakes, Severity, Source, printable},
};

/// How many mistakes and warnings are kept; more are only counted.
const KEPT: usize = 10_000;

/// A stretch of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The position of the file in the set.
    pub(super) file: usize,
    /// From 1.
    pub(super) line: u32,
    /// In characters, from 1.
    pub(super) column: u32,
    /// The first byte, and the one behind the last.
    pub(super) bytes: (u32, u32),
}

impl Place {
    /// The beginning of `file`.
    pub(super) fn top(file: usize) -> Self {
        Self { file, line: 1, column: 1, bytes: (0, 0) }
    }
}

/// What was found so far.
#[derive(Debug)]
pub(super) struct Report<'a> {
    files: &'a [SourceFile],
    mistakes: Findings,
    warnings: Findings,
}

#[derive(Debug, Default)]
struct Findings {
    list: Vec<(Place, String, Option<String>)>,
    more: usize,
}

impl Findings {
    fn push(&mut self, place: Place, message: String, help: Option<String>) {
        if self.list.len() < KEPT {
            self.list.push((place, message, help));
        } else {
            self.more += 1;
        }
    }

    fn finish(mut self, files: &[SourceFile], severity: Severity) -> (Vec<Mistake>, usize) {
        self.list.sort();
        // What an alias repeats is wrong in one place.
        self.list.dedup();
        let list = self.list.into_iter().map(|(place, message, help)| Mistake {
            severity,
            file: files[place.file].name.clone(),
            line: place.line,
            column: place.column,
            message,
            help,
            source: source(&files[place.file].bytes, place),
        });
        (list.collect(), self.more)
    }
}

/// The line of `place`, also where the file is not UTF-8 in another place.
fn source(bytes: &[u8], place: Place) -> Source {
    let (start, end) = (place.bytes.0 as usize, place.bytes.1 as usize);
    let from = start.saturating_sub(200).min(bytes.len());
    let to = (start + 200).min(bytes.len());
    let before = String::from_utf8_lossy(&bytes[from..start.min(to)]);
    let after = String::from_utf8_lossy(&bytes[start.min(to)..to]);
    let start = before.len();
    let end = start + (end.saturating_sub(place.bytes.0 as usize));
    Source::cut(&(before + after), start, end)
}

impl<'a> Report<'a> {
    pub(super) fn new(files: &'a [SourceFile]) -> Self {
        Self { files, mistakes: Findings::default(), warnings: Findings::default() }
    }

    pub(super) fn file(&self, index: usize) -> &'a SourceFile {
        &self.files[index]
    }

    pub(super) fn mistake(
        &mut self,
        place: Place,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.mistakes.push(place, message.into(), help);
    }

    pub(super) fn warning(&mut self, place: Place, message: impl Into<String>) {
        self.warnings.push(place, message.into(), None);
    }

    /// How many mistakes there are so far.
    pub(super) fn mistakes(&self) -> usize {
        self.mistakes.list.len() + self.mistakes.more
    }

    /// `place` as `file:line`.
    pub(super) fn place(&self, place: Place) -> String {
        format!("{}:{}", self.files[place.file].name, place.line)
    }

    /// The warnings, if there are no mistakes.
    pub(super) fn finish(self) -> Result<Vec<Mistake>, Mistakes> {
        let (mistakes, more) = self.mistakes.finish(self.files, Severity::Error);
        if mistakes.is_empty() {
            return Ok(self.warnings.finish(self.files, Severity::Warning).0);
        }
        Err(Mistakes::new(mistakes, more))
    }
}

/// A text of a file for a message: short, and without control characters.
pub(super) fn quote(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut short: String = text.chars().take(LONGEST).map(printable).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}
