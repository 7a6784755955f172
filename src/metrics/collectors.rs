//! Every statistic that is there from the start: its name, its labels, and what it
//! says.

use std::sync::OnceLock;

use parking_lot::Mutex;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, core::Collector,
};

use super::{
    ErrorType, LostSpan, Metrics,
    certificates::Certificates,
    latency::{self, LATENCIES},
    pools::Pools,
    series::SeriesTable,
    tags::Tags,
};
use crate::{rules::spec::OnError, store::StoreStats};

impl Metrics {
    /// Nothing counted yet. A hit beyond `near_limit_ratio` of its limit
    /// counts as near.
    #[expect(clippy::too_many_lines, reason = "it is a table")]
    pub fn new(near_limit_ratio: f32) -> Self {
        let registry = Registry::new();
        let build = GaugeVec::new(
            Opts::new("tollgate_build_info", "Always 1; the version is in the label."),
            &["version"],
        )
        .expect("its name and label are legal");
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        register(&registry, build);
        let counter = |name, help| {
            register(&registry, IntCounter::new(name, help).expect("every name here is legal"))
        };
        let gauge = |name, help| {
            register(&registry, IntGauge::new(name, help).expect("every name here is legal"))
        };
        let by = |label, name, help| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label]);
            register(&registry, counters.expect("every name here is legal"))
        };
        let seconds = |name, help| HistogramOpts::new(name, help).buckets(LATENCIES.to_vec());
        let rules = SeriesTable::new(counter(
            "tollgate_series_folded",
            "Descriptors counted as `other` because there were too many series.",
        ));
        let metrics = Self {
            near_limit_ratio,
            rules,
            deny_cache: OnceLock::new(),
            pools: Pools::default(),
            readings: StoreStats::default(),
            measuring: Mutex::default(),
            tags: Tags::default(),
            in_milliseconds: false,
            certificates: Certificates::default(),
            total_requests: by(
                "grpc_method",
                "ratelimit_service_total_requests",
                "Calls answered, by method.",
            ),
            response_time: register(
                &registry,
                HistogramVec::new(
                    seconds(
                        latency::RESPONSE_TIME,
                        "From the decoded request to the reply, by method.",
                    ),
                    &["grpc_method"],
                )
                .expect("its name and label are legal"),
            ),
            errors: by(
                "err_type",
                "ratelimit_service_should_rate_limit_error",
                "Requests without a decision: service_error is the caller's mistake, redis_error \
                 a store that did not answer.",
            ),
            domain_not_found: counter(
                "ratelimit_service_rate_limit_domain_not_found",
                "Descriptors of domains that no rule file names.",
            ),
            shadowed: counter(
                "ratelimit_service_global_shadow_mode",
                "Requests over the limit that passed because SHADOW_MODE is on.",
            ),
            loads: counter(
                "ratelimit_service_config_load_success",
                "How often rules were put in force.",
            ),
            failed_loads: counter(
                "ratelimit_service_config_load_error",
                "How often rules were refused: with mistakes in them, or not to be read.",
            ),
            load_attempts: counter(
                "runtime_load_attempts",
                "How often new rules have come, whatever became of them.",
            ),
            load_failures: counter(
                "runtime_load_failures",
                "How often they were refused, as in ratelimit_service_config_load_error.",
            ),
            rejected: gauge(
                "tollgate_rules_rejected",
                "1 while the rule files cannot be used and older rules are in force.",
            ),
            rule_count: gauge("tollgate_rules", "Rules in force."),
            xds_connected: gauge(
                "tollgate_xds_connected",
                "1 while there is a connection to the server that rules come from by xDS, else 0.",
            ),
            store_time: register(
                &registry,
                Histogram::with_opts(seconds(
                    "tollgate_store_seconds",
                    "What the counter store took for all counters of a request.",
                ))
                .expect("its name is legal"),
            ),
            store_failures: counter(
                "tollgate_store_failures",
                "Calls to the counter store that failed, or that were given up as they took too long.",
            ),
            late: counter(
                "tollgate_late_answers",
                "Calls by gRPC whose caller had given up before they were answered.",
            ),
            degraded: by(
                "policy",
                "tollgate_degraded",
                "Limits decided without the counter store, as it did not answer, by what on_error \
                 says.",
            ),
            spans_lost: by(
                "reason",
                "tollgate_spans_lost",
                "Spans recorded that did not reach the collector.",
            ),
            counters: gauge(
                "tollgate_memory_counters",
                "Counters kept in memory, with Redis those of `local`, including those that have ended and wait to be dropped.",
            ),
            bytes: gauge(
                "tollgate_memory_bytes",
                "Bytes that the counters kept in memory count as, of MEMORY_MAX_BYTES.",
            ),
            evicted: counter(
                "tollgate_memory_evicted",
                "Counters dropped before their window ended, because memory was full. If it grows, raise MEMORY_MAX_BYTES.",
            ),
            not_kept: counter(
                "tollgate_memory_not_kept",
                "Charges decided and not counted, because memory was full of counters that refuse. If it grows, raise MEMORY_MAX_BYTES.",
            ),
            registry,
        };
        for policy in OnError::ALL {
            metrics.degraded.with_label_values(&[policy.name()]);
        }
        for reason in [LostSpan::QueueFull, LostSpan::ExportFailed] {
            metrics.count_lost_spans(reason, 0);
        }
        for error in [ErrorType::Service, ErrorType::Store] {
            metrics.errors.with_label_values(&[error.label()]);
        }
        metrics
    }
}

pub(super) fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry.register(Box::new(collector.clone())).expect("every name is registered once");
    collector
}
