//! How long calls took.

pub(super) const RESPONSE_TIME: &str = "ratelimit_service_response_time_seconds";

/// Seconds: the bounds of Envoy's reference service, and those below them that
/// memory needs.
pub(super) const LATENCIES: &[f64] = &[
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005,
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
