//! The backends of a store: one for all limits, or a second one for limits per second.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{select, time::Instant};

use super::{
    backend::Backend,
    backend_context::BackendContext,
    call::{Call, CallResult},
    run_clock::RunClock,
    servers::{CounterLocation, Servers},
    settings::RedisSettings,
    settler::SettlementQueue,
};
use crate::{
    limit::{Limit, Unit, Window},
    store::{Charge, PoolUsage, StoreStats},
};

#[derive(Debug)]
pub(super) struct Backends {
    pub(super) main: Backend,
    pub(super) per_second: Option<Backend>,
    /// The longer of the timeouts of both.
    timeout: Duration,
    run_clock: RunClock,
}

impl Backends {
    pub(super) fn new(
        main: &RedisSettings,
        per_second: Option<&RedisSettings>,
        settlements: &SettlementQueue,
    ) -> Self {
        let run_clock = RunClock::start();
        let backend = |settings: &RedisSettings| {
            Backend::new(settings, BackendContext::new(run_clock.clone(), settlements.clone()))
        };
        let mut timeout = main.timeout;
        if let Some(per_second) = per_second {
            timeout = timeout.max(per_second.timeout);
        }
        let (main, per_second) = (backend(main), per_second.map(backend));
        Self { main, per_second, timeout, run_clock }
    }

    fn backend(&self, location: CounterLocation) -> &Backend {
        match &self.per_second {
            Some(backend) if location.per_second => backend,
            _ => &self.main,
        }
    }

    /// Registers the statistics of each backend. Refunds are counted with the main one.
    pub(super) fn register_stats(self: &Arc<Self>, stats: &StoreStats, refunds: &SettlementQueue) {
        let (backends, refunds) = (Arc::downgrade(self), refunds.stats());
        stats.main.register(move || {
            let (refunded, failed_refunds) = (refunds.refunded(), refunds.failed());
            PoolUsage { refunded, failed_refunds, ..main_usage(&backends) }
        });
        if self.per_second.is_some() {
            let backends = Arc::downgrade(self);
            stats.per_second.register(move || per_second_usage(&backends));
        }
    }

    /// Returns once a task of a backend has ended.
    pub(super) async fn task_ended(&self) {
        let Some(per_second) = &self.per_second else { return self.main.task_ended().await };
        select! {
            () = self.main.task_ended() => {}
            () = per_second.task_ended() => {}
        }
    }
}

fn main_usage(backends: &Weak<Backends>) -> PoolUsage {
    match backends.upgrade() {
        Some(backends) => backends.main.usage(),
        None => PoolUsage::default(),
    }
}

fn per_second_usage(backends: &Weak<Backends>) -> PoolUsage {
    let Some(backends) = backends.upgrade() else { return PoolUsage::default() };
    backends.per_second.as_ref().map(Backend::usage).unwrap_or_default()
}

/// Returns whether the counters of `limit` expire so soon that they need not survive a
/// restart of Redis.
fn is_per_second(limit: &Limit) -> bool {
    let has_short_state = limit.algorithm.info().window && limit.penalty.is_zero();
    has_short_state && limit.window == Window::new(Unit::Second)
}

impl Servers for Backends {
    fn locate(&self, charge: &Charge) -> CounterLocation {
        let per_second = self.per_second.is_some() && is_per_second(&charge.limit);
        let location = CounterLocation { per_second, slot: 0 };
        CounterLocation { slot: self.backend(location).slot(&charge.counter.key), ..location }
    }

    fn owner(&self, location: CounterLocation) -> u32 {
        let index = self.backend(location).owner_index(location.slot);
        2 * u32::from(index) + u32::from(location.per_second)
    }

    fn splits_by_counter(&self, location: CounterLocation) -> bool {
        self.backend(location).is_cluster()
    }

    async fn send(
        &self,
        location: CounterLocation,
        call: &Arc<Call>,
        until: Instant,
    ) -> CallResult {
        self.backend(location).call(location.slot, call, until).await
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn run_clock(&self) -> &RunClock {
        &self.run_clock
    }
}
