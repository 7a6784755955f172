//! Builds the service from its parts, and runs it until a signal ends it.

use std::{any::Any, fmt, io, pin::Pin, sync::Arc, time::Duration};

use axum::Router;
use tokio::sync::watch;
use tracing::info;

use crate::{
    admin::tokens::TokenError,
    budget::Budget,
    check,
    decision_log::{DecisionLog, DecisionLogWriter},
    engine::{Engine, fallback::Fallback},
    ext_authz, grpc,
    health::Health,
    http, json,
    listen::ListenError,
    live::Live,
    metrics::{Metrics, TimeUnit},
    reload::{ActiveRules, LoadError},
    service::{InProgress, Service},
    settings::{Settings, StatisticsSettings, StoreSettings, environment},
    spans::{SpanSender, Tracing, TracingError, redis_tracer::RedisTracer},
    store::{
        Counters, Store, deny_cache::DenyCache, memory::Memory, observe::ObservedStore,
        prefetch::PrefetchStore, redis::Redis,
    },
    time::Clock,
    tls::TlsError,
    warnings::WarningLimiter,
};

mod admin;
mod certificates;
mod command;
mod listeners;
mod open_files;
mod readiness;
mod rules;
mod signals;
mod statistics;
mod tasks;

use self::{
    admin::Access,
    certificates::Certificates,
    readiness::StoreReadiness,
    rules::{RuleUpdater, no_rules, report_unused_leases},
    statistics::StatisticsSenders,
    tasks::{ServerStop, Tasks},
};
pub use self::{
    command::execute,
    listeners::{Dialers, HttpListeners, Listeners, PrometheusListener},
    signals::{Remote, Signals},
};

/// The longest time, at exit, to settle reservations, after quota leases were returned.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the service did not start, or why it ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The rules could not be loaded at the start.
    #[error("cannot load the rules of {place}")]
    Rules {
        /// The path of the rules.
        place: String,
        /// The cause.
        source: LoadError,
    },
    /// The certificates of a listener cannot be used.
    #[error("cannot encrypt {}", .0.protocol)]
    Tls(#[from] TlsError),
    /// The tokens of the admin API cannot be used.
    #[error("cannot open the admin API")]
    Tokens(#[from] TokenError),
    /// A listener could not be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Tracing is on and its settings cannot be used.
    #[error(transparent)]
    Tracing(#[from] TracingError),
    /// The system refused to register signal handlers.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// A panic during the start.
    #[error("the start failed: {0}")]
    Start(String),
    /// A server ended before it was asked to stop.
    #[error("the {name} failed: {why}")]
    Ended {
        /// The name of the server.
        name: &'static str,
        /// The cause.
        why: String,
    },
}

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The service, ready to run.
pub struct App {
    tasks: Tasks,
    rules: RuleUpdater,
    settle: BoxFuture,
    senders: StatisticsSenders,
    gauges: Gauges,
}

/// Keeps the counters whose gauges the last delivery of statistics reads.
type Gauges = Vec<Arc<dyn Any + Send + Sync>>;

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

/// Metrics and traces, which every part of the service reports to.
struct Telemetry {
    metrics: Arc<Metrics>,
    spans: Option<Tracing>,
    sender: Option<SpanSender>,
}

impl App {
    /// Builds the service: reads rules and certificates, and then opens the
    /// listeners, so that no port is open before a start that fails. Starts to
    /// connect to Redis. `clock` is the time of all decisions.
    ///
    /// # Errors
    ///
    /// If rules, certificates or the settings of traces cannot be used, or if a
    /// listener cannot be opened.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn build(
        settings: Settings,
        clock: Arc<dyn Clock>,
        listeners: impl Future<Output = Result<Listeners, ListenError>>,
    ) -> Result<Self, AppError> {
        let telemetry = Telemetry::new(&settings)?;
        let metrics = Arc::clone(&telemetry.metrics);
        match settings.store.clone() {
            StoreSettings::Memory { bounds } => {
                info!(%bounds, "counters are kept in memory");
                let memory = Arc::new(Memory::with_bounds(bounds));
                memory.publish_usage(metrics.store_stats());
                let gauges: Gauges = vec![Arc::clone(&memory) as _];
                let store = ObservedStore { store: memory, observer: metrics };
                let parts = Parts { settings, clock, listeners, telemetry, gauges };
                parts.build(store, StoreReadiness::default(), Box::pin(async {})).await
            }
            StoreSettings::Redis { main, per_second, startup_timeout, health_follows_redis } => {
                let readiness = StoreReadiness { startup_timeout, health_follows_redis };
                let stats = metrics.store_stats();
                let redis = Redis::with_per_second(&main, per_second.as_deref(), stats);
                let redis = Arc::new(redis);
                let spans = telemetry.spans.clone();
                let tracer = RedisTracer { spans, per_second: per_second.is_some() };
                let observer = (tracer, Arc::clone(&metrics));
                let observed = ObservedStore { store: Arc::clone(&redis), observer };
                let prefetch = PrefetchStore::new(observed);
                let leases = prefetch.leases();
                let gauges: Gauges = vec![Arc::clone(&redis) as _];
                let exit_clock = Arc::clone(&clock);
                // Holds only Redis: a handle of the whole store would keep its senders of
                // traces and statistics alive.
                let settle = async move {
                    leases.refund_unused(&redis, exit_clock.now()).await;
                    redis.settle_pending(SETTLE_TIMEOUT).await;
                };
                let store = DenyCache::new(prefetch, settings.deny_cache_bytes);
                let store = store.publish_usage(metrics.store_stats());
                let parts = Parts { settings, clock, listeners, telemetry, gauges };
                parts.build(store, readiness, Box::pin(settle)).await
            }
        }
    }

    /// Serves until a signal ends the service, drains, and sends the last statistics.
    ///
    /// # Errors
    ///
    /// If a server ends before it is asked to stop.
    pub async fn run(mut self, signals: Signals) -> Result<(), AppError> {
        self.rules.start(&mut self.tasks, signals.reload);
        let result = self.tasks.run(signals.stop).await;
        tokio::join!(self.settle, self.senders.finish());
        drop(self.gauges);
        result
    }
}

impl Telemetry {
    fn new(settings: &Settings) -> Result<Self, TracingError> {
        let StatisticsSettings { tags, response_times_in_milliseconds, .. } = &settings.statistics;
        let unit = if *response_times_in_milliseconds {
            TimeUnit::Milliseconds
        } else {
            TimeUnit::Seconds
        };
        let metrics = Metrics::new(settings.near_limit_ratio).with_display(tags.clone(), unit);
        let metrics = Arc::new(metrics);
        let Some(tracing) = &settings.tracing else {
            return Ok(Self { metrics, spans: None, sender: None });
        };
        let (spans, sender) = Tracing::new(tracing, &environment::variable, Arc::clone(&metrics))?;
        Ok(Self { metrics, spans: Some(spans), sender: Some(sender) })
    }
}

/// The arguments of [`App::build`], once the kind of store is known.
struct Parts<L> {
    settings: Settings,
    clock: Arc<dyn Clock>,
    listeners: L,
    telemetry: Telemetry,
    gauges: Gauges,
}

impl<L: Future<Output = Result<Listeners, ListenError>>> Parts<L> {
    async fn build<S: Store + Counters>(
        self,
        store: S,
        readiness: StoreReadiness,
        settle: BoxFuture,
    ) -> Result<App, AppError> {
        let Self { settings, clock, listeners, telemetry, mut gauges } = self;
        let Telemetry { metrics, spans, sender } = telemetry;
        let live = settings.admin.is_open().then(|| Arc::new(Live::new(clock.now())));
        let active = no_rules(&metrics, &clock, live.as_ref());
        let health = Arc::clone(&active.health);
        let rejection = Arc::clone(&active.rejection);
        let fallback = fallback(&settings, &metrics);
        gauges.push(fallback.local_counters());
        let engine = engine(&settings, store, &active, &clock, fallback);
        let in_progress = InProgress::default();
        let log = settings.decision_log.map(|it| DecisionLog::new(it, Arc::clone(&metrics)));
        let (decision_log, decision_writer) = log.unzip();
        let service = Arc::new(Service {
            engine,
            metrics: Arc::clone(&metrics),
            live,
            max_descriptors: settings.max_descriptors,
            invalid: WarningLimiter::new("a request was invalid", "requests were invalid"),
            answers: settings.answers,
            decision_log,
            spans,
            in_progress: in_progress.clone(),
        });
        let rules = RuleUpdater::load(settings.rules, active, clock.now()).await?;
        report_unused_leases(&service.engine.rules.load(), &settings.store);
        let access = Access::load(settings.admin, &health, &rejection)?;
        let certificates = Certificates::load(&settings.listeners, &metrics, &clock)?;

        let budget = Budget::new(settings.max_bytes_in_flight, Arc::clone(&metrics));
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Tasks::new(Arc::clone(&health), stop, settings.drain, in_progress);
        let server = grpc::server::Server {
            service: Arc::clone(&service),
            others: ext_authz::services(Arc::clone(&service), settings.ext_authz_domain),
            health: Arc::clone(&health),
            encryption: certificates.grpc.clone(),
            limits: settings.listeners.connections,
            budget: Arc::clone(&budget),
        };
        let listeners = listeners.await?;
        listeners.report_to(&metrics);
        let Listeners { grpc, http } = listeners;
        tasks.server("gRPC server", server.serve(grpc, stopped.clone()));
        let stop = ServerStop(stopped);
        let admin =
            access.and_then(|access| access.routes(&service, http.admin.as_ref(), &mut tasks));
        let pages = http::Pages::new(Arc::clone(&service), Arc::clone(&health), rejection);
        let tls = &certificates;
        let servers = HttpServers { health: &health, budget: &budget, stop: &stop, tls };
        let protocols = http_protocols(&service, settings.json_max_bytes);
        servers.add(&mut tasks, http, &pages, Routers { protocols, admin });

        let optional = OptionalTasks { certificates, decision_writer, sender };
        optional.add(&mut tasks, &stop);
        tasks.background("store task", readiness::watch_tasks(Arc::clone(&service)));
        let first = readiness.hold(Arc::clone(&service), health, stop.wait());
        tasks.server("store readiness check", first);
        let senders = StatisticsSenders::new(&settings.statistics, &metrics);
        senders.start(&mut tasks);
        Ok(App { tasks, rules, settle, senders, gauges })
    }
}

/// Tasks that exist only with some settings.
struct OptionalTasks {
    certificates: Certificates,
    decision_writer: Option<DecisionLogWriter>,
    sender: Option<SpanSender>,
}

impl OptionalTasks {
    fn add(self, tasks: &mut Tasks, stop: &ServerStop) {
        for certificates in self.certificates.reloaders {
            tasks.background("certificate watcher", certificates.watch());
        }
        if let Some(writer) = self.decision_writer {
            tasks.last("writer of the decision log", writer.run());
        }
        if let Some(sender) = self.sender {
            tasks.last("trace exporter", sender.run(stop.clone().wait()));
        }
    }
}

/// The protocols on the main HTTP port: one line for each.
fn http_protocols<S: Store>(service: &Arc<Service<S>>, json_max_bytes: usize) -> Router {
    Router::new()
        .merge(json::routes(Arc::clone(service), json_max_bytes))
        .merge(check::routes(Arc::clone(service)))
}

/// The routes that do not come from [`http`].
struct Routers {
    protocols: Router,
    admin: Option<Router>,
}

/// Parts of all HTTP servers.
struct HttpServers<'a> {
    health: &'a Arc<Health>,
    budget: &'a Arc<Budget>,
    stop: &'a ServerStop,
    tls: &'a Certificates,
}

impl HttpServers<'_> {
    fn add<S: Store>(
        &self,
        tasks: &mut Tasks,
        listeners: HttpListeners,
        pages: &Arc<http::Pages<S>>,
        Routers { protocols, admin }: Routers,
    ) {
        let main = http::main_router(Arc::clone(pages)).merge(protocols);
        let main = http::server::Server { encryption: self.tls.http.clone(), ..self.plain(main) };
        tasks.server("HTTP server", main.serve(listeners.main, self.stop.0.clone()));
        let debug = self.plain(http::debug_router(Arc::clone(pages)));
        tasks.server("debug server", debug.serve(listeners.debug, self.stop.0.clone()));
        if let Some(listener) = listeners.probes {
            let probes = self.plain(http::probe_router(Arc::clone(pages)));
            tasks.server("probe server", probes.serve(listener, self.stop.0.clone()));
        }
        if let Some(PrometheusListener { listener, path }) = listeners.prometheus {
            let page = self.plain(http::prometheus_router(Arc::clone(pages), path));
            tasks.server("Prometheus server", page.serve(listener, self.stop.0.clone()));
        }
        if let (Some(listener), Some(router)) = (listeners.admin, admin) {
            let admin = self.plain(router);
            tasks.server("admin server", admin.serve(listener, self.stop.0.clone()));
        }
    }

    fn plain(&self, router: Router) -> http::server::Server {
        let router = http::ask_to_leave_while_draining(router, Arc::clone(self.health));
        http::server::Server { router, budget: Arc::clone(self.budget), encryption: None }
    }
}

fn engine<S: Store>(
    settings: &Settings,
    store: S,
    active: &ActiveRules,
    clock: &Arc<dyn Clock>,
    fallback: Fallback,
) -> Engine<S> {
    Engine {
        rules: Arc::clone(&active.rules),
        store,
        clock: Arc::clone(clock),
        keys: settings.key_format.clone(),
        mode: settings.mode,
        fallback,
    }
}

/// Decides without the store. Its counters are published if they are the only ones
/// in memory.
fn fallback(settings: &Settings, metrics: &Metrics) -> Fallback {
    let fallback = Fallback::new(settings.fallback);
    if let StoreSettings::Redis { .. } = settings.store {
        fallback.publish_usage(metrics.store_stats());
    }
    fallback
}
