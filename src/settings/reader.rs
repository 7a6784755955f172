//! Looks settings up, and collects what is wrong with them.

use std::fmt;

use super::{
    table::{GROUPS, Value},
    value,
};

/// Everything that is wrong with the settings. Never empty.
#[derive(Debug)]
pub struct SettingsError(Vec<SettingMistake>);

/// One thing that is wrong with the settings.
#[derive(Debug)]
pub struct SettingMistake {
    /// The variable.
    pub name: String,
    /// The flag or the variable, with its value unless that may hold a
    /// password.
    pub place: String,
    /// What is wrong with it, and what was expected.
    pub problem: String,
    /// The variables beside which it is wrong; none if it is wrong by itself.
    pub beside: Vec<String>,
}

impl SettingsError {
    /// What is wrong, in the order in which settings are read.
    pub fn mistakes(&self) -> &[SettingMistake] {
        &self.0
    }
}

impl SettingMistake {
    /// Whether the value may be right, and only names a file that cannot be
    /// read here and now.
    pub fn is_unreadable_file(&self) -> bool {
        self.problem.starts_with(value::UNREADABLE)
    }
}

impl std::error::Error for SettingsError {}

impl fmt::Display for SettingsError {
    /// One mistake per line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("these settings cannot be used:")?;
        self.0.iter().try_for_each(|it| write!(f, "\n  {}: {}", it.place, it.problem))
    }
}

/// Looks settings up: among the flags, in the environment, in the table.
pub(super) struct Reader<'a> {
    flags: &'a dyn Fn(&str) -> Option<String>,
    env: &'a dyn Fn(&str) -> Option<String>,
    mistakes: Vec<SettingMistake>,
}

/// A value, and where it stands.
struct Found {
    text: String,
    place: String,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        flags: &'a dyn Fn(&str) -> Option<String>,
        env: &'a dyn Fn(&str) -> Option<String>,
    ) -> Self {
        Self { flags, env, mistakes: Vec::new() }
    }

    /// The setting called `name`. A wrong one is noted, and some value stands
    /// in for it until [`Self::finish`].
    pub(super) fn value<T: Default>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        self.optional(name, parse).unwrap_or_default()
    }

    /// The setting called `name`; none if it is not set and has no default.
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.optional_beside(name, &[], parse)
    }

    /// Like [`Self::optional`], where what is right depends on `others`.
    pub(super) fn optional_beside<T>(
        &mut self,
        name: &str,
        others: &[&str],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let Found { text, place } = self.find(name)?;
        parse(&text).map_err(|problem| self.mistake(name, place, problem, others)).ok()
    }

    /// Whether the setting called `name` is set, or has a default.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Whether somebody has set the setting called `name`.
    pub(super) fn is_given(&self, name: &str) -> bool {
        match (self.flags)(name) {
            Some(flag) => !flag.is_empty(),
            None => self.has_variable(name),
        }
    }

    /// The variable called `name`, which is not in the table, as other settings make
    /// the name, and so has no flag.
    pub(super) fn variable<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = (self.env)(name).filter(|it| !it.is_empty())?;
        let note = |problem| self.mistake(name, format!("{name}={text:?}"), problem, &[]);
        parse(&text).map_err(note).ok()
    }

    /// Whether the variable called `name` is set.
    pub(super) fn has_variable(&self, name: &str) -> bool {
        (self.env)(name).is_some_and(|it| !it.is_empty())
    }

    /// Notes that the setting called `name` does not go with `others`, be they
    /// set or not.
    pub(super) fn refuse(&mut self, name: &str, others: &[&str], problem: &str) {
        let place = self.find(name).map_or_else(|| name.to_owned(), |it| it.place);
        self.mistake(name, place, problem.to_owned(), others);
    }

    fn mistake(&mut self, name: &str, place: String, problem: String, beside: &[&str]) {
        let beside = beside.iter().map(|&it| it.to_owned()).collect();
        self.mistakes.push(SettingMistake { name: name.to_owned(), place, problem, beside });
    }

    /// `settings`, unless anything that they were made of is wrong.
    pub(super) fn finish<T>(self, settings: T) -> Result<T, SettingsError> {
        if self.mistakes.is_empty() { Ok(settings) } else { Err(SettingsError(self.mistakes)) }
    }

    fn find(&self, name: &str) -> Option<Found> {
        let setting = GROUPS.iter().flat_map(|it| it.settings).find(|it| it.name == name)?;
        let flag = (self.flags)(name).map(|text| (format!("--{}", setting.flag()), text));
        let (place, text) = flag
            .or_else(|| Some((name.to_owned(), (self.env)(name)?)))
            .filter(|(_, text)| !text.is_empty())
            .unwrap_or_else(|| (name.to_owned(), setting.default.to_owned()));
        let place = match setting.value {
            Value::Secret(_) => format!("{place} (not shown)"),
            Value::Text(_) | Value::Switch => format!("{place}={text:?}"),
        };
        (!text.is_empty()).then_some(Found { text, place })
    }
}
