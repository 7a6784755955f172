//! The counters and times of calls, by method.

use std::{sync::OnceLock, time::Duration};

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};

/// A method with statistics of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedMethod {
    /// Envoy's rate-limit service.
    ShouldRateLimit,
    /// A gRPC health check.
    HealthCheck,
    /// The list of all gRPC health checks.
    HealthList,
    /// Envoy's external authorization.
    ExtAuthz,
    /// `POST /json`.
    Json,
    /// The HTTP check.
    Check,
}

impl CountedMethod {
    const COUNT: usize = Self::Check as usize + 1;

    const fn label(self) -> &'static str {
        match self {
            Self::ShouldRateLimit => "ShouldRateLimit",
            Self::HealthCheck => "Check",
            Self::HealthList => "List",
            Self::ExtAuthz => "ext_authz",
            Self::Json => "json",
            Self::Check => "check",
        }
    }
}

/// The series of all methods. Those of a method are shown from its first call on.
#[derive(Debug)]
pub(super) struct CallCounters {
    calls: IntCounterVec,
    times: HistogramVec,
    /// Kept, because a lookup by labels takes longer than all else that is counted.
    by_method: [OnceLock<MethodSeries>; CountedMethod::COUNT],
}

#[derive(Debug)]
struct MethodSeries {
    calls: IntCounter,
    times: Histogram,
}

impl CallCounters {
    /// No series; `calls` and `times` have one label.
    pub(super) fn new(calls: IntCounterVec, times: HistogramVec) -> Self {
        Self { calls, times, by_method: Default::default() }
    }

    /// Counts a call that took `time`.
    pub(super) fn count(&self, method: CountedMethod, time: Duration) {
        let Some(series) = self.by_method.get(method as usize) else { return };
        let series = series.get_or_init(|| MethodSeries {
            calls: self.calls.with_label_values(&[method.label()]),
            times: self.times.with_label_values(&[method.label()]),
        });
        series.calls.inc();
        series.times.observe(time.as_secs_f64());
    }
}
