//! How the connections to Redis are doing.

use std::sync::OnceLock;

use prometheus::{IntCounter, IntGauge, Registry};

use super::register;
use crate::store::{PoolUsage, Pools as Usages};

/// Their statistics, made when there are connections.
#[derive(Debug, Default)]
pub(super) struct Pools {
    main: OnceLock<Pool>,
    per_second: OnceLock<Pool>,
}

/// The first three under the names of the reference service.
#[derive(Debug)]
struct Pool {
    active: IntGauge,
    opened: IntCounter,
    closed: IntCounter,
    waiting: IntGauge,
    silent: IntGauge,
    given_back: IntCounter,
    not_given_back: IntCounter,
}

impl Pools {
    /// Takes over how the connections are doing.
    pub(super) fn measured(&self, registry: &Registry, usages: &Usages) {
        for (pool, usage, name) in [
            (&self.main, &usages.main, "redis"),
            (&self.per_second, &usages.per_second, "redis_per_second"),
        ] {
            if let Some(usage) = usage {
                pool.get_or_init(|| Pool::new(registry, name)).set(usage);
            }
        }
    }
}

impl Pool {
    fn new(registry: &Registry, redis: &str) -> Self {
        let gauge = |name, help| {
            register(registry, IntGauge::new(name, help).expect("every name here is legal"))
        };
        let counter = |name, help| {
            register(registry, IntCounter::new(name, help).expect("every name here is legal"))
        };
        let pool = |name| format!("ratelimit_{redis}_pool_{name}");
        let own = |name| format!("tollgate_{redis}_{name}");
        Self {
            active: gauge(pool("cx_active"), "Connections to Redis that are open."),
            opened: counter(pool("cx_total"), "Connections to Redis that were made."),
            closed: counter(
                pool("cx_local_close"),
                "Connections to Redis that were made and are closed.",
            ),
            waiting: gauge(
                own("waiting"),
                "Calls that wait for others before they are sent to Redis.",
            ),
            silent: gauge(
                own("silent"),
                "Servers of Redis that do not answer or cannot be used: their calls fail at once.",
            ),
            given_back: counter(
                own("given_back"),
                "Counters to which hits were given back that were held, or granted too late.",
            ),
            not_given_back: counter(
                own("not_given_back"),
                "Counters to which such hits could not be given back: a server was gone.",
            ),
        }
    }

    fn set(&self, usage: &PoolUsage) {
        let &PoolUsage { active, opened, closed, waiting, unresponsive, refunded, failed_refunds } =
            usage;
        let levels =
            [(&self.active, active), (&self.waiting, waiting), (&self.silent, unresponsive)];
        for (gauge, level) in levels {
            gauge.set(i64::try_from(level).unwrap_or(i64::MAX));
        }
        let counts = [
            (&self.opened, opened),
            (&self.closed, closed),
            (&self.given_back, refunded),
            (&self.not_given_back, failed_refunds),
        ];
        for (counter, count) in counts {
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }
}
