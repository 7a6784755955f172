//! The findings of a comparison, and their output.

use std::{
    fmt,
    io::{self, Write},
};

use super::environment::Environment;
use crate::printable::printable_text;

/// The weight of a finding, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grade {
    /// tollgate exits at the start, or its pod never becomes ready.
    WillNotStart,
    /// The behaviour changes.
    Differs,
    /// No difference is known, but an operator should check.
    Note,
    /// Nothing changes that affects a decision.
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

/// The result of one check. Empty fields are not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) grade: Grade,
    pub(super) title: String,
    /// The name of the variable, if the finding concerns one.
    pub(super) variable: String,
    /// `file:line`, or the file.
    pub(super) place: String,
    /// The line of a rule file with a caret below. It is shown instead of
    /// `place`.
    pub(super) snippet: String,
    /// Behaviour of the reference service, envoyproxy/ratelimit.
    pub(super) reference: String,
    /// Behaviour of tollgate.
    pub(super) tollgate: String,
    /// Advice for the operator.
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
            reference: String::new(),
            tollgate: String::new(),
            remedy: String::new(),
        }
    }

    pub(super) fn at(self, place: impl Into<String>) -> Self {
        Self { place: place.into(), ..self }
    }

    /// Sets the variable, and its place in `environment`.
    pub(super) fn about(self, environment: &Environment, variable: &str) -> Self {
        Self { variable: variable.to_owned(), place: environment.place(variable), ..self }
    }

    /// Lowers the grade to a note if one of the variables `names` may be set
    /// outside the input, since its value could make the finding wrong.
    pub(super) fn unless_set(self, environment: &Environment, names: &[&str]) -> Self {
        let Some(origin) = environment.unknown_origin(names) else { return self };
        let grade = match self.grade {
            Grade::WillNotStart | Grade::Differs | Grade::Note => Grade::Note,
            Grade::Same => Grade::Same,
        };
        let title = format!("{}, unless {origin} changes that", self.title);
        Self { grade, title, ..self }
    }

    pub(super) fn reference(self, behaviour: impl Into<String>) -> Self {
        Self { reference: behaviour.into(), ..self }
    }

    pub(super) fn tollgate(self, behaviour: impl Into<String>) -> Self {
        Self { tollgate: behaviour.into(), ..self }
    }

    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.grade, printable_text(&self.title))?;
        if !self.snippet.is_empty() {
            f.write_str(&self.snippet)?;
        } else if !self.place.is_empty() {
            writeln!(f, " --> {}", printable_text(&self.place))?;
        }
        let lines =
            [("ratelimit", &self.reference), ("tollgate", &self.tollgate), ("to do", &self.remedy)];
        for (label, text) in lines {
            if !text.is_empty() {
                writeln!(f, "  = {label}: {}", printable_text(text))?;
            }
        }
        Ok(())
    }
}

/// Writes `findings`, the gravest first, and a last line that counts them.
pub(super) fn write(
    findings: &[Finding],
    shows_same: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut counts = [0; Grade::ALL.len()];
    for (grade, count) in Grade::ALL.into_iter().zip(&mut counts) {
        for finding in findings {
            if finding.grade != grade {
                continue;
            }
            *count += 1;
            if shows_same || grade != Grade::Same {
                writeln!(out, "{finding}")?;
            }
        }
    }
    let [will_not_start, differ, notes, same] = counts;
    let differ_word = if differ == 1 { "differs" } else { "differ" };
    let notes_word = if notes == 1 { "note" } else { "notes" };
    let hidden = if shows_same || same == 0 { "" } else { " (--verbose shows them)" };
    writeln!(
        out,
        "{will_not_start} will not start, {differ} {differ_word}, {notes} {notes_word}, {same} \
         the same{hidden}"
    )
}
