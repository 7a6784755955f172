//! Counters in Redis, shared by every instance that uses the same server.
//!
//! Calls that come at the same time share a round trip, and one call is in one
//! script, so nobody else is served between two of its charges. Only a call whose
//! counters are on two servers or in two slots of a cluster, or are too many, is made
//! in parts (`reservation`). There are three scripts: one for calls that only count in
//! fixed windows, one for all others, and one that settles what calls leave behind. What
//! is kept is never without an expiry, which may be put off at [random](Jitter):
//!
//! | what                    | as                        | until, and a [second](EXPIRY_SLACK) more    |
//! |-------------------------|---------------------------|--------------------------------------|
//! | fixed window            | an integer, as of INCRBY; with a penalty `start:count` | its end |
//! | sliding window          | `start:before:current`    | the end of the last that it counts in |
//! | bucket                  | `moment:level:cost`       | it is empty                          |
//! | log, calls at once      | a ring, in bytes          | the last lease ends                  |
//! | a ban, behind the state | `!since`                  | the penalty ends                     |
//! | what a call holds, behind that | `&call:hits:until` | then                                 |
//!
//! A call is sent once. The only exception is a server that does not know the
//! script, after a restart for example: it has counted nothing, and is sent the
//! script along with the call.

use std::{sync::Arc, time::Duration};

use redis::{Value, cmd};
use smallvec::smallvec;
use tokio::{select, task::JoinSet, time::Instant};

use self::{
    call::{Call, CallKind, CallResult},
    cluster::Cluster,
    dispatcher::{Dispatcher, Location, Servers},
    node::Node,
    pulse::Pulse,
    settler::SettlementQueue,
    slots::slot,
    target::Target,
    traffic::Traffic,
};
use crate::{
    counter::{CounterKey, CounterRef},
    limit::{Hits, Limit, Outcome, Unit, Window},
    store::{
        Charge, Counters, Deadline, PoolUsage, Results, Store, StoreError, StoreStats, peek_charge,
        script::Settlement, single_result,
    },
    time::Timestamp,
};

mod batch;
mod batcher;
#[cfg(test)]
mod between_places;
mod breaker;
mod call;
mod cluster;
mod coalesced;
mod complaints;
mod connection;
mod count;
mod decide;
mod dispatcher;
mod executor;
mod fate;
mod groups;
mod jitter;
mod lane;
mod limits;
mod line;
mod lua_script;
mod node;
mod node_error;
mod probe;
mod pulse;
mod replies;
mod reservation;
mod sentinels;
mod settings;
mod settle;
mod settler;
#[cfg(test)]
pub(crate) mod simulated;
mod slots;
mod target;
mod tls;
mod traffic;
#[cfg(test)]
mod twins;
mod views;
mod wire;

pub use self::jitter::Jitter;
pub use self::settings::{Login, RedisAddress, RedisServers, RedisSettings, RedisType};
pub use self::tls::{ClientCertificate, RedisTls};

/// Counters in Redis, those of limits per second perhaps in another one: they are
/// many, and need not be kept anywhere but in memory.
#[derive(Debug)]
pub struct Redis {
    dispatcher: Arc<Dispatcher<Backends>>,
    /// Ends with this.
    _settler: JoinSet<()>,
}

/// Where counters are.
#[derive(Debug)]
struct Backends {
    main: Backend,
    per_second: Option<Backend>,
    timeout: Duration,
    pulse: Pulse,
}

/// One Redis, which may be several servers.
#[derive(Debug)]
struct Backend {
    servers: BackendServers,
    traffic: Traffic,
    /// What shows that a server can decide.
    probe: String,
}

#[derive(Debug)]
enum BackendServers {
    One(Node),
    Cluster(Cluster),
}

impl Redis {
    /// A store on the servers that `settings` describe. They need not be running:
    /// tasks connect to them, now and whenever a connection is lost, until the
    /// store is dropped.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn new(settings: &RedisSettings) -> Self {
        Self::with_per_second(settings, None, &StoreStats::default())
    }

    /// The same, with limits per second on servers of their own if there are any, and
    /// telling `readings` how connections are doing.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn with_per_second(
        main: &RedisSettings,
        per_second: Option<&RedisSettings>,
        readings: &StoreStats,
    ) -> Self {
        let (late, unsettled) = SettlementQueue::new();
        let timeout = per_second.map_or(main.timeout, |it| it.timeout.max(main.timeout));
        let pulse = Pulse::start();
        let backends = Arc::new(Backends {
            main: Backend::new(main, (&late, &pulse)),
            per_second: per_second.map(|it| Backend::new(it, (&late, &pulse))),
            timeout,
            pulse,
        });
        backends.tell(readings, &late);
        let mut settler = JoinSet::new();
        settler.spawn(settler::run(Arc::clone(&backends), late.stats(), unsettled));
        Self { dispatcher: Arc::new(Dispatcher::new(backends, late)), _settler: settler }
    }

    /// Waits until what calls have left behind is settled, for so long at most.
    pub async fn settle_pending(&self, most: Duration) {
        self.dispatcher.late.drain(most).await;
    }
}

impl Backend {
    fn new(settings: &RedisSettings, (late, pulse): (&SettlementQueue, &Pulse)) -> Self {
        let traffic = Traffic::new(pulse.clone());
        let one =
            |target| BackendServers::One(Node::new(target, settings, false, (&traffic, late)));
        let servers = match &settings.servers {
            RedisServers::Cluster(seeds) => {
                let handles = (traffic.clone(), late.clone());
                BackendServers::Cluster(Cluster::new(seeds, settings, handles))
            }
            RedisServers::Single(address) => one(Target::fixed(address.clone(), settings)),
            RedisServers::Sentinel { master, sentinels } => {
                one(Target::guarded_by(master.clone(), sentinels, settings))
            }
        };
        Self { servers, traffic, probe: probe::key(&settings.key_prefix, 0) }
    }

    /// How the connections are doing.
    fn usage(&self) -> PoolUsage {
        let (waiting, silent) = match &self.servers {
            BackendServers::One(node) => (node.waiting(), node.is_silent().into()),
            BackendServers::Cluster(cluster) => cluster.waiting_and_silent(),
        };
        PoolUsage { waiting, unresponsive: silent, ..self.traffic.usage() }
    }

    /// Deletes a counter, and says whether there was one.
    async fn delete(&self, counter: &CounterKey) -> Result<bool, StoreError> {
        let command = cmd("DEL").arg(counter.as_bytes()).to_owned();
        let answer = match &self.servers {
            BackendServers::One(node) => node.ask(&command).await?,
            BackendServers::Cluster(cluster) => {
                cluster.ask_owner(slot(counter.as_bytes()), &command).await?
            }
        };
        Ok(matches!(answer, Value::Int(deleted) if deleted > 0))
    }

    async fn ready(&self) -> Result<(), StoreError> {
        match &self.servers {
            BackendServers::One(node) => Ok(node.decides(&self.probe).await?),
            BackendServers::Cluster(cluster) => cluster.ping().await,
        }
    }

    async fn died(&self) {
        match &self.servers {
            BackendServers::One(node) => node.died().await,
            BackendServers::Cluster(cluster) => cluster.died().await,
        }
    }
}

impl Backends {
    fn backend(&self, place: Location) -> &Backend {
        match &self.per_second {
            Some(backend) if place.per_second => backend,
            _ => &self.main,
        }
    }

    fn tell(self: &Arc<Self>, readings: &StoreStats, late: &SettlementQueue) {
        let (backends, counts) = (Arc::downgrade(self), late.clone());
        readings.main.register(move || {
            let (refunded, failed_refunds) = counts.refund_counts();
            let usage = backends.upgrade().map(|it| it.main.usage()).unwrap_or_default();
            PoolUsage { refunded, failed_refunds, ..usage }
        });
        if self.per_second.is_some() {
            let backends = Arc::downgrade(self);
            readings.per_second.register(move || {
                let backends = backends.upgrade();
                let usage = backends.and_then(|it| Some(it.per_second.as_ref()?.usage()));
                usage.unwrap_or_default()
            });
        }
    }
}

/// Whether the counter of a limit is kept with those per second: it is gone so soon that
/// it need not survive a restart.
fn is_per_second(limit: &Limit) -> bool {
    let brief = limit.algorithm.info().window && limit.penalty.is_zero();
    brief && limit.window == Window::new(Unit::Second)
}

impl Servers for Backends {
    fn locate(&self, charge: &Charge) -> Location {
        let per_second = self.per_second.is_some() && is_per_second(&charge.limit);
        let place = Location { per_second, slot: 0 };
        match self.backend(place).servers {
            BackendServers::One(_) => place,
            BackendServers::Cluster(_) => {
                Location { slot: slot(charge.counter.key.as_bytes()), ..place }
            }
        }
    }

    fn owner(&self, place: Location) -> u32 {
        let number = match &self.backend(place).servers {
            BackendServers::One(_) => 0,
            BackendServers::Cluster(cluster) => cluster.number_of_owner(place.slot),
        };
        2 * u32::from(number) + u32::from(place.per_second)
    }

    fn splits_by_counter(&self, place: Location) -> bool {
        matches!(self.backend(place).servers, BackendServers::Cluster(_))
    }

    async fn send(&self, place: Location, call: &Arc<Call>, until: Instant) -> CallResult {
        match &self.backend(place).servers {
            BackendServers::One(node) => node.call(call, until, false).await,
            BackendServers::Cluster(cluster) => cluster.call(place.slot, call, until).await,
        }
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn pulse(&self) -> &Pulse {
        &self.pulse
    }
}

impl Store for Redis {
    async fn charge(&self, charges: &[Charge], now: Timestamp, deadline: Deadline) -> Results {
        self.dispatcher.charge(charges, now, deadline).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        let Backends { main, per_second, .. } = &*self.dispatcher.servers;
        let Some(per_second) = per_second else { return main.ready().await };
        match tokio::join!(main.ready(), per_second.ready()) {
            (_, Err(unfit @ StoreError::Misconfigured(_))) => Err(unfit),
            (main, per_second) => main.and(per_second),
        }
    }

    async fn task_failed(&self) {
        let Backends { main, per_second, .. } = &*self.dispatcher.servers;
        let per_second = async {
            match per_second {
                Some(per_second) => per_second.died().await,
                None => std::future::pending().await,
            }
        };
        select! {
            () = main.died() => {}
            () = per_second => {}
            () = self.dispatcher.late.closed() => {}
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

    async fn reset(&self, counter: &CounterKey) -> Result<bool, StoreError> {
        // The name alone does not say on which Redis it is.
        let Backends { main, per_second, .. } = &*self.dispatcher.servers;
        let mut found = main.delete(counter).await?;
        if let Some(per_second) = per_second {
            found |= per_second.delete(counter).await?;
        }
        Ok(found)
    }

    async fn set(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        used: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let charge = peek_charge(counter, limit);
        let servers = &self.dispatcher.servers;
        let place = servers.locate(&charge);
        let kind = CallKind::Settle(smallvec![Settlement::Set(used.min(Hits::MAX))]);
        let call = Arc::new(Call::with_kind(smallvec![charge], now, kind));
        let until = Instant::now() + servers.timeout;
        servers.send(place, &call, until).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
