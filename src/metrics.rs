//! Counts requests, decisions and failures, and shows the counts to Prometheus, to
//! statsd and on the statistics page.
//!
//! Names and labels are those of Envoy's reference service where it has such a
//! statistic, and begin with `tollgate_` where it has not. Each statistic is declared in
//! one row: those that this process counts in `process_statistics`, those that the
//! counter store keeps in `store_statistics`, those of each rule in `series::counts`.

use std::{fmt::Write, sync::OnceLock, time::Duration};

use prometheus::{Registry, TextEncoder, proto::MetricFamily};

use crate::{
    descriptor::{Descriptor, Request},
    engine::decision::{Decision, LimitStatus, Match, Verdict},
    limit::{Hits, tally},
    rules::{RuleTree, spec::OnError, stat_name::StatName},
    store::StoreStats,
    time::Timestamp,
};

mod call_counters;
mod check_counters;
pub mod chunks;
mod definition;
mod domain_counters;
pub mod delta_tracker;
mod label;
mod latency;
mod process_statistics;
mod process_usage;
mod reasons;
pub mod samples;
pub mod series;
mod store_statistics;
pub mod store_timer;
pub mod tags;

use self::{
    call_counters::CallCounters,
    check_counters::CheckCounters,
    domain_counters::DomainCounters,
    process_statistics::{CertificateStatistics, ProcessStatistics, XdsStatistics},
    samples::{Sample, SampleValue},
    series::{HitCounts, SeriesTable},
    tags::Tags,
};
pub use self::{
    call_counters::CountedMethod,
    check_counters::{CheckFault, CheckResult, CheckedBy},
    latency::TimeUnit,
    reasons::{
        AdminDenial, ClosedConnection, CounterOperation, CutOff, ErrorType, LostDecision, LostSpan,
    },
};

/// All statistics of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    process: ProcessStatistics,
    /// Registered with the first certificate, so that servers without TLS show none.
    certificates: OnceLock<CertificateStatistics>,
    /// Registered by the xDS client, so that an alert on it concerns no other process.
    xds: OnceLock<XdsStatistics>,
    calls: CallCounters,
    unmatched: DomainCounters,
    checks: CheckCounters,
    series: SeriesTable,
    store: StoreStats,
    near_limit_ratio: f32,
    /// Shown to Prometheus as labels of every statistic.
    tags: Tags,
    response_time_unit: TimeUnit,
}

impl Metrics {
    /// Statistics with all counts 0. A hit beyond `near_limit_ratio` of its limit, from
    /// 0 to 1, counts as near the limit.
    pub fn new(near_limit_ratio: f32) -> Self {
        let registry = Registry::new();
        let process = ProcessStatistics::register(&registry);
        process.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        // Labels are shown from the start with the count 0.
        for policy in OnError::ALL {
            process.degraded.with_label_values(&[policy.name()]);
        }
        for reason in CheckFault::labels() {
            process.misconfigured_checks.with_label_values(&[reason]);
        }
        for operation in CounterOperation::LABELS {
            for result in ["done", "failed"] {
                process.counter_operations.with_label_values(&[operation, result]);
            }
        }
        for (counter, labels) in [
            (&process.admin_denied, AdminDenial::LABELS),
            (&process.spans_lost, LostSpan::LABELS),
            (&process.closed_connections, ClosedConnection::LABELS),
            (&process.decisions_lost, LostDecision::LABELS),
            (&process.cut_off, CutOff::LABELS),
            (&process.errors, ErrorType::LABELS),
        ] {
            for label in labels {
                counter.with_label_values(&[label]);
            }
        }
        Self {
            registry,
            calls: CallCounters::new(process.calls.clone(), process.response_time.clone()),
            unmatched: DomainCounters::new(process.unmatched.clone()),
            checks: CheckCounters::new(process.checks.clone()),
            series: SeriesTable::new(process.series_folded.clone(), process.series_lost.clone()),
            process,
            certificates: OnceLock::new(),
            xds: OnceLock::new(),
            store: StoreStats::default(),
            near_limit_ratio,
            tags: Tags::default(),
            response_time_unit: TimeUnit::Seconds,
        }
    }

    /// Sets the labels and the unit of response times on the Prometheus page.
    #[must_use]
    pub fn with_display(self, tags: Tags, response_time_unit: TimeUnit) -> Self {
        Self { tags, response_time_unit, ..self }
    }

    /// The place where stores register their own statistics.
    pub fn store_stats(&self) -> &StoreStats {
        &self.store
    }

    /// Counts one decision. No other function counts decisions.
    pub fn observe(&self, request: &Request, decision: &Decision) {
        self.process.shadowed.inc_by(decision.shadowed.into());
        for policy in &decision.policies {
            self.process.degraded.with_label_values(&[policy.name()]).inc();
        }
        if let Some(Verdict { matched: Match::UnknownDomain, .. }) = decision.verdicts.first() {
            self.process.unknown_domain_requests.inc();
        }
        for (descriptor, verdict) in request.descriptors.iter().zip(&decision.verdicts) {
            self.observe_verdict(&request.domain, descriptor, verdict);
        }
    }

    fn observe_verdict(&self, domain: &[u8], descriptor: &Descriptor, verdict: &Verdict) {
        match verdict.matched {
            Match::UnknownDomain => self.process.domain_not_found.inc(),
            Match::None => self.unmatched.count(domain),
            _ => {}
        }
        let Some(counts) = self.hit_counts(descriptor.hits, verdict) else { return };
        match &verdict.matched {
            Match::Rule(rule, _) => match rule.stat_name_for(&descriptor.entries) {
                Some(name) => self.series.add_to_name(name, counts),
                None => self.series.add_to_rule(rule, counts),
            },
            // The name must not depend on the entries: a client could create any number
            // of series.
            Match::Override(_) => {
                let domain = String::from_utf8_lossy(domain);
                self.series.add_to_name(StatName::overrides(&domain), counts);
            }
            Match::UnknownDomain | Match::None | Match::Replaced(_) | Match::Unlimited(_) => {}
        }
    }

    /// Returns `None` if no limit applies.
    fn hit_counts(&self, hits: Hits, verdict: &Verdict) -> Option<HitCounts> {
        let LimitStatus { limit, outcome, .. } = verdict.counted_status()?;
        let hits = match hits {
            Hits::Add(hits) => hits,
            Hits::Refund(hits) => {
                return Some(HitCounts { refunded: hits, ..HitCounts::default() });
            }
        };
        let tally = tally(limit.capacity(), hits, outcome, self.near_limit_ratio);
        let shadow_mode = match verdict.matched.rule() {
            Some(rule) => rule.spec.shadow_mode,
            None => false,
        };
        Some(HitCounts {
            total: hits,
            within: tally.within,
            near: tally.near,
            over: tally.over,
            over_cached: if outcome.cached { tally.over } else { 0 },
            over_shadowed: if shadow_mode { tally.over } else { 0 },
            refunded: 0,
        })
    }

    /// Counts hits in the series `name`, as a decision would.
    #[cfg(test)]
    pub(crate) fn add_to_name(&self, name: StatName, counts: HitCounts) {
        self.series.add_to_name(name, counts);
    }

    /// Counts a call whose client no longer waits for the answer.
    pub fn count_late_answer(&self) {
        self.process.late_answers.inc();
    }

    /// Changes the number of open connections. `listener` must be one of a few constants,
    /// as each creates a series.
    pub fn add_connections(&self, listener: &'static str, change: i64) {
        self.process.connections.with_label_values(&[listener]).add(change);
    }

    /// Changes the number of unfinished handshakes, likewise.
    pub fn add_handshakes(&self, listener: &'static str, change: i64) {
        self.process.handshakes.with_label_values(&[listener]).add(change);
    }

    /// Counts a connection that is closed for lack of room.
    pub fn count_closed_connection(&self, reason: ClosedConnection) {
        self.process.closed_connections.with_label_values(&[reason.label()]).inc();
    }

    /// Counts a call that is refused or ended because of its client.
    pub fn count_cut_off(&self, reason: CutOff) {
        self.process.cut_off.with_label_values(&[reason.label()]).inc();
    }

    /// Counts a request that is answered with an error.
    pub fn count_error(&self, error: ErrorType) {
        self.process.errors.with_label_values(&[error.label()]).inc();
    }

    /// Counts a call that was answered after `time`.
    pub fn count_call(&self, method: CountedMethod, time: Duration) {
        self.calls.count(method, time);
    }

    /// Counts an HTTP check of `domain`, which must have rules.
    pub fn count_check(&self, by: CheckedBy, domain: &str, result: CheckResult) {
        self.checks.count(by, domain, result);
    }

    /// Counts an HTTP check that is refused as wrongly set up.
    pub fn count_misconfigured_check(&self, fault: CheckFault) {
        self.process.misconfigured_checks.with_label_values(&[fault.label()]).inc();
    }

    /// Counts an operation of an operator on one counter.
    pub fn count_counter_operation(&self, operation: CounterOperation, succeeded: bool) {
        let result = if succeeded { "done" } else { "failed" };
        self.process.counter_operations.with_label_values(&[operation.label(), result]).inc();
    }

    /// Counts a request that the admin API does not admit.
    pub fn count_admin_denial(&self, reason: AdminDenial) {
        self.process.admin_denied.with_label_values(&[reason.label()]).inc();
    }

    /// The limits that this policy has decided because the store did not answer.
    pub fn decided_by(&self, policy: OnError) -> u64 {
        self.process.degraded.with_label_values(&[policy.name()]).get()
    }

    /// Counts a call to the counter store that took `time`.
    fn count_store_call(&self, time: Duration, succeeded: bool) {
        self.process.store_time.observe(time.as_secs_f64());
        if !succeeded {
            self.process.store_failures.inc();
        }
    }

    /// Counts a successful load of `rules` and creates their series. Must be called
    /// before the rules become active. Series of rules that are not in `rules` are
    /// dropped, except those named by values of requests, which stay until the process
    /// ends.
    pub fn install_rules(&self, rules: &RuleTree) {
        self.series.install(rules);
        self.unmatched.install(rules);
        self.checks.install(rules);
        self.process.load_attempts.inc();
        self.process.loads.inc();
        self.process.rules_rejected.set(0);
        self.process.rules.set(i64::try_from(rules.rules().len()).unwrap_or(i64::MAX));
    }

    /// Shows which rules are active, and that they were loaded at `now`.
    pub fn set_active_rules(&self, rules: &RuleTree, now: Timestamp) {
        self.process.rules_info.reset();
        self.process.rules_info.with_label_values(&[rules.digest()]).set(1);
        self.process.rules_loaded.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    }

    /// Counts a load whose rules were rejected.
    pub fn count_rejected_rules(&self) {
        self.process.load_attempts.inc();
        self.process.load_failures.inc();
        self.process.rejected_loads.inc();
        self.process.rules_rejected.set(1);
    }

    /// Counts a read of the rule files that did not end in time.
    pub fn count_hung_read(&self) {
        self.process.hung_reads.inc();
    }

    /// Counts `count` lines that are missing in the decision log.
    pub fn count_lost_decisions(&self, reason: LostDecision, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.process.decisions_lost.with_label_values(&[reason.label()]).inc_by(count);
    }

    /// Counts `count` spans that are not delivered to the collector.
    pub fn count_lost_spans(&self, reason: LostSpan, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.process.spans_lost.with_label_values(&[reason.label()]).inc_by(count);
    }

    /// Sets whether there is a connection to the xDS management server.
    pub fn set_xds_connected(&self, connected: bool) {
        let xds = self.xds.get_or_init(|| XdsStatistics::register(&self.registry));
        xds.connected.set(connected.into());
    }

    /// Counts a load of TLS files that are active at `listener` from now on. `not_after` is
    /// the expiry of the certificate, if it is known.
    pub fn count_certificate_load(&self, listener: &'static str, not_after: Option<Timestamp>) {
        let seconds = not_after.map_or(0, Timestamp::as_secs);
        let certificates = self.certificates();
        let label = &[listener];
        certificates.loads.with_label_values(label).inc();
        certificates.rejected.with_label_values(label).set(0);
        let not_after = certificates.not_after.with_label_values(label);
        not_after.set(i64::try_from(seconds).unwrap_or(i64::MAX));
        // Shown from the start.
        certificates.rejected_loads.with_label_values(label).inc_by(0);
        certificates.failed_handshakes.with_label_values(label).inc_by(0);
    }

    /// Counts a load of TLS files that were rejected.
    pub fn count_rejected_certificate(&self, listener: &'static str) {
        let certificates = self.certificates();
        certificates.rejected_loads.with_label_values(&[listener]).inc();
        certificates.rejected.with_label_values(&[listener]).set(1);
    }

    /// Counts a connection whose TLS handshake failed.
    pub fn count_failed_handshake(&self, listener: &'static str) {
        self.certificates().failed_handshakes.with_label_values(&[listener]).inc();
    }

    fn certificates(&self) -> &CertificateStatistics {
        self.certificates.get_or_init(|| CertificateStatistics::register(&self.registry))
    }

    /// The Prometheus page, in chunks. Series of rules are read chunk by chunk, so that
    /// later chunks may include later requests.
    pub fn prometheus(&self) -> impl Iterator<Item = String> + Send + use<> {
        let mut families = self.gather();
        families.extend(process_usage::families());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        if self.response_time_unit == TimeUnit::Milliseconds {
            latency::to_milliseconds(&mut families);
        }
        self.tags.add_labels(&mut families);
        // Writing to memory does not fail.
        let text = TextEncoder::new().encode_to_string(&families).unwrap_or_default();
        self.series.prometheus(self.tags.label_text()).chain([text])
    }

    /// The statistics of rules under their statsd names, one per line, in chunks.
    pub fn rule_stats(&self) -> impl Iterator<Item = String> + Send + use<> {
        self.series.stat_lines()
    }

    /// The statistics of the process and of the store under their statsd names, one per
    /// line, without times.
    pub fn process_stats(&self) -> String {
        let mut text = String::new();
        for Sample { name, value } in self.samples() {
            let _ = match value {
                SampleValue::Count(count) => writeln!(text, "{name}: {count}"),
                SampleValue::Level(level) => writeln!(text, "{name}: {level}"),
                SampleValue::Times(_) => Ok(()),
            };
        }
        text
    }

    /// The current value of each statistic, except those of rules.
    pub fn samples(&self) -> Vec<Sample> {
        samples::samples(&self.gather())
    }

    /// All families except those of rules, in order of their names.
    fn gather(&self) -> Vec<MetricFamily> {
        let mut families = self.registry.gather();
        families.extend(store_statistics::families(&self.store));
        families.sort_by(|a, b| a.name().cmp(b.name()));
        families
    }
}
