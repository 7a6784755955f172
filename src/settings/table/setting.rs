//! The rows of the table.

/// Settings with a common subject.
#[derive(Debug)]
pub struct Group {
    /// The subject, as a heading.
    pub heading: &'static str,
    /// The settings, in the order in which they are shown.
    pub settings: &'static [Setting],
}

/// A setting: one environment variable and its flag.
#[derive(Debug)]
pub struct Setting {
    /// The name of the environment variable.
    pub name: &'static str,
    /// The kind of its value.
    pub value: ValueKind,
    /// The value that applies if the setting is not given, in the same notation. If
    /// empty, the setting has no default.
    pub default: &'static str,
    /// Meaning, unit, range, and when to change it, in whole sentences.
    pub help: &'static str,
}

/// The kind of a setting's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// Text; holds the placeholder for `--help`, such as `PORT`.
    Text(&'static str),
    /// Like [`Self::Text`], but never printed or logged: it may contain a password.
    Secret(&'static str),
    /// True or false. The flag without a value means true.
    Switch,
}

impl ValueKind {
    /// The placeholder for the value in `--help`.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Text(name) | Self::Secret(name) => name,
            Self::Switch => "BOOL",
        }
    }
}

impl Setting {
    /// The name of the flag, without its dashes.
    pub fn flag(&self) -> String {
        let name = self.name.strip_prefix("TOLLGATE_").unwrap_or(self.name);
        name.to_ascii_lowercase().replace('_', "-")
    }
}

pub(super) const DURATION: ValueKind = ValueKind::Text("DURATION");
pub(super) const FILE: ValueKind = ValueKind::Text("FILE");
pub(super) const HEADER: ValueKind = ValueKind::Text("HEADER");
pub(super) const HOST: ValueKind = ValueKind::Text("HOST");
pub(super) const NUMBER: ValueKind = ValueKind::Text("NUMBER");
pub(super) const PATH: ValueKind = ValueKind::Text("PATH");
pub(super) const PORT: ValueKind = ValueKind::Text("PORT");
