//! Statistics of the certificates for gRPC.

use std::sync::OnceLock;

use prometheus::{IntCounter, IntGauge, Registry};

use super::register;
use crate::time::Timestamp;

/// Made when there are certificates.
#[derive(Debug, Default)]
pub(super) struct Certificates(OnceLock<Statistics>);

#[derive(Debug)]
pub(super) struct Statistics {
    pub(super) loads: IntCounter,
    pub(super) failed_loads: IntCounter,
    pub(super) rejected: IntGauge,
    pub(super) not_after: IntGauge,
    pub(super) failed_handshakes: IntCounter,
}

impl Certificates {
    pub(super) fn of(&self, registry: &Registry) -> &Statistics {
        let counter = |name, help| {
            register(registry, IntCounter::new(name, help).expect("every name here is legal"))
        };
        let gauge = |name, help| {
            register(registry, IntGauge::new(name, help).expect("every name here is legal"))
        };
        self.0.get_or_init(|| Statistics {
            loads: counter(
                "tollgate_certificate_load_success",
                "How often certificates for gRPC were put in force.",
            ),
            failed_loads: counter(
                "tollgate_certificate_load_error",
                "How often certificates for gRPC were refused: not a pair, ended, or not to be \
                 read.",
            ),
            rejected: gauge(
                "tollgate_certificate_rejected",
                "1 while the files of certificates cannot be used and older ones are in force.",
            ),
            not_after: gauge(
                "tollgate_certificate_not_after_seconds",
                "When the certificate for gRPC that is in force ends, in seconds since 1970.",
            ),
            failed_handshakes: counter(
                "tollgate_failed_handshakes",
                "Connections for gRPC that came to nothing as the client did not speak TLS as \
                 it should, or had no certificate that is good here.",
            ),
        })
    }
}

impl Statistics {
    pub(super) fn loaded(&self, not_after: Option<Timestamp>) {
        self.loads.inc();
        self.rejected.set(0);
        let seconds = not_after.map_or(0, Timestamp::as_secs);
        self.not_after.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }
}
