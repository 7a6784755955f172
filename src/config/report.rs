//! Collects what is wrong, with its place.

use super::{
    SourceFile, SourceTree,
    diagnostic::{Diagnostic, Diagnostics, Position, Severity, Source, printable},
    tree::Step,
};

/// How many mistakes and warnings are kept; more are only counted.
const KEPT: usize = 10_000;

/// A stretch of a file, or a value in a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The position of the source in the set.
    pub(super) file: usize,
    /// From 1. In a tree, the number of its last step among all that are known;
    /// 0 for the root.
    pub(super) line: u32,
    /// In characters, from 1. In a tree, 0.
    pub(super) column: u32,
    /// The first byte, and the one behind the last.
    pub(super) bytes: (u32, u32),
}

/// What rules are compiled from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sources<'a> {
    Files(&'a [SourceFile]),
    Trees(&'a [SourceTree]),
}

/// What was found so far.
#[derive(Debug)]
pub(super) struct Report<'a> {
    origins: Origins<'a>,
    mistakes: Findings,
    warnings: Findings,
}

/// Tells where a place is.
#[derive(Debug)]
struct Origins<'a> {
    sources: Sources<'a>,
    /// All steps into trees, each with the number of the one before it. The
    /// first is none: it stands for every root.
    steps: Vec<(u32, Step<'a>)>,
}

impl Origins<'_> {
    fn name(&self, place: Place) -> &str {
        match self.sources {
            Sources::Files(files) => &files[place.file].name,
            Sources::Trees(trees) => &trees[place.file].name,
        }
    }

    fn position(&self, place: Place) -> Position {
        let Place { line, column, .. } = place;
        match self.sources {
            Sources::Files(_) => Position::Line { line, column },
            Sources::Trees(_) => Position::Path(self.path(line)),
        }
    }

    fn path(&self, mut at: u32) -> String {
        let mut steps = Vec::new();
        while let Some(&(before, step)) = self.steps.get(at as usize).filter(|_| 0 < at) {
            steps.push(step);
            at = before;
        }
        let mut path = String::new();
        for step in steps.into_iter().rev() {
            match step {
                Step::Index(at) => path += &format!("[{at}]"),
                Step::Key(key) if path.is_empty() => path += key,
                Step::Key(key) => path += &format!(".{key}"),
            }
        }
        path.chars().map(printable).collect()
    }

    fn source(&self, place: Place) -> Source {
        match self.sources {
            Sources::Files(files) => source(&files[place.file].bytes, place),
            Sources::Trees(_) => Source::default(),
        }
    }
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

    fn finish(mut self, origins: &Origins<'_>, severity: Severity) -> (Vec<Diagnostic>, usize) {
        self.list.sort();
        // What an alias repeats is wrong in one place.
        self.list.dedup();
        let list = self.list.into_iter().map(|(place, message, help)| Diagnostic {
            severity,
            file: origins.name(place).to_owned(),
            position: origins.position(place),
            message,
            help,
            source: origins.source(place),
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
    pub(super) fn new(sources: Sources<'a>) -> Self {
        let origins = Origins { sources, steps: vec![(0, Step::Index(0))] };
        Self { origins, mistakes: Findings::default(), warnings: Findings::default() }
    }

    pub(super) fn file(&self, index: usize) -> Option<&'a SourceFile> {
        match self.origins.sources {
            Sources::Files(files) => files.get(index),
            Sources::Trees(_) => None,
        }
    }

    pub(super) fn tree(&self, index: usize) -> Option<&'a SourceTree> {
        match self.origins.sources {
            Sources::Files(_) => None,
            Sources::Trees(trees) => trees.get(index),
        }
    }

    /// The beginning of the source at `index`.
    pub(super) fn top(&self, index: usize) -> Place {
        match self.origins.sources {
            Sources::Files(_) => Place { file: index, line: 1, column: 1, bytes: (0, 0) },
            Sources::Trees(_) => Place { file: index, ..Place::default() },
        }
    }

    /// The place that `step` leads to from `place`.
    pub(super) fn step(&mut self, place: Place, step: Step<'a>) -> Place {
        let number = u32::try_from(self.origins.steps.len()).unwrap_or(u32::MAX);
        self.origins.steps.push((place.line, step));
        Place { line: number, ..place }
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

    /// `place` as `file:line`, or as `tree: path`.
    pub(super) fn place(&self, place: Place) -> String {
        let name = self.origins.name(place);
        match self.origins.position(place) {
            Position::Line { line, .. } => format!("{name}:{line}"),
            Position::Path(path) => format!("{name}: {path}"),
        }
    }

    /// The warnings, if there are no mistakes.
    pub(super) fn finish(self) -> Result<Vec<Diagnostic>, Diagnostics> {
        let (mistakes, more) = self.mistakes.finish(&self.origins, Severity::Error);
        if mistakes.is_empty() {
            return Ok(self.warnings.finish(&self.origins, Severity::Warning).0);
        }
        Err(Diagnostics::new(mistakes, more))
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
