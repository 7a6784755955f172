//! Statistics, under the Prometheus names and labels of Envoy's reference
//! service where it has them, and under `tollgate_` where it has not.

use std::{fmt::Write, sync::OnceLock, time::Duration};

use parking_lot::Mutex;
use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, Registry, TextEncoder,
};

use crate::{
    descriptor::Request,
    engine::decision::{Decision, Governed, Standing, Verdict},
    limit::{Hits, tally},
    rules::{RuleTree, stat_name::StatName},
    store::{DenyCacheUsage, MemoryUsage, StoreStats},
    time::Timestamp,
};

mod certificates;
mod collectors;
mod latency;
pub mod ledger;
pub mod chunks;
mod pools;
pub mod readings;
pub mod series;
pub mod tags;
pub mod store_timer;

use self::{
    certificates::Certificates,
    collectors::register,
    pools::Pools,
    readings::{Reading, Value},
    series::{Bump, SeriesTable},
    tags::Tags,
};

/// All statistics of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    near_limit_ratio: f32,
    rules: SeriesTable,
    total_requests: IntCounterVec,
    response_time: HistogramVec,
    errors: IntCounterVec,
    domain_not_found: IntCounter,
    shadowed: IntCounter,
    loads: IntCounter,
    failed_loads: IntCounter,
    load_attempts: IntCounter,
    load_failures: IntCounter,
    rejected: IntGauge,
    rule_count: IntGauge,
    xds_connected: IntGauge,
    store_time: Histogram,
    store_failures: IntCounter,
    late: IntCounter,
    degraded: IntCounterVec,
    spans_lost: IntCounterVec,
    counters: IntGauge,
    bytes: IntGauge,
    evicted: IntCounter,
    not_kept: IntCounter,
    /// Made when there is such a cache.
    deny_cache: OnceLock<[IntGauge; DENY_CACHE.len()]>,
    pools: Pools,
    /// Where the store says how it is doing.
    readings: StoreStats,
    /// Held while the store is asked how it is doing.
    measuring: Mutex<()>,
    /// What all of them are marked with, for Prometheus.
    tags: Tags,
    /// Whether Prometheus is told response times in milliseconds.
    in_milliseconds: bool,
    certificates: Certificates,
}

/// Under the names of the reference service, for what it keeps in its place.
const DENY_CACHE: [(&str, &str); 7] = [
    ("entryCount", "Refusals remembered now."),
    ("hitCount", "Counters whose refusal was remembered when a request asked."),
    ("missCount", "Counters of which Redis had to be asked."),
    ("lookupCount", "Both together."),
    ("expiredCount", "Refusals forgotten because they had ended."),
    ("evacuateCount", "Refusals forgotten to make room for others."),
    ("overwriteCount", "Refusals that took the place of an older one of the same counter."),
];

/// Who is to blame that a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// The caller: the request makes no sense.
    Service,
    /// The store did not answer.
    Store,
}

/// Why a span does not reach the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostSpan {
    /// More were recorded than the collector takes.
    QueueFull,
    /// The collector did not answer, or refused.
    ExportFailed,
}

impl Metrics {
    /// Counts an answer that nobody has waited for.
    pub fn count_late_answer(&self) {
        self.late.inc();
    }

    /// Counts one decision. The only place that counts any.
    pub fn observe(&self, request: &Request, decision: &Decision) {
        self.shadowed.inc_by(decision.shadowed.into());
        for policy in &decision.policies {
            self.degraded.with_label_values(&[policy.name()]).inc();
        }
        for (descriptor, verdict) in request.descriptors.iter().zip(&decision.verdicts) {
            if let Governed::Unmatched { domain_known: false } = verdict.governed {
                self.domain_not_found.inc();
            }
            let Some(bump) = self.bump(descriptor.hits, verdict) else { continue };
            match &verdict.governed {
                Governed::Rule(rule, _) => match rule.stat_name_for(&descriptor.entries) {
                    Some(name) => self.rules.bump_dynamic(name, bump),
                    None => self.rules.bump_rule(rule, bump),
                },
                // The entries are the caller's, and so cannot name a series.
                Governed::Override(_) => {
                    let domain = String::from_utf8_lossy(&request.domain);
                    let name = StatName::new(&domain, std::iter::once("override".to_owned()));
                    self.rules.bump_dynamic(name, bump);
                }
                Governed::Unmatched { .. } | Governed::Unlimited(_) => {}
            }
        }
    }

    fn bump(&self, hits: Hits, verdict: &Verdict) -> Option<Bump> {
        let Standing { limit, outcome, .. } = verdict.counted()?;
        let hits = match hits {
            Hits::Add(hits) => hits,
            Hits::Refund(hits) => return Some(Bump { refunded: hits, ..Bump::default() }),
        };
        let tally = tally(limit.capacity(), hits, outcome, self.near_limit_ratio);
        let shadow = verdict.governed.rule().is_some_and(|it| it.spec.shadow_mode);
        Some(Bump {
            total: hits,
            within: tally.within,
            near: tally.near,
            over: tally.over,
            cached: if outcome.cached { tally.over } else { 0 },
            shadow: if shadow { tally.over } else { 0 },
            refunded: 0,
        })
    }

    /// Counts for `name`, as a decision would.
    #[cfg(test)]
    pub(crate) fn count(&self, name: StatName, bump: Bump) {
        self.rules.bump_dynamic(name, bump);
    }

    /// Counts a request that has no decision.
    pub fn count_error(&self, error: ErrorType) {
        self.errors.with_label_values(&[error.label()]).inc();
    }

    /// Counts a call that took `time`. `method` is one of ours, never a
    /// caller's text.
    pub fn count_call(&self, method: &'static str, time: Duration) {
        self.total_requests.with_label_values(&[method]).inc();
        self.response_time.with_label_values(&[method]).observe(time.as_secs_f64());
    }

    /// Counts a call to the store.
    pub fn count_store_call(&self, time: Duration, answered: bool) {
        self.store_time.observe(time.as_secs_f64());
        self.store_failures.inc_by((!answered).into());
    }

    /// Counts rules that are about to come into force, and makes room for
    /// their statistics. Those that are gone take theirs with them, but for
    /// those that requests named: these stay until the process ends.
    pub fn install_rules(&self, rules: &RuleTree) {
        self.rules.install(rules);
        self.load_attempts.inc();
        self.loads.inc();
        self.rejected.set(0);
        self.rule_count.set(i64::try_from(rules.rules().len()).unwrap_or(i64::MAX));
    }

    /// Counts rules that were refused.
    pub fn count_refused_rules(&self) {
        self.load_attempts.inc();
        self.load_failures.inc();
        self.failed_loads.inc();
        self.rejected.set(1);
    }

    /// Counts spans that do not reach the collector.
    pub fn count_lost_spans(&self, reason: LostSpan, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.spans_lost.with_label_values(&[reason.label()]).inc_by(count);
    }

    /// Whether there is a connection to the server that rules come from.
    pub fn set_xds_connected(&self, connected: bool) {
        self.xds_connected.set(connected.into());
    }

    /// Counts certificates that came into force, and until when they are good.
    pub fn count_certificate_load(&self, not_after: Option<Timestamp>) {
        self.certificates.of(&self.registry).loaded(not_after);
    }

    /// Counts certificates that were refused.
    pub fn count_refused_certificate(&self) {
        let statistics = self.certificates.of(&self.registry);
        statistics.failed_loads.inc();
        statistics.rejected.set(1);
    }

    /// Counts a connection that could not be encrypted.
    pub fn count_failed_handshake(&self) {
        self.certificates.of(&self.registry).failed_handshakes.inc();
    }

    /// The same, shown to Prometheus with `tags` as labels, and response times in
    /// milliseconds if so wanted.
    #[must_use]
    pub fn shown(self, tags: Tags, in_milliseconds: bool) -> Self {
        Self { tags, in_milliseconds, ..self }
    }

    /// Takes over what the store says of itself.
    pub fn measure(&self) {
        let _measuring = self.measuring.lock();
        self.measured(self.readings.memory(), self.readings.deny_cache());
        self.pools.measured(&self.registry, &self.readings.pools());
    }

    /// Where the store says how it is doing.
    pub fn store_stats(&self) -> &StoreStats {
        &self.readings
    }

    /// Takes over what the store says of what it holds.
    fn measured(&self, usage: Option<MemoryUsage>, deny_cache: Option<DenyCacheUsage>) {
        if let Some(MemoryUsage { counters, bytes, evicted, uncounted }) = usage {
            self.counters.set(i64::try_from(counters).unwrap_or(i64::MAX));
            self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
            self.evicted.inc_by(evicted.saturating_sub(self.evicted.get()));
            self.not_kept.inc_by(uncounted.saturating_sub(self.not_kept.get()));
        }
        let Some(usage) = deny_cache else { return };
        let DenyCacheUsage { entries, hits, misses, expired, evicted, overwritten } = usage;
        let values = [entries, hits, misses, hits + misses, expired, evicted, overwritten];
        let gauge = |(name, help)| {
            let gauge = IntGauge::new(format!("ratelimit_localcache_{name}"), help);
            register(&self.registry, gauge.expect("every name here is legal"))
        };
        let gauges = self.deny_cache.get_or_init(|| DENY_CACHE.map(gauge));
        for (gauge, value) in gauges.iter().zip(values) {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    /// Everything, in Prometheus' text format, in pieces. Those of the rules are read
    /// piece by piece, so that later ones may have counted more.
    pub fn prometheus(&self) -> impl Iterator<Item = String> + Send + use<> {
        let mut others = self.registry.gather();
        if self.in_milliseconds {
            others.iter_mut().for_each(latency::to_milliseconds);
        }
        self.tags.label(&mut others);
        // Writing to memory does not fail.
        let others = TextEncoder::new().encode_to_string(&others).unwrap_or_default();
        self.rules.prometheus(self.tags.text()).chain([others])
    }

    /// The statistics of the rules, one per line, under the dotted names that
    /// Envoy's reference service gives them, in pieces.
    pub fn rule_stats(&self) -> impl Iterator<Item = String> + Send + use<> {
        self.rules.dotted()
    }

    /// All others, but for times, in the same form.
    pub fn process_stats(&self) -> String {
        self.readings().into_iter().fold(String::new(), |mut text, Reading { name, value }| {
            let _ = match value {
                Value::Count(count) => writeln!(text, "{name}: {count}"),
                Value::Level(level) => writeln!(text, "{name}: {level}"),
                Value::Times(_) => Ok(()),
            };
            text
        })
    }

    /// All statistics but those of the rules.
    pub fn readings(&self) -> Vec<Reading> {
        readings::of(&self.registry.gather())
    }
}

impl ErrorType {
    fn label(self) -> &'static str {
        match self {
            Self::Service => "service_error",
            Self::Store => "redis_error",
        }
    }
}

impl LostSpan {
    fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::ExportFailed => "export_failed",
        }
    }
}
