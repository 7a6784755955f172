//! Puts the parts together, serves, and ends in good order.

use std::{
    convert::Infallible,
    future::{Future, IntoFuture},
    io,
    sync::Arc,
    time::Duration,
};

use tokio::{signal::unix::Signal, sync::watch, time};
use tracing::{info, warn};

use crate::{
    config::CompileOptions,
    engine::{Engine, SharedRules, failures::Failures, fallback::Fallback},
    health::Health,
    http::{self, Pages},
    listen::{ListenError, Listener, Protocol},
    metrics::{Metrics, TimeUnit},
    net::Address,
    reload::{ActiveRules, LoadError, Reloader},
    settings::{
        ListenerSettings, PrometheusSettings, RuleSettings, Settings, StatisticsSettings,
        StoreSettings, environment,
    },
    spans::{SpanSender, Tracing, TracingError, redis_tracer::RedisTracer},
    store::{
        Store, StoreError, deny_cache::DenyCache, memory::Memory, observe::ObservedStore,
        prefetch::PrefetchStore, redis::Redis,
    },
    time::{Clock as _, SystemClock},
    tls::{self, TlsError},
    wire::Service,
    xds::XdsClient,
};

mod grpc;
mod statistics;
mod tasks;

use self::{
    statistics::{Exporters, PrometheusListener},
    tasks::{Signals, Tasks},
};

/// How long it may take to settle what the last calls have left behind.
const LAST_SETTLED: Duration = Duration::from_secs(2);
/// How often a store that has not answered yet is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// How often in a row a store that has to answer always may not, before health says so:
/// one call may meet the moment in which a connection is made again.
const FAILURES: u32 = 2;

/// Why the service does not run, or does not run any more.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// There are no rules to serve.
    #[error("cannot load the rules of {place}")]
    Rules {
        /// Where they were looked for.
        place: String,
        /// What is wrong with them.
        source: LoadError,
    },
    /// There are no certificates for gRPC that can be used.
    #[error("cannot encrypt gRPC")]
    Tls(#[from] TlsError),
    /// A port is not to be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Traces are wanted, and cannot be sent.
    #[error(transparent)]
    Spans(#[from] TracingError),
    /// The system refuses something that it never refuses.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// A server ended, and nobody had asked it to.
    #[error("the {name} failed: {why}")]
    Ended {
        /// Which.
        name: &'static str,
        /// Why it did.
        why: String,
    },
}

/// Serves until a signal ends it.
///
/// # Errors
///
/// If it cannot begin, or if one of its servers fails.
pub async fn serve(settings: Settings) -> Result<(), AppError> {
    let StatisticsSettings { tags, response_times_in_milliseconds, .. } = &settings.statistics;
    let unit =
        if *response_times_in_milliseconds { TimeUnit::Milliseconds } else { TimeUnit::Seconds };
    let metrics = Metrics::new(settings.near_limit_ratio).with_display(tags.clone(), unit);
    let metrics = Arc::new(metrics);
    let (spans, exporter) = match &settings.tracing {
        None => (None, None),
        Some(tracing) => {
            let traces = Tracing::new(tracing, &environment::variable, Arc::clone(&metrics))?;
            (Some(traces.0), Some(traces.1))
        }
    };
    let observers = Observers { metrics: Arc::clone(&metrics), spans, exporter };
    match settings.store.clone() {
        StoreSettings::Memory { bounds } => {
            info!(%bounds, "counters are kept in memory");
            let memory = Arc::new(Memory::bounded(bounds));
            memory.publish_usage(metrics.store_stats());
            let store = ObservedStore { store: memory, observer: metrics };
            serve_with(store, Demands::default(), observers, settings, async {}).await
        }
        StoreSettings::Redis { main, per_second, startup_timeout, health_follows_redis } => {
            let demands = Demands { first: startup_timeout, always: health_follows_redis };
            let redis = Redis::with_per_second(&main, per_second.as_deref(), metrics.store_stats());
            let redis = Arc::new(redis);
            let spans = observers.spans.clone();
            let traced = RedisTracer { spans, per_second: per_second.is_some() };
            let observer = (traced, Arc::clone(&metrics));
            let store = PrefetchStore::new(ObservedStore { store: Arc::clone(&redis), observer });
            let leases = store.leases();
            // Not through `store`: as long as that is held, more may be recorded.
            let finish = async move {
                leases.refund_unused(&redis, SystemClock.now()).await;
                redis.settle_pending(LAST_SETTLED).await;
            };
            let store = DenyCache::new(store, settings.deny_cache_bytes);
            let store = store.publish_usage(metrics.store_stats());
            serve_with(store, demands, observers, settings, finish).await
        }
    }
}

/// What is told of what happens.
struct Observers {
    metrics: Arc<Metrics>,
    spans: Option<Tracing>,
    exporter: Option<SpanSender>,
}

/// What decides without the store. Its counters are the only ones in memory if there is Redis.
fn fallback(settings: &Settings, metrics: &Metrics) -> Fallback {
    let fallback = Fallback::new(settings.fallback);
    if let StoreSettings::Redis { .. } = settings.store {
        fallback.publish_usage(metrics.store_stats());
    }
    fallback
}

/// Serves until a signal ends it, and then waits for `finish`.
async fn serve_with<S: Store>(
    store: S,
    demands: Demands,
    observers: Observers,
    settings: Settings,
    finish: impl Future<Output = ()>,
) -> Result<(), AppError> {
    let Observers { metrics, spans, exporter } = observers;
    let active = no_rules(&metrics);
    let (rules, health) = (Arc::clone(&active.rules), Arc::clone(&active.health));
    let exporters = Exporters::new(&settings.statistics, &metrics);
    let fallback = fallback(&settings, &metrics);
    let keeper = load_rules(settings.rules, active.clone())?;
    let start = |it| tls::CertificateReloader::start(it, Arc::clone(&metrics));
    let certificates = settings.listeners.tls.clone().map(start).transpose()?;
    let tls = certificates.as_ref().map(tls::CertificateReloader::config);
    let prometheus = settings.statistics.prometheus.as_ref();
    let listeners = Listeners::bind(&settings.listeners, prometheus).await?;
    let signals = Signals::listen().map_err(AppError::Signals)?;
    let service = Arc::new(Service {
        engine: Engine {
            rules,
            store,
            clock: Arc::new(SystemClock),
            keys: settings.key_format,
            mode: settings.mode,
            fallback,
        },
        metrics,
        max_descriptors: settings.max_descriptors,
        invalid: Failures::new("a request was invalid", "requests were invalid"),
        response: settings.response,
        spans,
    });
    let pages = Pages::new(Arc::clone(&service), Arc::clone(&health), active.rejection);

    let (stop, stopped) = watch::channel(false);
    let until = || {
        let mut stopped = stopped.clone();
        async move { drop(stopped.wait_for(|it| *it).await) }
    };
    let mut tasks = Tasks::default();
    keeper.start(&mut tasks, signals.reload);
    if let Some(certificates) = certificates {
        tasks.background("watcher of certificates", certificates.watch());
    }
    if let Some(exporter) = exporter {
        tasks.last("exporter of traces", exporter.run(until()));
    }
    tasks.background("tasks of the counter store", watch_store(Arc::clone(&service)));
    let first = demands.hold(Arc::clone(&service), Arc::clone(&health), until());
    tasks.server("counter store", first);
    exporters.start(&mut tasks);
    let Listeners { grpc, http, debug, prometheus } = listeners;
    let ListenerSettings { max_age, max_age_grace, .. } = settings.listeners;
    let server = grpc::Server { service, health: Arc::clone(&health), tls, max_age, max_age_grace };
    tasks.server("gRPC server", server.serve(grpc, stopped.clone()));
    let main = axum::serve(http, http::main_router(Arc::clone(&pages)));
    tasks.server("HTTP server", main.with_graceful_shutdown(until()).into_future());
    statistics::serve(prometheus, &pages, &mut tasks, until());
    let debugging = axum::serve(debug, http::debug_router(pages));
    tasks.server("debug server", debugging.with_graceful_shutdown(until()).into_future());
    let result = tasks.run(signals.stop, &health, stop, settings.drain).await;
    tokio::join!(finish, exporters.finish());
    result
}

/// As long as there are none.
fn no_rules(metrics: &Arc<Metrics>) -> ActiveRules {
    ActiveRules {
        rules: SharedRules::default(),
        metrics: Arc::clone(metrics),
        health: Arc::new(Health::default()),
        rejection: Arc::default(),
    }
}

/// What keeps the rules up to date.
enum Keeper {
    Files(Reloader),
    Xds(Box<XdsClient>),
}

impl Keeper {
    fn start(self, tasks: &mut Tasks, reload: Signal) {
        match self {
            Self::Files(reloader) => tasks.background("rule watcher", reloader.watch(reload)),
            Self::Xds(follower) => tasks.background("client of the rules", follower.run()),
        }
    }
}

fn load_rules(settings: RuleSettings, active: ActiveRules) -> Result<Keeper, AppError> {
    let RuleSettings { source, xds, merge_domains, force_start, unhealthy_without_domains } =
        settings;
    if unhealthy_without_domains {
        active.health.require_domain();
    }
    let (place, options) = (source.to_string(), CompileOptions { merge_domains });
    if let Some(xds) = xds {
        if force_start {
            active.health.allow_no_rules();
        }
        return Ok(Keeper::Xds(Box::new(XdsClient::new(xds, options, active))));
    }
    let mut reloader = Reloader::new(source, options, active);
    match reloader.load() {
        Err(error) if force_start => {
            warn!("no rules yet, every decision fails until there are\n{error}");
        }
        loaded => loaded.map_err(|source| AppError::Rules { place, source })?,
    }
    Ok(Keeper::Files(reloader))
}

struct Listeners {
    grpc: Listener,
    http: Listener,
    debug: Listener,
    prometheus: Option<PrometheusListener>,
}

impl Listeners {
    /// Opens every port before any of them is served.
    async fn bind(
        settings: &ListenerSettings,
        prometheus: Option<&PrometheusSettings>,
    ) -> Result<Self, ListenError> {
        let most = settings.max_connections;
        let (http, debug) = (settings.http.clone(), settings.debug.clone());
        let (http, debug) = (Address::Tcp(http), Address::Tcp(debug));
        let listeners = Self {
            grpc: Listener::bind("gRPC", &settings.grpc, Protocol::Http2, most).await?,
            http: Listener::bind("HTTP", &http, Protocol::Http1, most).await?,
            debug: Listener::bind("debugging", &debug, Protocol::Http1, most).await?,
            prometheus: match prometheus {
                Some(it) => Some(PrometheusListener::bind(it, most).await?),
                None => None,
            },
        };
        let Self { grpc, http, debug, .. } = &listeners;
        for (name, listener) in [("grpc", grpc), ("http", http), ("debug", debug)] {
            info!(
                listener = name,
                address = listener.address().map(tracing::field::display),
                "listening"
            );
        }
        Ok(listeners)
    }
}

/// Waits for what must not happen.
async fn watch_store<S: Store>(service: Arc<Service<S>>) -> Result<Infallible, &'static str> {
    service.engine.store.task_failed().await;
    Err("one of its tasks has ended")
}

/// How the store has to answer.
#[derive(Clone, Copy, Debug, Default)]
struct Demands {
    /// How long it may take to answer for the first time; none means for ever.
    first: Option<Duration>,
    /// Whether it has to answer always.
    always: bool,
}

impl Demands {
    /// Waits until the store answers for the first time, and if it has to answer
    /// always, tells health whenever it does not. Fails if it takes too long, or if waiting
    /// is of no use.
    async fn hold<S: Store>(
        self,
        service: Arc<Service<S>>,
        health: Arc<Health>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), String> {
        tokio::select! {
            () = stop => Ok(()),
            error = self.watch(&service.engine.store, &health) => Err(error),
        }
    }

    /// Ends only if the store has not answered in time for the first time, or cannot be used
    /// with these settings.
    async fn watch<S: Store>(self, store: &S, health: &Health) -> String {
        let mut last = None;
        let first = Self::answer(store, health, &mut last);
        let most = self.first.unwrap_or(Duration::MAX);
        match time::timeout(most, first).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return why,
            Err(_) => {
                let why = last.map_or_else(|| "it is silent".to_owned(), |it| it.to_string());
                return format!(
                    "Redis has not decided within REDIS_STARTUP_MAX_ELAPSED_TIME, {most:?}: {why}"
                );
            }
        }
        health.set_store(Ok(()));
        if !self.always {
            return std::future::pending().await;
        }
        let mut failures = 0_u32;
        loop {
            time::sleep(ASK_AGAIN).await;
            match store.ready().await {
                Ok(()) => {
                    if FAILURES <= failures {
                        info!("ready again: Redis decides");
                    }
                    failures = 0;
                    health.set_store(Ok(()));
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures == FAILURES {
                        warn!("not ready any more: {error}");
                    }
                    if FAILURES <= failures {
                        health.set_store(Err(error.reason()));
                    }
                }
            }
        }
    }

    /// Waits for the first decision, and keeps the latest error in `last`.
    ///
    /// # Errors
    ///
    /// If waiting is of no use.
    async fn answer<S: Store>(
        store: &S,
        health: &Health,
        last: &mut Option<StoreError>,
    ) -> Result<(), String> {
        while let Err(error) = store.ready().await {
            if matches!(error, StoreError::Misconfigured(_)) {
                return Err(error.reason());
            }
            if last.is_none() {
                warn!("not ready yet: {error}");
            }
            health.set_store(Err(error.reason()));
            *last = Some(error);
            time::sleep(ASK_AGAIN).await;
        }
        Ok(())
    }
}
