//! Counters in Redis, shared by every instance that uses the same server.
//!
//! Calls that arrive at the same time share a round trip. A call that only counts in fixed
//! windows takes a few plain commands for each counter, and a script for counters that these
//! cannot handle. Any other call is one run of a script, so no other call runs between two of
//! its charges; it is divided only if its counters are on two servers or in two slots of a
//! cluster, or if they are too many for one script (`reservation`). Another script settles
//! reservations and refunds. Every key has an expiry, with random [jitter](Jitter):
//!
//! | counter                      | value                                        | expires, [`EXPIRY_SLACK`](crate::store::EXPIRY_SLACK) after |
//! |------------------------------|----------------------------------------------|----------------------------------|
//! | fixed window                 | an integer for INCRBY; with a penalty `start:count` | the end of the window     |
//! | sliding window               | `start:before:current`                       | the last window it counts in     |
//! | bucket                       | `moment:level:cost`                          | the moment the bucket is empty   |
//! | log, concurrency             | a ring of binary records                     | the end of the last permit       |
//! | a ban, after the state       | `!since`                                     | the end of the penalty           |
//! | a reservation, after that    | `&call:hits:until`                           | `until`                          |
//!
//! A charge is never counted twice. A call is sent again only if it has counted nothing: if the
//! server does not know the script, if a node of a cluster redirects the call, or if the charge
//! was undecided because other calls held its hits.

use std::{sync::Arc, time::Duration};

use smallvec::smallvec;
use tokio::{select, task::JoinSet, time::Instant};

use self::{
    backends::Backends,
    call::{Call, CallKind},
    dispatcher::Dispatcher,
    servers::Servers,
    settler::SettlementQueue,
};
use crate::{
    counter::CounterRef,
    limit::{Limit, Outcome},
    store::{
        CallTime, ChangeError, Charge, CounterChange, Counters, Deadline, Results, Store,
        StoreError, StoreStats, peek_charge, single_result,
    },
    time::Timestamp,
};

mod backend;
mod backend_context;
mod backends;
mod batch;
mod batch_sender;
mod batcher;
#[cfg(test)]
mod cross_server_tests;
mod breaker;
mod call;
mod caller_guard;
mod cluster;
mod coalesced;
mod connect_options;
mod connection;
mod count;
mod count_reply;
mod decide;
mod direct_call;
mod dispatch_context;
mod dispatcher;
mod endpoint;
mod error_log;
mod executor;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod groups;
mod in_flight;
mod jitter;
mod keepalive;
mod lane;
mod lane_load;
mod limits;
mod lua_script;
mod managed_connection;
mod master_vote;
mod node;
mod node_error;
mod probe;
mod redis_executor;
mod replies;
mod reply_scanner;
mod reservation;
mod reservation_progress;
mod routing;
mod run_clock;
mod sentinels;
mod server_error;
mod servers;
mod settings;
mod settle;
mod settlement;
mod settler;
#[cfg(test)]
pub(crate) mod simulated;
mod slot_vote;
mod slots;
mod stream;
#[cfg(test)]
mod twins;

pub use self::jitter::Jitter;
pub use self::settings::{Login, RedisAddress, RedisServers, RedisSettings, RedisType};

/// A store in Redis. Counters of limits per second may be in a Redis of their own: they are
/// the most frequent, and need no persistence.
#[derive(Debug)]
pub struct Redis {
    dispatcher: Dispatcher<Backends>,
    /// Aborted when the store is dropped.
    _settler: JoinSet<()>,
}

impl Redis {
    /// Creates a store with one backend. It may be down: tasks connect to it, and reconnect
    /// whenever a connection is lost, until the store is dropped.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn new(settings: &RedisSettings) -> Self {
        Self::with_per_second(settings, None, &StoreStats::default())
    }

    /// Creates a store with a second backend for limits per second, if `per_second` is set.
    /// Registers the statistics of connections with `stats`.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn with_per_second(
        main: &RedisSettings,
        per_second: Option<&RedisSettings>,
        stats: &StoreStats,
    ) -> Self {
        let (settlements, pending) = SettlementQueue::new();
        let backends = Arc::new(Backends::new(main, per_second, &settlements));
        backends.register_stats(stats, &settlements);
        let mut settler = JoinSet::new();
        settler.spawn(settler::run(Arc::clone(&backends), settlements.stats(), pending));
        Self { dispatcher: Dispatcher::new(backends, settlements), _settler: settler }
    }

    /// Waits until all reservations are settled and all refunds are made, up to `timeout`. Calls
    /// whose limits depend on each other may fail meanwhile.
    pub async fn settle_pending(&self, timeout: Duration) {
        self.dispatcher.settle_pending(Instant::now() + timeout).await;
    }
}

impl Store for Redis {
    async fn charge(&self, charges: &[Charge], now: Timestamp, deadline: Deadline) -> Results {
        self.dispatcher.charge(charges, now, deadline).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        let Backends { main, per_second, .. } = self.dispatcher.servers();
        let Some(per_second) = per_second else { return main.ready().await };
        match tokio::join!(main.ready(), per_second.ready()) {
            // Waiting does not help, so this error has priority.
            (_, Err(error @ StoreError::Misconfigured(_))) => Err(error),
            (main, per_second) => main.and(per_second),
        }
    }

    async fn task_failed(&self) {
        select! {
            () = self.dispatcher.servers().task_ended() => {}
            () = self.dispatcher.settlements().closed() => {}
        }
    }
}

impl Counters for Redis {
    async fn peek(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        now: Timestamp,
    ) -> Result<Outcome, StoreError> {
        single_result(self.charge(&[peek_charge(counter, limit)], now, None).await)
    }

    async fn change(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        change: CounterChange,
        CallTime { now, deadline }: CallTime,
    ) -> Result<(), ChangeError> {
        let charge = peek_charge(counter, limit);
        let servers = self.dispatcher.servers();
        let location = servers.locate(&charge);
        let kind = CallKind::Settle(smallvec![change.settlement()]);
        let call = Arc::new(Call::with_kind(smallvec![charge], now, kind));
        let timeout = Instant::now() + servers.timeout();
        let deadline = deadline.map_or(timeout, |deadline| deadline.min(timeout));
        match servers.send(location, &call, deadline).await {
            Ok(_) => Ok(()),
            Err(error) if error.may_be_made() => Err(ChangeError::Unknown(error.into())),
            Err(error) => Err(ChangeError::Unchanged(error.into())),
        }
    }
}

#[cfg(test)]
mod tests;
