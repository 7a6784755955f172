//! Collects errors and warnings, and gives each its position in the sources.

use super::{
    diagnostic::{Diagnostic, Diagnostics, Position, Severity},
    excerpt::{Excerpt, with_quotes, without_quotes},
    source::{Location, PathSegment, SourceFile, SourceTree, Sources},
};
use crate::printable::printable_text;

/// The maximum number of errors, and of warnings, that are kept. More are only
/// counted.
const MAX_KEPT: usize = 10_000;

/// Collects the errors and warnings of one compilation.
#[derive(Debug)]
pub(super) struct DiagnosticSink<'a> {
    locator: Locator<'a>,
    errors: Collected,
    warnings: Collected,
}

/// Finds the file name, the position and the line of a [`Location`].
#[derive(Debug)]
struct Locator<'a> {
    sources: Sources<'a>,
    /// Every value of the trees that has a location. `Location::line` is an
    /// index into this list. Element 0 stands for the root of each tree.
    tree_nodes: Vec<TreeNode<'a>>,
}

#[derive(Debug)]
struct TreeNode<'a> {
    /// The index of the list or map that contains the value.
    parent: u32,
    segment: PathSegment<'a>,
}

impl Locator<'_> {
    fn name(&self, location: Location) -> &str {
        match self.sources {
            Sources::Files(files) => &files[location.source].name,
            Sources::Trees(trees) => &trees[location.source].name,
        }
    }

    fn position(&self, location: Location) -> Position {
        let Location { line, column, .. } = location;
        match self.sources {
            Sources::Files(_) => Position::Line { line, column },
            Sources::Trees(_) => Position::Path(self.path(line)),
        }
    }

    fn path(&self, mut value: u32) -> String {
        let mut segments = Vec::new();
        while value != 0
            && let Some(found) = self.tree_nodes.get(value as usize)
        {
            segments.push(found.segment);
            value = found.parent;
        }
        let mut path = String::new();
        while let Some(segment) = segments.pop() {
            match segment {
                PathSegment::Index(index) => path += &format!("[{index}]"),
                PathSegment::Key(key) if path.is_empty() => path += key,
                PathSegment::Key(key) => path += &format!(".{key}"),
            }
        }
        printable_text(&path)
    }

    fn excerpt(&self, location: Location) -> Excerpt {
        let (start, end) = (location.start as usize, location.end as usize);
        match self.sources {
            Sources::Files(files) => Excerpt::new(&files[location.source].bytes, start, end),
            Sources::Trees(_) => Excerpt::default(),
        }
    }

    fn diagnostic(&self, severity: Severity, problem: RawDiagnostic) -> Diagnostic {
        let RawDiagnostic { location, message, help } = problem;
        Diagnostic {
            severity,
            file: self.name(location).to_owned(),
            position: self.position(location),
            message: with_quotes(&message),
            public_message: without_quotes(&message),
            help: help.map(|help| with_quotes(&help)),
            excerpt: self.excerpt(location),
        }
    }
}

/// An error or warning before its position is known. The order is the order in
/// which they are reported.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RawDiagnostic {
    location: Location,
    message: String,
    help: Option<String>,
}

#[derive(Debug, Default)]
struct Collected {
    list: Vec<RawDiagnostic>,
    /// The number of problems beyond [`MAX_KEPT`].
    unlisted: usize,
}

impl Collected {
    fn push(&mut self, problem: RawDiagnostic) {
        if self.list.len() < MAX_KEPT {
            self.list.push(problem);
        } else {
            self.unlisted += 1;
        }
    }

    fn into_diagnostics(mut self, locator: &Locator<'_>, severity: Severity) -> Vec<Diagnostic> {
        self.list.sort();
        // An error in an anchored node is found again at each alias of it.
        self.list.dedup();
        let mut diagnostics = Vec::with_capacity(self.list.len());
        for problem in self.list {
            diagnostics.push(locator.diagnostic(severity, problem));
        }
        diagnostics
    }
}

impl<'a> DiagnosticSink<'a> {
    pub(super) fn new(sources: Sources<'a>) -> Self {
        let root = TreeNode { parent: 0, segment: PathSegment::Index(0) };
        Self {
            locator: Locator { sources, tree_nodes: vec![root] },
            errors: Collected::default(),
            warnings: Collected::default(),
        }
    }

    /// The file with this index, if the sources are files.
    pub(super) fn file(&self, index: usize) -> Option<&'a SourceFile> {
        match self.locator.sources {
            Sources::Files(files) => files.get(index),
            Sources::Trees(_) => None,
        }
    }

    /// The tree with this index, if the sources are trees.
    pub(super) fn tree(&self, index: usize) -> Option<&'a SourceTree> {
        match self.locator.sources {
            Sources::Files(_) => None,
            Sources::Trees(trees) => trees.get(index),
        }
    }

    /// The location of the first byte of a file, or of the root of a tree.
    pub(super) fn start_of(&self, source: usize) -> Location {
        match self.locator.sources {
            Sources::Files(_) => Location { source, line: 1, column: 1, start: 0, end: 0 },
            Sources::Trees(_) => Location { source, ..Location::default() },
        }
    }

    /// Makes a location for the value that `segment` selects in the list or map
    /// at `parent`.
    pub(super) fn child(&mut self, parent: Location, segment: PathSegment<'a>) -> Location {
        let values = &mut self.locator.tree_nodes;
        let index = u32::try_from(values.len()).unwrap_or(u32::MAX);
        values.push(TreeNode { parent: parent.line, segment });
        Location { line: index, ..parent }
    }

    pub(super) fn error(&mut self, location: Location, message: impl Into<String>) {
        self.push_error(location, message.into(), None);
    }

    pub(super) fn error_with_help(
        &mut self,
        location: Location,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push_error(location, message.into(), Some(help.into()));
    }

    pub(super) fn push_error(&mut self, location: Location, message: String, help: Option<String>) {
        self.errors.push(RawDiagnostic { location, message, help });
    }

    pub(super) fn warning(&mut self, location: Location, message: impl Into<String>) {
        self.warnings.push(RawDiagnostic { location, message: message.into(), help: None });
    }

    pub(super) fn warning_with_help(
        &mut self,
        location: Location,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let help = Some(help.into());
        self.warnings.push(RawDiagnostic { location, message: message.into(), help });
    }

    /// The number of errors so far.
    pub(super) fn error_count(&self) -> usize {
        self.errors.list.len() + self.errors.unlisted
    }

    /// Writes `location` as `file:line` or `tree: path`, for use in a message.
    pub(super) fn describe(&self, location: Location) -> String {
        let name = self.locator.name(location);
        match self.locator.position(location) {
            Position::Line { line, .. } => format!("{name}:{line}"),
            Position::Path(path) => format!("{name}: {path}"),
        }
    }

    /// Returns the warnings if there were no errors, otherwise the errors.
    pub(super) fn finish(self) -> Result<Vec<Diagnostic>, Diagnostics> {
        let unlisted = self.errors.unlisted;
        let errors = self.errors.into_diagnostics(&self.locator, Severity::Error);
        if errors.is_empty() {
            return Ok(self.warnings.into_diagnostics(&self.locator, Severity::Warning));
        }
        Err(Diagnostics::new(errors, unlisted))
    }
}
