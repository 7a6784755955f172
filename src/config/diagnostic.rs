//! Errors and warnings about rule files, and how they are displayed.

use std::{error::Error, fmt};

use super::excerpt::Excerpt;
use crate::printable::printable_text;

/// The effect of a problem on the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The rules cannot be used.
    Error,
    /// The rules can be used, but a part of them has no effect.
    Warning,
}

/// One error or warning.
///
/// Its display is one line, `file:line:column: message` or
/// `name: path: message`. [`snippet`](Self::snippet) also shows the line of the
/// file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The effect on the rules.
    pub severity: Severity,
    /// The name of the file or tree.
    pub file: String,
    /// The position in the file or tree.
    pub position: Position,
    /// The problem, followed by the expected value if there is one.
    pub message: String,
    /// The message without text of the file, if it differs from `message`.
    pub(super) public_message: Option<String>,
    /// A proposal for a correction.
    pub help: Option<String>,
    /// The line of the file. Empty for a tree.
    pub(super) excerpt: Excerpt,
}

/// The position of a diagnostic in its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// A position in a file.
    Line {
        /// The line number, from 1.
        line: u32,
        /// The column in characters, from 1.
        column: u32,
    },
    /// The path of a value in a tree, such as `descriptors[0].key`; empty for
    /// the root.
    Path(String),
}

impl Diagnostic {
    /// Displays the diagnostic over several lines, with the line of the file.
    pub fn snippet(&self) -> Snippet<'_> {
        Snippet(self)
    }

    /// Displays the diagnostic on one line, without text of the file except the
    /// keys in a path: the file may not be meant for everyone that sees its errors.
    pub fn public(&self) -> PublicDiagnostic<'_> {
        PublicDiagnostic(self)
    }

    fn write_line(&self, f: &mut fmt::Formatter<'_>, message: &str) -> fmt::Result {
        let file = printable_text(&self.file);
        match &self.position {
            Position::Line { line, column } => write!(f, "{file}:{line}:{column}: {message}")?,
            Position::Path(path) if path.is_empty() => write!(f, "{file}: {message}")?,
            Position::Path(path) => write!(f, "{file}: {path}: {message}")?,
        }
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_line(f, &self.message)
    }
}

/// The display of a [`Diagnostic`] without text of its file.
#[derive(Clone, Copy, Debug)]
pub struct PublicDiagnostic<'a>(&'a Diagnostic);

impl fmt::Display for PublicDiagnostic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnostic { message, public_message, .. } = self.0;
        self.0.write_line(f, public_message.as_ref().unwrap_or(message))
    }
}

/// The display of a [`Diagnostic`] over several lines, in the style of a
/// compiler.
#[derive(Clone, Copy, Debug)]
pub struct Snippet<'a>(&'a Diagnostic);

impl Snippet<'_> {
    fn write_path(&self, f: &mut fmt::Formatter<'_>, path: &str) -> fmt::Result {
        writeln!(f, " --> {}: {path}", printable_text(&self.0.file))?;
        if let Some(help) = &self.0.help {
            writeln!(f, "  = help: {help}")?;
        }
        Ok(())
    }

    fn write_line(&self, f: &mut fmt::Formatter<'_>, line: u32, column: u32) -> fmt::Result {
        let Diagnostic { file, help, excerpt, .. } = self.0;
        let file = printable_text(file);
        let margin = line.to_string().len();
        writeln!(f, "{:margin$}--> {file}:{line}:{column}", "")?;
        writeln!(f, "{:margin$} |", "")?;
        writeln!(f, "{line} | {}", excerpt.text.trim_end())?;
        let (indent, width) = (excerpt.indent, excerpt.width);
        writeln!(f, "{:margin$} | {:indent$}{:^<width$}", "", "", "")?;
        if let Some(help) = help {
            writeln!(f, "{:margin$} = help: {help}", "")?;
        }
        Ok(())
    }
}

impl fmt::Display for Snippet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnostic { severity, position, message, .. } = self.0;
        let severity = match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{severity}: {message}")?;
        match position {
            Position::Line { line, column } => self.write_line(f, *line, *column),
            Position::Path(path) => self.write_path(f, path),
        }
    }
}

/// All errors of one compilation, in the order of the sources. Never empty.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    /// Never empty.
    list: Vec<Diagnostic>,
    /// The number of errors that are counted but not listed.
    unlisted: usize,
}

impl Diagnostics {
    /// The number of errors that the display shows; more are only counted.
    pub const MAX_SHOWN: usize = 100;

    /// `list` must not be empty.
    pub(super) fn new(list: Vec<Diagnostic>, unlisted: usize) -> Self {
        Self { list, unlisted }
    }

    /// The first error in the order of the sources.
    pub fn first(&self) -> &Diagnostic {
        &self.list[0]
    }

    /// The first 10,000 errors, in the order of the sources.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// The number of errors, which may be more than [`Self::iter`] yields.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.list.len() + self.unlisted
    }

    /// One line for each of the first errors, without text of their files, and the
    /// number of the others.
    pub fn public(&self) -> String {
        let mut lines = Vec::new();
        for diagnostic in self.list.iter().take(Self::MAX_SHOWN) {
            lines.push(diagnostic.public().to_string());
        }
        let more = self.len().saturating_sub(Self::MAX_SHOWN);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        lines.join("\n")
    }
}

impl fmt::Display for Diagnostics {
    /// Writes snippets with an empty line between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.list.iter().take(Self::MAX_SHOWN).enumerate() {
            let gap = if index == 0 { "" } else { "\n" };
            write!(f, "{gap}{}", diagnostic.snippet())?;
        }
        match self.len().saturating_sub(Self::MAX_SHOWN) {
            0 => Ok(()),
            more => writeln!(f, "\nand {more} more"),
        }
    }
}

impl Error for Diagnostics {}
