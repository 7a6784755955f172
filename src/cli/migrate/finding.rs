//! What is found, and how it is shown.

use std::{
    fmt,
    io::{self, Write},
};

use super::environment::Environment;
use crate::config;

/// How much something matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grade {
    /// tollgate ends at once, or never becomes ready.
    WillNotStart,
    /// Something is not as it was.
    Differs,
    /// Nothing is known to differ, but somebody should look.
    Note,
    /// Nothing that matters to a caller changes.
    Same,
}

impl Grade {
    const ALL: [Self; 4] = [Self::WillNotStart, Self::Differs, Self::Note, Self::Same];
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WillNotStart => "will not start",
            Self::Differs => "differs",
            Self::Note => "note",
            Self::Same => "same",
        })
    }
}

/// One thing that was compared. What is empty is not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) grade: Grade,
    pub(super) title: String,
    /// The variable that it is about.
    pub(super) variable: String,
    /// `file:line`, or the file.
    pub(super) place: String,
    /// The lines of the file that are meant, in place of `place`.
    pub(super) snippet: String,
    /// What Envoy's reference service does.
    pub(super) there: String,
    /// What tollgate does.
    pub(super) here: String,
    /// What to do about it.
    pub(super) remedy: String,
}

impl Finding {
    pub(super) fn new(grade: Grade, title: impl Into<String>) -> Self {
        Self {
            grade,
            title: title.into(),
            variable: String::new(),
            place: String::new(),
            snippet: String::new(),
            there: String::new(),
            here: String::new(),
            remedy: String::new(),
        }
    }

    pub(super) fn at(self, place: impl Into<String>) -> Self {
        Self { place: place.into(), ..self }
    }

    /// That it is about a variable of `environment`.
    pub(super) fn of(self, environment: &Environment, variable: &str) -> Self {
        Self { variable: variable.to_owned(), place: environment.place(variable), ..self }
    }

    /// That it holds only if the variables called `names` are not set to something
    /// else where that cannot be seen.
    pub(super) fn unless(self, environment: &Environment, names: &[&str]) -> Self {
        let Some(source) = environment.doubt(names) else { return self };
        let grade = match self.grade {
            Grade::WillNotStart | Grade::Differs | Grade::Note => Grade::Note,
            Grade::Same => Grade::Same,
        };
        let title = format!("{}, unless {source} says otherwise", self.title);
        Self { grade, title, ..self }
    }

    pub(super) fn there(self, there: impl Into<String>) -> Self {
        Self { there: there.into(), ..self }
    }

    pub(super) fn here(self, here: impl Into<String>) -> Self {
        Self { here: here.into(), ..self }
    }

    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.grade, printable(&self.title))?;
        if !self.snippet.is_empty() {
            f.write_str(&self.snippet)?;
        } else if !self.place.is_empty() {
            writeln!(f, " --> {}", printable(&self.place))?;
        }
        let lines = [("there", &self.there), ("here", &self.here), ("to do", &self.remedy)];
        let mut lines = lines.iter().filter(|it| !it.1.is_empty());
        lines.try_for_each(|(name, text)| writeln!(f, "  = {name}: {}", printable(text)))
    }
}

/// `text` on one line, unable to command a terminal.
fn printable(text: &str) -> String {
    text.chars().map(config::printable).collect()
}

/// Writes `findings`, the gravest first; those that are the same only if
/// `verbose`. The last line counts them.
pub(super) fn write(findings: &[Finding], verbose: bool, out: &mut impl Write) -> io::Result<()> {
    for grade in Grade::ALL.into_iter().filter(|it| verbose || *it != Grade::Same) {
        let mut of_grade = findings.iter().filter(|it| it.grade == grade);
        of_grade.try_for_each(|it| writeln!(out, "{it}"))?;
    }
    let count = |grade| findings.iter().filter(|it| it.grade == grade).count();
    let [bad, differ, notes, same] = Grade::ALL.map(count);
    let notes_word = if notes == 1 { "note" } else { "notes" };
    let hidden = if verbose || same == 0 { "" } else { " (--verbose shows them)" };
    writeln!(
        out,
        "{bad} will not start, {differ} {}, {notes} {notes_word}, {same} the same{hidden}",
        if differ == 1 { "differs" } else { "differ" },
    )
}
