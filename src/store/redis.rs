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

use std::{fmt, sync::Arc, time::Duration};

use redis::{RedisError, Script, Value, cmd};
use smallvec::smallvec;
use tokio::{select, task::JoinSet, time::Instant};

use self::{
    call::{Call, Kind, Reply},
    calls::{Calls, Place, Servers},
    cluster::Cluster,
    node::{Node, NodeError},
    pulse::Pulse,
    settler::Late,
    slots::slot,
    target::Target,
    traffic::Traffic,
};
use crate::{
    counter::{CounterKey, CounterRef},
    limit::{Hits, Limit, Outcome, Unit, Window, step},
    store::{
        Charge, Counters, Deadline, EXPIRY_SLACK, PoolUsage, Results, Store, StoreError,
        StoreStats, peek_charge, script::Settlement, single_result,
    },
    time::Timestamp,
};

mod batch;
#[cfg(test)]
mod between_places;
mod breaker;
mod call;
mod calls;
mod charge;
mod cluster;
mod complaints;
mod connection;
mod fate;
mod fixed_window;
mod groups;
mod jitter;
mod lane;
mod line;
mod node;
mod parts;
mod probe;
mod pulse;
mod reservation;
mod sentinels;
mod settings;
mod settle;
mod settler;
#[cfg(test)]
pub(crate) mod simulated;
mod slots;
mod sums;
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
    calls: Arc<Calls<Backends>>,
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
        let (late, unsettled) = Late::new();
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
        settler.spawn(settler::run(Arc::clone(&backends), late.shared(), unsettled));
        Self { calls: Arc::new(Calls::new(backends, late)), _settler: settler }
    }

    /// Waits until what calls have left behind is settled, for so long at most.
    pub async fn settle_pending(&self, most: Duration) {
        self.calls.late.finish(most).await;
    }
}

impl Backend {
    fn new(settings: &RedisSettings, (late, pulse): (&Late, &Pulse)) -> Self {
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
    fn backend(&self, place: Place) -> &Backend {
        match &self.per_second {
            Some(backend) if place.per_second => backend,
            _ => &self.main,
        }
    }

    fn tell(self: &Arc<Self>, readings: &StoreStats, late: &Late) {
        let (backends, counts) = (Arc::downgrade(self), late.clone());
        StoreStats::register(&readings.main, move || {
            let (refunded, failed_refunds) = counts.counts();
            let usage = backends.upgrade().map(|it| it.main.usage()).unwrap_or_default();
            PoolUsage { refunded, failed_refunds, ..usage }
        });
        if self.per_second.is_some() {
            let backends = Arc::downgrade(self);
            StoreStats::register(&readings.per_second, move || {
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
    fn place(&self, charge: &Charge) -> Place {
        let per_second = self.per_second.is_some() && is_per_second(&charge.limit);
        let place = Place { per_second, slot: 0 };
        match self.backend(place).servers {
            BackendServers::One(_) => place,
            BackendServers::Cluster(_) => {
                Place { slot: slot(charge.counter.key.as_bytes()), ..place }
            }
        }
    }

    fn server(&self, place: Place) -> u32 {
        let number = match &self.backend(place).servers {
            BackendServers::One(_) => 0,
            BackendServers::Cluster(cluster) => cluster.number_of_owner(place.slot),
        };
        2 * u32::from(number) + u32::from(place.per_second)
    }

    fn goes_apart(&self, place: Place) -> bool {
        matches!(self.backend(place).servers, BackendServers::Cluster(_))
    }

    async fn call(&self, place: Place, call: &Arc<Call>, until: Instant) -> Reply {
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
        self.calls.charge(charges, now, deadline).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        let Backends { main, per_second, .. } = &*self.calls.servers;
        let Some(per_second) = per_second else { return main.ready().await };
        match tokio::join!(main.ready(), per_second.ready()) {
            (_, Err(unfit @ StoreError::Misconfigured(_))) => Err(unfit),
            (main, per_second) => main.and(per_second),
        }
    }

    async fn task_failed(&self) {
        let Backends { main, per_second, .. } = &*self.calls.servers;
        let per_second = async {
            match per_second {
                Some(per_second) => per_second.died().await,
                None => std::future::pending().await,
            }
        };
        select! {
            () = main.died() => {}
            () = per_second => {}
            () = self.calls.late.abandoned() => {}
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
        let Backends { main, per_second, .. } = &*self.calls.servers;
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
        let servers = &self.calls.servers;
        let place = servers.place(&charge);
        let kind = Kind::Settle(smallvec![Settlement::Set(used.min(Hits::MAX))]);
        let call = Arc::new(Call::with(smallvec![charge], now, kind));
        let until = Instant::now() + servers.timeout;
        servers.call(place, &call, until).await?;
        Ok(())
    }
}
/// A script.
struct Twin {
    source: String,
    script: Script,
}

impl fmt::Debug for Twin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Twin").field(&self.script.get_hash()).finish()
    }
}

impl Twin {
    fn new(source: String) -> Self {
        Self { script: Script::new(&source), source }
    }

    /// How a command begins that runs it on a server that knows it.
    fn by_name(&self) -> [&str; 2] {
        ["EVALSHA", self.script.get_hash()]
    }

    /// How a command begins that runs it on any server.
    fn whole(&self) -> [&str; 2] {
        ["EVAL", &self.source]
    }
}

/// A script of these `parts`, which may use all algorithms.
fn script(parts: &[&str]) -> String {
    [include_str!("redis/lua/numbers.lua"), &step::lua(), &parts.concat()].concat()
}

/// What `answer` says, unless it is an error.
fn sound(answer: Value) -> Result<Value, NodeError> {
    match answer {
        Value::ServerError(error) => Err(NodeError::from(&RedisError::from(error))),
        answer => Ok(answer),
    }
}

/// The list that `answer` is: one element for each of so many charges.
fn elements(answer: Value, expected: usize) -> Result<Vec<Value>, NodeError> {
    let elements = match sound(answer)? {
        Value::Array(elements) => elements,
        _ => return Err(StoreError::Failed("the answer is not a list of counters".into()).into()),
    };
    if elements.len() != expected {
        let found = elements.len();
        let error = format!("the answer has {found} counters, expected {expected}");
        return Err(StoreError::Failed(error).into());
    }
    Ok(elements)
}

/// How many milliseconds a counter of a fixed window is kept from now on.
fn kept(charge: &Charge, now: Timestamp) -> u64 {
    let micros = (charge.counter.span.end.since(now) + EXPIRY_SLACK).as_micros();
    u64::try_from(micros.div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// The number that `value` is, if a script may have meant it.
fn number(value: &Value) -> Option<u64> {
    match *value {
        Value::Int(it) => u64::try_from(it).ok().filter(|it| *it <= Hits::MAX),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
