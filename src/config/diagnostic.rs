//! What is wrong with a rule file, and how it is shown.

use std::{error::Error, fmt};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The rules cannot be used.
    Error,
    /// The rules can be used, but part of them has no effect.
    Warning,
}

/// One thing that is wrong.
///
/// It is displayed on one line, `file:line:column: message` or
/// `name: path: message`; its [`snippet`](Self::snippet) also shows the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The name of the file, or of what stands for one.
    pub file: String,
    /// Where in it.
    pub position: Position,
    /// What is, and what was expected.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The line it is on.
    pub(super) source: Source,
}

/// Where a mistake is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// In a file.
    Line {
        /// From 1.
        line: u32,
        /// In characters, from 1.
        column: u32,
    },
    /// In a tree: what leads there, such as `descriptors[0].key`; empty for the
    /// whole.
    Path(String),
}

/// Part of a line of a file, fit to be printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) text: String,
    /// How many characters stand before the place.
    pub(super) before: usize,
    /// How many characters are meant; at least one.
    pub(super) width: usize,
}

impl Source {
    /// How much is shown on either side of the beginning of a place, in bytes.
    const MARGIN: usize = 100;

    /// The surroundings of `start..end` in `text`, all on the line of `start`.
    pub(super) fn cut(text: &str, start: usize, end: usize) -> Self {
        let start = text.floor_char_boundary(start);
        let is_break = |it: char| it == '\n' || it == '\r';
        let before = &text[text.ceil_char_boundary(start.saturating_sub(Self::MARGIN))..start];
        let before = before.rsplit(is_break).next().unwrap_or_default();
        let after = &text[start..text.floor_char_boundary(start + Self::MARGIN)];
        let after = after.split(is_break).next().unwrap_or_default();
        let meant = &after[..after.floor_char_boundary(end.saturating_sub(start))];
        Self {
            text: before.chars().chain(after.chars()).map(printable).collect(),
            before: before.chars().count(),
            width: meant.trim_end().chars().count().max(1),
        }
    }
}

/// One character that takes one column, so that the caret stays below its
/// place and no file can command a terminal.
pub fn printable(it: char) -> char {
    match it {
        '\t' => ' ',
        '\u{feff}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        it if it.is_control() => '\u{fffd}',
        it => it,
    }
}

impl Diagnostic {
    /// The mistake with the line it is on, over several lines.
    pub fn snippet(&self) -> Snippet<'_> {
        Snippet(self)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, position, message, .. } = self;
        match position {
            Position::Line { line, column } => write!(f, "{file}:{line}:{column}: {message}")?,
            Position::Path(path) if path.is_empty() => write!(f, "{file}: {message}")?,
            Position::Path(path) => write!(f, "{file}: {path}: {message}")?,
        }
        self.help.iter().try_for_each(|it| write!(f, " ({it})"))
    }
}

/// A [`Diagnostic`] that is displayed with the line it is on.
#[derive(Clone, Copy, Debug)]
pub struct Snippet<'a>(&'a Diagnostic);

impl fmt::Display for Snippet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnostic { severity, file, position, message, help, source } = self.0;
        let kind = match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{kind}: {message}")?;
        let (line, column) = match position {
            Position::Line { line, column } => (line, column),
            Position::Path(path) => {
                writeln!(f, " --> {file}: {path}")?;
                return help.iter().try_for_each(|it| writeln!(f, "  = help: {it}"));
            }
        };
        let margin = line.to_string().len();
        writeln!(f, "{:margin$}--> {file}:{line}:{column}", "")?;
        writeln!(f, "{:margin$} |", "")?;
        writeln!(f, "{line} | {}", source.text.trim_end())?;
        writeln!(
            f,
            "{:margin$} | {:before$}{:^<width$}",
            "",
            "",
            "",
            before = source.before,
            width = source.width
        )?;
        help.iter().try_for_each(|it| writeln!(f, "{:margin$} = help: {it}", ""))
    }
}

/// Everything that is wrong with a set of rule files, in their order. Never
/// empty.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    /// Never empty.
    list: Vec<Diagnostic>,
    /// How many more there are.
    more: usize,
}

impl Diagnostics {
    /// How many are written out.
    pub const MAX_SHOWN: usize = 100;

    /// `list`, which is not empty, and so many more.
    pub(super) fn new(list: Vec<Diagnostic>, more: usize) -> Self {
        Self { list, more }
    }

    /// The first of them.
    pub fn first(&self) -> &Diagnostic {
        &self.list[0]
    }

    /// Those that are known in detail, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.list.len() + self.more
    }
}

impl fmt::Display for Diagnostics {
    /// Snippets, with an empty line between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, it) in self.list.iter().take(Self::MAX_SHOWN).enumerate() {
            let gap = if index == 0 { "" } else { "\n" };
            write!(f, "{gap}{}", it.snippet())?;
        }
        match self.len().saturating_sub(Self::MAX_SHOWN) {
            0 => Ok(()),
            more => writeln!(f, "\nand {more} more"),
        }
    }
}

impl Error for Diagnostics {}
