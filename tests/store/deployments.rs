//! Engines as the service builds them, with counters in every kind of Redis. Only this
//! file depends on how stores are built.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use testkit::{
    redis::RedisServer,
    redis_cluster::{Cluster, Sentinels},
    wait::eventually_async,
};
use tollgate::{
    config::{self, CompileOptions, SourceFile},
    counter::KeyFormat,
    descriptor::{Descriptor, Entry, Request},
    engine::{
        Engine, SharedRules,
        decision::Mode,
        fallback::{Fallback, FallbackSettings},
    },
    limit::Hits,
    store::{
        Store, StoreStats,
        deny_cache::DenyCache,
        memory::Memory,
        prefetch::PrefetchStore,
        redis::{Redis, RedisSettings, RedisType},
    },
    time::Clock,
};

/// Only calls to a server that does not answer take this long.
pub(crate) const PATIENT: Duration = Duration::from_secs(10);

/// A kind of Redis deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deployment {
    One,
    /// Two servers, one of them for limits per second.
    PerSecond,
    /// Three nodes.
    Cluster,
    /// A master with Sentinels.
    Sentinels,
}

impl Deployment {
    /// The deployments in which a request may need more than one server.
    pub(crate) const SEVERAL_SERVERS: [Self; 2] = [Self::Cluster, Self::PerSecond];
}

/// The servers of a deployment. They are killed when dropped.
#[derive(Debug)]
pub(crate) enum Servers {
    One(RedisServer),
    PerSecond(RedisServer, RedisServer),
    Cluster(Cluster),
    Sentinels(Box<Sentinels>),
}

impl Servers {
    pub(crate) fn start(deployment: Deployment) -> Self {
        match deployment {
            Deployment::One => Self::One(RedisServer::start()),
            Deployment::PerSecond => Self::PerSecond(RedisServer::start(), RedisServer::start()),
            Deployment::Cluster => Self::Cluster(Cluster::start(3)),
            Deployment::Sentinels => Self::Sentinels(Box::new(Sentinels::start())),
        }
    }

    /// A store that is connected to the servers, as that of another instance.
    pub(crate) async fn store(&self, timeout: Duration) -> SharedRedis {
        let store = match self {
            Self::One(server) => SharedRedis::new(RedisType::Single, &server.url(), None, timeout),
            Self::PerSecond(main, second) => {
                SharedRedis::new(RedisType::Single, &main.url(), Some(&second.url()), timeout)
            }
            Self::Cluster(cluster) => {
                SharedRedis::new(RedisType::Cluster, &cluster.url(), None, timeout)
            }
            Self::Sentinels(sentinels) => {
                SharedRedis::new(RedisType::Sentinel, &sentinels.url(), None, timeout)
            }
        };
        store.ready().await;
        store
    }

    /// Connections to the servers that have counters.
    pub(crate) fn clients(&self) -> Vec<redis::Connection> {
        match self {
            Self::One(server) => vec![server.client()],
            Self::PerSecond(main, second) => vec![main.client(), second.client()],
            Self::Cluster(cluster) => {
                let mut clients = Vec::new();
                for node in &cluster.primaries {
                    clients.push(client(node.port));
                }
                clients
            }
            Self::Sentinels(sentinels) => vec![client(sentinels.master_port())],
        }
    }

    /// Removes all keys.
    pub(crate) fn flush(&self) {
        for mut client in self.clients() {
            redis::cmd("FLUSHALL").exec(&mut client).expect("the server runs");
        }
    }
}

fn client(port: u16) -> redis::Connection {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}"));
    let client = client.expect("the URL is valid").get_connection();
    client.expect("the server runs")
}

/// A store that several engines share.
#[derive(Clone, Debug)]
pub(crate) struct SharedRedis(Arc<Redis>);

impl SharedRedis {
    /// A store for `url`, with a server for limits per second if `per_second` is set.
    pub(crate) fn new(
        kind: RedisType,
        url: &str,
        per_second: Option<&str>,
        timeout: Duration,
    ) -> Self {
        let main = RedisSettings::from_url(kind, url, None, timeout).expect("the URL is valid");
        let per_second = per_second
            .map(|url| RedisSettings::parse(url, None, timeout).expect("the URL is valid"));
        Self(Arc::new(Redis::with_per_second(&main, per_second.as_ref(), &StoreStats::default())))
    }

    pub(crate) async fn ready(&self) {
        eventually_async("readiness", async || self.0.ready().await).await;
    }
}

/// The layers that the service puts on Redis.
pub(crate) type ServiceStore = DenyCache<PrefetchStore<Arc<Redis>>>;

/// `bytes` is the size of the deny cache.
pub(crate) fn service_store(store: SharedRedis, bytes: usize) -> ServiceStore {
    DenyCache::new(PrefetchStore::new(store.0), bytes)
}

pub(crate) fn memory() -> Memory {
    Memory::new(1 << 20)
}

/// Compiles a rule file.
pub(crate) fn rules(text: &str) -> SharedRules {
    let file = SourceFile { name: "rules.yaml".into(), bytes: text.into() };
    match config::compile(&[file], CompileOptions::default()) {
        Ok(compiled) => Arc::new(ArcSwap::from_pointee(compiled.rules)),
        Err(errors) => unreachable!("{errors}\n{text}"),
    }
}

/// An engine with the rules `text` and default settings.
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

/// A descriptor with one entry.
pub(crate) fn descriptor(key: &str, value: &str, hits: Hits) -> Descriptor {
    let entry =
        Entry { key: key.as_bytes().to_vec().into(), value: value.as_bytes().to_vec().into() };
    Descriptor { entries: vec![entry], hits: hits.capped(), has_own_hits: true, limit: None }
}

/// A request with a descriptor for each key, with one hit each.
pub(crate) fn request_for(keys: &[&str]) -> Request {
    let mut descriptors = Vec::new();
    for key in keys {
        descriptors.push(descriptor(key, "ann", Hits::Add(1)));
    }
    request_with(descriptors)
}

pub(crate) fn request_with(descriptors: Vec<Descriptor>) -> Request {
    Request { domain: "shop".into(), descriptors, hits_addend: 0 }
}

/// Sets the deadline after which policies decide.
pub(crate) fn with_deadline<S: Store>(deadline: Duration, engine: Engine<S>) -> Engine<S> {
    let settings = FallbackSettings { deadline, ..FallbackSettings::default() };
    Engine { fallback: Fallback::new(settings), ..engine }
}

/// Sends `times` requests at the same time, and returns how many pass.
pub(crate) async fn count_passed_concurrently<S: Store>(
    engine: &Engine<S>,
    request: &Request,
    times: usize,
) -> usize {
    let mut calls = Vec::new();
    for _ in 0..times {
        calls.push(engine.decide(request, None));
    }
    let mut passed = 0;
    for result in futures_util::future::join_all(calls).await {
        passed += usize::from(result.is_ok_and(|decision| !decision.over_limit));
    }
    passed
}

/// The remaining hits of `key`.
pub(crate) async fn remaining<S: Store>(engine: &Engine<S>, key: &str) -> u32 {
    let peek = request_with(vec![descriptor(key, "ann", Hits::Add(0))]);
    let decision = engine.decide(&peek, None).await.expect("the servers answer");
    decision.verdicts[0].status().expect("a limit applies").outcome.remaining
}

/// Sends `times` requests one after the other, and returns how many pass.
pub(crate) async fn count_passed<S: Store>(
    engine: &Engine<S>,
    request: &Request,
    times: usize,
) -> usize {
    let mut passed = 0;
    for _ in 0..times {
        let decision = engine.decide(request, None).await.expect("the servers answer");
        passed += usize::from(!decision.over_limit);
    }
    passed
}

/// Waits until `attempt` returns `expected`. Servers may still work on cancelled calls.
pub(crate) async fn wait_until_equal<T: PartialEq + std::fmt::Debug>(
    expected: T,
    mut attempt: impl AsyncFnMut() -> T,
) {
    eventually_async(&format!("{expected:?}"), async || {
        let found = attempt().await;
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}
