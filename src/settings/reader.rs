//! Looks settings up and collects the errors in their values.

use std::fmt;

use super::{
    table::{self, Setting, ValueKind},
    value,
};

/// All invalid settings; at least one.
#[derive(Clone, Debug)]
pub struct SettingsError(Vec<InvalidSetting>);

/// An invalid setting, with an explanation for the operator.
#[derive(Clone, Debug)]
pub struct InvalidSetting {
    /// The name of the environment variable, also if a flag set the value.
    pub name: String,
    /// The flag or the variable, with its value unless that may contain a password.
    pub place: String,
    /// The values that would be valid, as a clause such as "expected true or false".
    pub problem: String,
    /// Variables of the settings that the value conflicts with. Empty if the value is
    /// invalid by itself.
    pub related: Vec<String>,
}

impl SettingsError {
    /// The invalid settings, in the order in which they were read.
    pub fn invalid_settings(&self) -> &[InvalidSetting] {
        &self.0
    }
}

impl InvalidSetting {
    /// True if the setting names a file that this process cannot read. The value may
    /// be valid on another machine.
    pub fn is_unreadable_file(&self) -> bool {
        self.problem.starts_with(value::UNREADABLE)
    }
}

impl std::error::Error for SettingsError {}

impl fmt::Display for SettingsError {
    /// A heading, and then a line for each invalid setting.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("these settings cannot be used:")?;
        for invalid in &self.0 {
            write!(f, "\n  {}: {}", invalid.place, invalid.problem)?;
        }
        Ok(())
    }
}

/// Looks settings up: among the flags, in the environment, in the table.
pub(super) struct SettingReader<'a> {
    flags: &'a dyn Fn(&str) -> Option<String>,
    env: &'a dyn Fn(&str) -> Option<String>,
    invalid: Vec<InvalidSetting>,
}

/// The text of a setting before it is parsed.
struct RawValue {
    text: String,
    /// The flag or the variable, with the text unless that may contain a password.
    place: String,
}

impl<'a> SettingReader<'a> {
    pub(super) fn new(
        flags: &'a dyn Fn(&str) -> Option<String>,
        env: &'a dyn Fn(&str) -> Option<String>,
    ) -> Self {
        Self { flags, env, invalid: Vec::new() }
    }

    /// Reads the setting `name`. If it is unset or invalid, returns `T`'s default;
    /// [`Self::finish`] reports the error.
    pub(super) fn value<T: Default>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        self.optional(name, parse).unwrap_or_default()
    }

    /// Reads the setting `name`, which is one of a few words. If it is unset or invalid,
    /// returns `T`'s default.
    pub(super) fn choice<T: Copy + Default>(&mut self, name: &str, words: &[(&str, T)]) -> T {
        self.value(name, |text| value::one_of(text, words))
    }

    /// Reads the setting `name`. Returns `None` if it is invalid, or unset and without
    /// a default.
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.optional_related(name, &[], parse)
    }

    /// Like [`Self::optional`], for a value whose validity depends on other settings.
    pub(super) fn optional_related<T>(
        &mut self,
        name: &str,
        related: &[&str],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let raw = self.find(name)?;
        match parse(&raw.text) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.push(name, raw.place, problem, related);
                None
            }
        }
    }

    /// Reads the environment variable `name`, which has no row in the table and no
    /// flag. Returns `None` if it is unset, empty or invalid.
    pub(super) fn variable<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = (self.env)(name)?;
        if text.is_empty() {
            return None;
        }
        match parse(&text) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.push(name, format!("{name}={text:?}"), problem, &[]);
                None
            }
        }
    }

    /// True if the setting `name` is given or has a default.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// True if the setting `name` is given, by a flag or a variable.
    pub(super) fn is_given(&self, name: &str) -> bool {
        match (self.flags)(name) {
            Some(flag) => !flag.is_empty(),
            None => self.has_variable(name),
        }
    }

    /// True if `setting` is given and differs from its default. A switch that is given as
    /// false does not differ from one that is not given.
    pub(super) fn is_changed(&self, setting: &Setting) -> bool {
        if !self.is_given(setting.name) {
            return false;
        }
        let Some(RawValue { text, .. }) = self.find(setting.name) else { return false };
        let is_off = matches!(setting.value, ValueKind::Switch)
            && setting.default != "true"
            && value::boolean(&text) == Ok(false);
        text != setting.default && !is_off
    }

    /// True if the environment variable `name` is set and not empty.
    pub(super) fn has_variable(&self, name: &str) -> bool {
        (self.env)(name).is_some_and(|text| !text.is_empty())
    }

    /// Reports that the setting `name` conflicts with the settings in `related`. Any
    /// of them may be unset.
    pub(super) fn reject(&mut self, name: &str, related: &[&str], problem: &str) {
        let place = match self.find(name) {
            Some(raw) => raw.place,
            None => name.to_owned(),
        };
        self.push(name, place, problem.to_owned(), related);
    }

    /// Reports that the setting `name` needs the setting `other`, if `other` is unset.
    pub(super) fn require(&mut self, name: &str, other: &str) {
        if !self.is_set(other) {
            self.reject(name, &[other], &format!("expected {other} to be set, too"));
        }
    }

    /// Returns `settings`, or an error if any value was invalid.
    pub(super) fn finish<T>(self, settings: T) -> Result<T, SettingsError> {
        if self.invalid.is_empty() { Ok(settings) } else { Err(SettingsError(self.invalid)) }
    }

    fn push(&mut self, name: &str, place: String, problem: String, related: &[&str]) {
        let name = name.to_owned();
        let related = related.iter().copied().map(str::to_owned).collect();
        self.invalid.push(InvalidSetting { name, place, problem, related });
    }

    fn find(&self, name: &str) -> Option<RawValue> {
        let setting = table::find(name)?;
        let (mut place, mut text) = match (self.flags)(name) {
            Some(flag) => (format!("--{}", setting.flag()), flag),
            None => (name.to_owned(), (self.env)(name).unwrap_or_default()),
        };
        if text.is_empty() {
            (place, text) = (name.to_owned(), setting.default.to_owned());
        }
        if text.is_empty() {
            return None;
        }
        place.push_str(&match setting.value {
            ValueKind::Secret(_) => " (not shown)".to_owned(),
            ValueKind::Text(_) | ValueKind::Switch => format!("={text:?}"),
        });
        Some(RawValue { text, place })
    }
}
