//! The settings as typed values.

use std::time::Duration;

use tracing::Level;

use crate::{
    admin::AdminSettings,
    answer::AnswerSettings,
    counter::KeyFormat,
    decision_log::DecisionLogSettings,
    engine::{decision::Mode, fallback::FallbackSettings},
    grpc::connection::ConnectionLimits,
    listen::ConnectionBounds,
    metrics::tags::Tags,
    net::{Address, HostPort},
    rule_files::{LinkPolicy, RuleSource},
    spans::TracingSettings,
    statsd::SinkSettings,
    store::{memory::Bounds, redis::RedisSettings},
    tls::ServerTls,
    xds::XdsSettings,
};

/// The settings of the whole service.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Source of the rules, and the service's state while there are no rules.
    pub rules: RuleSettings,
    /// Addresses to listen on, limits on connections, and TLS.
    pub listeners: ListenerSettings,
    /// The admin API.
    pub admin: AdminSettings,
    /// Location of the counters: memory or Redis.
    pub store: StoreSettings,
    /// Memory for the cache of refusals in front of Redis, in bytes. 0 turns the
    /// cache off; otherwise at least 524,288.
    pub deny_cache_bytes: usize,
    /// Decisions while the store does not answer.
    pub fallback: FallbackSettings,
    /// Format of the counters' names in the store.
    pub key_format: KeyFormat,
    /// Modes that apply to all rules.
    pub mode: Mode,
    /// Most descriptors in one request: 1 to
    /// [`MOST_DESCRIPTORS`](crate::descriptor::invalid::MOST_DESCRIPTORS).
    pub max_descriptors: usize,
    /// Domain of the checks of `ext_authz` that name none. Not empty.
    pub ext_authz_domain: Option<String>,
    /// Most memory for calls in flight, in bytes, at least 1 MiB.
    pub max_bytes_in_flight: usize,
    /// Longest body of a request to `/json`, in bytes, at least 1.
    pub json_max_bytes: usize,
    /// Fraction of a limit above which a counter is near the limit: above 0, at
    /// most 1. Single precision, as in envoyproxy/ratelimit, so that both services
    /// report the same hits as near the limit.
    pub near_limit_ratio: f32,
    /// Headers and metadata of answers.
    pub answers: AnswerSettings,
    /// Level and format of the log.
    pub log: LogSettings,
    /// The decision log; `None` if it is off.
    pub decision_log: Option<DecisionLogSettings>,
    /// Delivery of statistics to StatsD, DogStatsD and Prometheus.
    pub statistics: StatisticsSettings,
    /// Tracing; `None` if it is off.
    pub tracing: Option<TracingSettings>,
    /// Time limits of a graceful shutdown.
    pub drain: DrainSettings,
    /// Settings that are given and have no effect.
    pub unused: Vec<Unused>,
}

/// The settings that shape answers and names of counters, without those of the process.
#[derive(Clone, Debug)]
pub struct DecisionSettings {
    /// Source of the rules.
    pub rules: RuleSettings,
    /// Format of the counters' names in the store.
    pub key_format: KeyFormat,
    /// Modes that apply to all rules.
    pub mode: Mode,
    /// Headers and metadata of answers.
    pub answers: AnswerSettings,
}

/// Source of the rules, and the service's state while there are no rules.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSettings {
    /// Path of the rule files. Ignored if `xds` is set.
    pub source: RuleSource,
    /// The symbolic links that are followed below that path.
    pub links: LinkPolicy,
    /// The xDS management server; if set, no rule files are read.
    pub xds: Option<XdsSettings>,
    /// Allows several files to define the same domain.
    pub merge_domains: bool,
    /// Starts the service although no valid rules are available. Every decision
    /// fails until they are.
    pub force_start: bool,
    /// Reports unhealthy while the active rules have no domain.
    pub unhealthy_without_domains: bool,
}

/// Addresses to listen on, limits on connections, and TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Port or Unix socket for gRPC.
    pub grpc: Address,
    /// TLS for gRPC; `None` for plaintext.
    pub grpc_tls: Option<ServerTls>,
    /// Host and port to listen on for HTTP.
    pub http: HostPort,
    /// TLS for HTTP; `None` for plaintext. The other HTTP ports have none.
    pub http_tls: Option<ServerTls>,
    /// Host and port of the health checks alone, if there is a separate one.
    pub probes: Option<HostPort>,
    /// Host and port of the pages for operators.
    pub debug: HostPort,
    /// Bounds on the connections of each listener.
    pub bounds: ConnectionBounds,
    /// Bounds on each gRPC connection.
    pub connections: ConnectionLimits,
}

/// Storage of the counters, with the settings that only this storage has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreSettings {
    /// Counters live in this process, and each instance counts by itself.
    Memory {
        /// Bounds on the memory and on the number of counters.
        bounds: Bounds,
    },
    /// Counters live in Redis, shared by all instances.
    Redis {
        /// The Redis for all limits, apart from those in `per_second`.
        main: Box<RedisSettings>,
        /// A separate Redis for limits per second.
        per_second: Option<Box<RedisSettings>>,
        /// Ends the process if Redis has not answered within this time after the
        /// start; `None` waits without a bound.
        startup_timeout: Option<Duration>,
        /// Reports unhealthy whenever Redis does not answer, and not only until
        /// its first answer.
        health_follows_redis: bool,
    },
}

/// Level and format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The least severe level that is logged.
    pub level: Level,
    /// Format of a log line.
    pub format: LogFormat,
}

/// Format of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Readable text, colored on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Delivery of statistics. The main port serves `/metrics` in any case.
#[derive(Clone, Debug)]
pub struct StatisticsSettings {
    /// Tags that all statistics carry.
    pub tags: Tags,
    /// Time between two deliveries, at least 100 ms.
    pub flush_interval: Duration,
    /// Servers of StatsD and DogStatsD to send to.
    pub sinks: Vec<SinkSettings>,
    /// Names of the DogStatsD mogrifiers, in capitals. Also set if DogStatsD is off.
    pub mogrifier_names: Vec<String>,
    /// The separate port for Prometheus, if there is one.
    pub prometheus: Option<PrometheusSettings>,
    /// Reports response times to Prometheus in milliseconds, not seconds.
    pub response_times_in_milliseconds: bool,
}

/// The separate port for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrometheusSettings {
    /// Host and port to listen on. `::` becomes `0.0.0.0` on hosts without IPv6.
    pub address: HostPort,
    /// Path of the metrics; starts with a slash.
    pub path: String,
}

/// Time limits of a graceful shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainSettings {
    /// Time to keep serving while health checks already report unhealthy.
    pub delay: Duration,
    /// Time that running calls have after `delay`.
    pub timeout: Duration,
}

/// Settings without effect, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused {
    /// Their names. Never empty.
    pub names: Vec<&'static str>,
    /// The reason, as a clause without a full stop.
    pub reason: &'static str,
}
