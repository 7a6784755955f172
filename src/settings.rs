//! How the service is set up: read once, typed at once, and wrong all at once.
//!
//! Every setting is an environment variable and a flag; [`table`] lists them.
//! The names and their meaning are those of Envoy's reference service wherever
//! it has the setting.

use std::time::Duration;

use tracing::Level;

use crate::{
    counter::KeyFormat,
    engine::{decision::Mode, fallback::FallbackSettings},
    metrics::tags::Tags,
    net::{Address, HostPort},
    rule_files::RuleSource,
    spans::TracingSettings,
    statsd::SinkSettings,
    store::{memory::Bounds, redis::RedisSettings},
    tls::ServerTls,
    wire::response::ResponseSettings,
    xds::XdsSettings,
};

pub mod hints;
mod parts;
mod reader;
pub mod table;
mod value;

use self::reader::Reader;
pub use self::reader::{SettingMistake, SettingsError};

/// The settings of the whole service.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which rules apply.
    pub rules: RuleSettings,
    /// Who may ask, and where.
    pub listeners: ListenerSettings,
    /// Where hits are counted.
    pub store: StoreSettings,
    /// How many bytes to spend on remembering what Redis has refused; 0 for no
    /// such memory.
    pub deny_cache: usize,
    /// What is decided while the store does not answer.
    pub fallback: FallbackSettings,
    /// How counters are named.
    pub keys: KeyFormat,
    /// What the whole service does whatever the rules say.
    pub mode: Mode,
    /// How many descriptors one request may have: 1 to
    /// [`MOST_DESCRIPTORS`](crate::wire::request::MOST_DESCRIPTORS).
    pub max_descriptors: usize,
    /// From which part of its limit on a counter is near it: above 0, at most 1.
    /// Of single precision, like that of Envoy's reference service, so that
    /// both draw the line at the same hit.
    pub near_limit_ratio: f32,
    /// What answers carry besides the decision.
    pub response: ResponseSettings,
    /// What is logged.
    pub log: LogSettings,
    /// Who is told the statistics.
    pub statistics: StatisticsSettings,
    /// What is recorded as traces; none if nothing is.
    pub tracing: Option<TracingSettings>,
    /// How the service ends.
    pub drain: DrainSettings,
}

/// Which rules apply.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSettings {
    /// Where their files are.
    pub source: RuleSource,
    /// Set if they come by xDS, and not from files.
    pub xds: Option<XdsSettings>,
    /// Whether several files may add to the same domain.
    pub merge_domains: bool,
    /// Whether to serve without rules while there are none that can be used;
    /// every decision fails until there are.
    pub force_start: bool,
    /// Whether the service is healthy only with rules for at least one domain.
    pub needs_domain: bool,
}

/// Who may ask, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// For gRPC.
    pub grpc: Address,
    /// How gRPC is encrypted, if it is.
    pub tls: Option<ServerTls>,
    /// For HTTP.
    pub http: HostPort,
    /// For operators.
    pub debug: HostPort,
    /// How many connections each of them holds at once. At least 1.
    pub max_connections: usize,
    /// When a gRPC connection stops taking calls; none means never.
    pub max_age: Option<Duration>,
    /// How long its last calls may take after that; none means for ever.
    pub max_age_grace: Option<Duration>,
}

/// Where hits are counted, with the settings that only this place has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreSettings {
    /// In this process.
    Memory {
        /// How much it keeps.
        bounds: Bounds,
    },
    /// In Redis.
    Redis {
        /// The Redis for all limits that have no other.
        main: Box<RedisSettings>,
        /// The Redis for limits per second, if it is another.
        per_second: Option<Box<RedisSettings>>,
        /// After how long without any answer since the start to give up; none
        /// means never.
        give_up: Option<Duration>,
        /// Whether health follows whether it answers.
        health: bool,
    },
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The least that is.
    pub level: Level,
    /// How it is written.
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// Who is told the statistics, besides those who ask the main port.
#[derive(Clone, Debug)]
pub struct StatisticsSettings {
    /// What all of them are marked with.
    pub tags: Tags,
    /// How often they are sent. At least 100 ms.
    pub interval: Duration,
    /// Where they are sent.
    pub sinks: Vec<SinkSettings>,
    /// The mogrifiers of DogStatsD, in capitals, whether it is used or not.
    pub mogrifiers: Vec<String>,
    /// Where Prometheus asks, if it has a port of its own.
    pub prometheus: Option<PrometheusSettings>,
    /// Whether Prometheus is told response times in milliseconds.
    pub in_milliseconds: bool,
}

/// Where Prometheus asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrometheusSettings {
    /// Where to listen. `::` is `0.0.0.0` where there is no IPv6.
    pub address: HostPort,
    /// Begins with a slash.
    pub path: String,
}

/// How the service ends, once it is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainSettings {
    /// How long it goes on serving while its health checks already say no.
    pub delay: Duration,
    /// How long calls in flight may take after that.
    pub timeout: Duration,
}

impl Settings {
    /// Reads the settings through two functions, which look one up by the name
    /// of its variable: `flags` among the flags, `env` in the environment.
    ///
    /// A flag counts before a variable, and a variable before the default. A
    /// variable that is set but empty counts as not set; an empty flag asks for
    /// the default.
    ///
    /// # Errors
    ///
    /// All that is wrong, at once. Values that may hold a password are not in
    /// the text.
    pub fn read(
        flags: impl Fn(&str) -> Option<String>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(&flags, &env);
        let settings = parts::all(&mut reader);
        reader.finish(settings)
    }
}

impl RuleSettings {
    /// Reads only these settings, like [`Settings::read`].
    ///
    /// # Errors
    ///
    /// All that is wrong with them, at once.
    pub fn read(
        flags: impl Fn(&str) -> Option<String>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(&flags, &env);
        let settings = parts::rules(&mut reader);
        reader.finish(settings)
    }
}

#[cfg(test)]
mod tests;
