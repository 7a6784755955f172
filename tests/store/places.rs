//! Engines, as the service puts them together, whose counters are wherever a
//! deployment may have them. All that depends on how stores are built is here.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use testkit::{
    redis::RedisServer,
    redis_cluster::{Cluster, Sentinels},
};
use tollgate::{
    config::{self, CompileOptions, SourceFile},
    counter::KeyFormat,
    descriptor::{Descriptor, Entry, Request},
    engine::{
        Engine, SharedRules,
        decision::{Decision, Mode},
        fallback::{Fallback, FallbackSettings},
    },
    limit::Hits,
    store::{
        Store, StoreError, StoreStats,
        deny_cache::DenyCache,
        memory::Memory,
        prefetch::PrefetchStore,
        redis::{Redis, RedisSettings, RedisType},
    },
    time::Clock,
};

/// Long enough that only a server that does not answer exceeds it.
pub(crate) const PATIENT: Duration = Duration::from_secs(10);

/// Where counters are in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    One,
    /// Those of limits per second in a server of their own.
    PerSecond,
    /// Of three nodes.
    Cluster,
    /// In a master that Sentinels know.
    Sentinels,
}

impl Place {
    /// Those where a request may need more than one server.
    pub(crate) const APART: [Self; 2] = [Self::Cluster, Self::PerSecond];
}

/// Servers of one kind. They end with this.
#[derive(Debug)]
pub(crate) enum Servers {
    One(RedisServer),
    PerSecond(RedisServer, RedisServer),
    Cluster(Cluster),
    Sentinels(Box<Sentinels>),
}

impl Servers {
    pub(crate) fn start(place: Place) -> Self {
        match place {
            Place::One => Self::One(RedisServer::start()),
            Place::PerSecond => Self::PerSecond(RedisServer::start(), RedisServer::start()),
            Place::Cluster => Self::Cluster(Cluster::start(3)),
            Place::Sentinels => Self::Sentinels(Box::new(Sentinels::start())),
        }
    }

    /// Another instance's way to them. It works.
    pub(crate) async fn store(&self, timeout: Duration) -> Shared {
        let store = match self {
            Self::One(server) => Shared::new(RedisType::Single, &server.url(), None, timeout),
            Self::PerSecond(main, second) => {
                Shared::new(RedisType::Single, &main.url(), Some(&second.url()), timeout)
            }
            Self::Cluster(cluster) => {
                Shared::new(RedisType::Cluster, &cluster.url(), None, timeout)
            }
            Self::Sentinels(all) => Shared::new(RedisType::Sentinel, &all.url(), None, timeout),
        };
        store.ready().await;
        store
    }

    /// Connections to those that have counters.
    pub(crate) fn clients(&self) -> Vec<redis::Connection> {
        let at = |port: u16| {
            let client = redis::Client::open(format!("redis://127.0.0.1:{port}"));
            let client = client.expect("the URL is valid").get_connection();
            client.expect("the server runs")
        };
        match self {
            Self::One(server) => vec![server.client()],
            Self::PerSecond(main, second) => vec![main.client(), second.client()],
            Self::Cluster(cluster) => cluster.primaries.iter().map(|it| at(it.port)).collect(),
            Self::Sentinels(all) => vec![at(all.master_port())],
        }
    }
}

/// A way to Redis that several engines use, one after the other or together.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Redis>);

impl Shared {
    /// A way to `url`, and for limits per second to that of their own.
    pub(crate) fn new(
        kind: RedisType,
        url: &str,
        per_second: Option<&str>,
        timeout: Duration,
    ) -> Self {
        let main = RedisSettings::from_url(kind, url, None, timeout).expect("the URL is valid");
        let per_second =
            per_second.map(|it| RedisSettings::parse(it, None, timeout).expect("the URL is valid"));
        Self(Arc::new(Redis::with_per_second(&main, per_second.as_ref(), &StoreStats::default())))
    }

    pub(crate) async fn ready(&self) {
        let begin = Instant::now();
        while let Err(error) = self.0.ready().await {
            assert!(begin.elapsed() < Duration::from_secs(20), "{error}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// One that the service would have: with hits taken ahead, and with as many bytes
/// for refusals.
pub(crate) type Counters = DenyCache<PrefetchStore<Arc<Redis>>>;

pub(crate) fn counters(store: Shared, bytes: usize) -> Counters {
    DenyCache::new(PrefetchStore::new(store.0), bytes)
}

pub(crate) fn memory() -> Memory {
    Memory::new(1 << 20)
}

/// What `text` says.
pub(crate) fn rules(text: &str) -> SharedRules {
    let file = SourceFile { name: "rules.yaml".into(), bytes: text.into() };
    match config::compile(&[file], CompileOptions::default()) {
        Ok(compiled) => Arc::new(ArcSwap::from_pointee(compiled.rules)),
        Err(mistakes) => unreachable!("{mistakes}\n{text}"),
    }
}

/// One that decides by `text`, and by nothing but the store.
pub(crate) fn engine<S: Store>(
    text: &str,
    store: S,
    clock: &Arc<impl Clock + 'static>,
) -> Engine<S> {
    Engine {
        rules: rules(text),
        store,
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        keys: KeyFormat::default(),
        mode: Mode::default(),
        fallback: Fallback::new(FallbackSettings::default()),
    }
}

/// An element of a request's list.
pub(crate) fn descriptor(key: &str, value: &str, hits: Hits) -> Descriptor {
    let entry =
        Entry { key: key.as_bytes().to_vec().into(), value: value.as_bytes().to_vec().into() };
    Descriptor { entries: vec![entry], hits: hits.capped(), has_own_hits: true, limit: None }
}

/// A request about `keys`, one hit each, of one user.
pub(crate) fn ask(keys: &[&str]) -> Request {
    asking(keys.iter().map(|it| descriptor(it, "ann", Hits::Add(1))).collect())
}

pub(crate) fn asking(descriptors: Vec<Descriptor>) -> Request {
    Request { domain: "game".into(), descriptors, hits_addend: 0 }
}

/// The same with a `deadline` where policies decide.
pub(crate) fn within<S: Store>(deadline: Duration, engine: Engine<S>) -> Engine<S> {
    let settings = FallbackSettings { deadline, ..FallbackSettings::default() };
    Engine { fallback: Fallback::new(settings), ..engine }
}

/// How many of so many requests pass, all at the same time.
pub(crate) async fn passed_at_once<S: Store>(
    engine: &Engine<S>,
    request: &Request,
    times: usize,
) -> usize {
    let all = (0..times).map(|_| engine.decide(request, None));
    let all = futures_util::future::join_all(all).await;
    let passes = |it: &Result<Decision, StoreError>| it.as_ref().is_ok_and(|it| !it.over_limit);
    all.iter().filter(|it| passes(it)).count()
}

/// What remains of `key`, of which nothing is taken.
pub(crate) async fn remaining<S: Store>(engine: &Engine<S>, key: &str) -> u32 {
    let look = asking(vec![descriptor(key, "ann", Hits::Add(0))]);
    let decision = engine.decide(&look, None).await.expect("the servers answer");
    decision.verdicts[0].status().expect("a limit applies").outcome.remaining
}

/// How many of so many requests pass, one after the other.
pub(crate) async fn passed<S: Store>(engine: &Engine<S>, request: &Request, times: usize) -> usize {
    let mut passed = 0;
    for _ in 0..times {
        let decision = engine.decide(request, None).await.expect("the servers answer");
        passed += usize::from(!decision.over_limit);
    }
    passed
}

/// Waits for what soon holds and then goes on to hold: servers may still be busy with
/// calls whose callers are gone.
pub(crate) async fn settles<T: PartialEq + std::fmt::Debug>(
    expected: T,
    mut ask: impl AsyncFnMut() -> T,
) {
    let begin = Instant::now();
    let mut found = ask().await;
    while found != expected && begin.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        found = ask().await;
    }
    assert_eq!(found, expected);
}
