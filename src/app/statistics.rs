//! Who is told the statistics, and when.

use std::{convert::Infallible, future::IntoFuture, sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    app::tasks::Tasks,
    http::{self, Pages},
    listen::{ListenError, Listener, Protocol},
    metrics::Metrics,
    net::{Address, HostPort},
    settings::{PrometheusSettings, StatisticsSettings},
    statsd::StatsdExporter,
    store::Store,
};

/// How long the last statistics may take to be sent.
const LAST: Duration = Duration::from_secs(2);

/// Sends statistics.
pub(super) struct Exporters {
    /// Each is held by whoever sends: its task, or the last to leave.
    all: Vec<Arc<Mutex<StatsdExporter>>>,
    interval: Duration,
}

impl Exporters {
    /// Sends nothing yet.
    pub(super) fn new(settings: &StatisticsSettings, metrics: &Arc<Metrics>) -> Self {
        let exporter = |sink| {
            let exporter = StatsdExporter::new(sink, &settings.tags, Arc::clone(metrics));
            Arc::new(Mutex::new(exporter))
        };
        let all = settings.sinks.iter().cloned().map(exporter).collect();
        Self { all, interval: settings.flush_interval }
    }

    /// Begins to send.
    pub(super) fn start(&self, tasks: &mut Tasks) {
        for exporter in &self.all {
            let sending = send(Arc::clone(exporter), self.interval);
            tasks.background("sender of statistics", sending);
        }
    }

    /// Sends what has been counted since the last time, unless that takes too long.
    pub(super) async fn finish(self) {
        let last = self.all.iter().map(|it| async {
            it.lock().await.flush(self.interval).await;
        });
        if timeout(LAST, futures_util::future::join_all(last)).await.is_err() {
            warn!("the last statistics could not be sent within {LAST:?}");
        }
    }
}

async fn send(
    exporter: Arc<Mutex<StatsdExporter>>,
    interval: Duration,
) -> Result<Infallible, Infallible> {
    let mut pause = interval;
    loop {
        sleep(pause).await;
        pause = exporter.lock().await.flush(interval).await;
    }
}

/// The port for Prometheus.
pub(super) struct PrometheusListener {
    listener: Listener,
    path: String,
}

impl PrometheusListener {
    /// Opens it. See [`Listener::bind`].
    pub(super) async fn bind(
        settings: &PrometheusSettings,
        most: usize,
    ) -> Result<Self, ListenError> {
        let bind = async |host: &str| {
            let address = HostPort { host: host.to_owned(), port: settings.address.port };
            Listener::bind("Prometheus", &Address::Tcp(address), Protocol::Http1, most).await
        };
        let listener = match (bind(&settings.address.host).await, settings.address.host.as_str()) {
            (Err(_), "::") => bind("0.0.0.0").await?,
            (bound, _) => bound?,
        };
        info!(
            listener = "prometheus",
            address = listener.address().map(tracing::field::display),
            "listening"
        );
        Ok(Self { listener, path: settings.path.clone() })
    }
}

/// Serves it, if there is one.
pub(super) fn serve<S: Store>(
    prometheus: Option<PrometheusListener>,
    pages: &Arc<Pages<S>>,
    tasks: &mut Tasks,
    until: impl Future<Output = ()> + Send + 'static,
) {
    let Some(PrometheusListener { listener, path }) = prometheus else { return };
    let page = axum::serve(listener, http::prometheus_router(Arc::clone(pages), path));
    tasks.server("server for Prometheus", page.with_graceful_shutdown(until).into_future());
}
