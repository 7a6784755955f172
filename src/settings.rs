//! The settings of the service: flags and environment variables, read once at
//! startup and turned into typed values. All errors are reported together.
//!
//! Every setting is an environment variable and a flag; [`table`] lists them.
//! Settings that envoyproxy/ratelimit also has keep its names and meanings.

pub mod table;
mod value;
mod reader;
mod model;
mod parts;
pub mod hints;
mod unused;
pub mod environment;

pub use self::{
    model::{
        DecisionSettings, DrainSettings, ListenerSettings, LogFormat, LogSettings,
        PrometheusSettings, RuleSettings, Settings, StatisticsSettings, StoreSettings, Unused,
    },
    reader::{InvalidSetting, SettingsError},
};

use self::reader::SettingReader;

impl Settings {
    /// Reads all settings. `flags` and `env` look up a value by the name of its
    /// environment variable, among the flags and in the environment.
    ///
    /// A flag overrides a variable, and a variable overrides the default. An empty
    /// variable counts as unset; an empty flag selects the default.
    ///
    /// # Errors
    ///
    /// Every invalid setting, not only the first. Values that may contain a
    /// password are left out of the error texts.
    pub fn read(
        flags: impl Fn(&str) -> Option<String>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let mut reader = SettingReader::new(&flags, &env);
        let mut settings = parts::all(&mut reader);
        settings.unused = unused::unused(&reader, &settings);
        reader.finish(settings)
    }
}

impl RuleSettings {
    /// Reads the settings of the rules and no others, like [`Settings::read`].
    ///
    /// # Errors
    ///
    /// Every invalid setting among them.
    pub fn read(
        flags: impl Fn(&str) -> Option<String>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let mut reader = SettingReader::new(&flags, &env);
        let settings = parts::rules(&mut reader);
        reader.finish(settings)
    }
}

impl DecisionSettings {
    /// Reads these settings and no others, like [`Settings::read`].
    ///
    /// # Errors
    ///
    /// Every invalid setting among them.
    pub fn read(
        flags: impl Fn(&str) -> Option<String>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let mut reader = SettingReader::new(&flags, &env);
        let settings = parts::decision(&mut reader);
        reader.finish(settings)
    }
}

impl LogSettings {
    /// Reads the settings of the log and no others, like [`Settings::read`]. Those that are
    /// invalid have their defaults.
    pub fn read(
        flags: impl Fn(&str) -> Option<String>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Self {
        parts::log(&mut SettingReader::new(&flags, &env))
    }
}

#[cfg(test)]
mod tests;
