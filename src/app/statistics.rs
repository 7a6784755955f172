//! Sends statistics to StatsD servers.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};
use tracing::warn;

use crate::{
    app::tasks::Tasks, metrics::Metrics, settings::StatisticsSettings, statsd::StatsdExporter,
};

/// The longest time to send the last statistics.
const LAST_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// One sender for each StatsD server.
pub(super) struct StatisticsSenders {
    /// Locked by the periodic task, and at exit by the last flush.
    exporters: Vec<Arc<Mutex<StatsdExporter>>>,
    interval: Duration,
}

impl StatisticsSenders {
    pub(super) fn new(settings: &StatisticsSettings, metrics: &Arc<Metrics>) -> Self {
        let mut exporters = Vec::new();
        for sink in settings.sinks.iter().cloned() {
            let exporter = StatsdExporter::new(sink, &settings.tags, Arc::clone(metrics));
            exporters.push(Arc::new(Mutex::new(exporter)));
        }
        Self { exporters, interval: settings.flush_interval }
    }

    /// Starts the periodic tasks.
    pub(super) fn start(&self, tasks: &mut Tasks) {
        for exporter in &self.exporters {
            let sending = send(Arc::clone(exporter), self.interval);
            tasks.background("sender of statistics", sending);
        }
    }

    /// Sends the statistics since the last interval, within a bounded time.
    pub(super) async fn finish(self) {
        let mut flushes = Vec::new();
        for exporter in &self.exporters {
            flushes.push(async { exporter.lock().await.flush(self.interval).await });
        }
        if timeout(LAST_FLUSH_TIMEOUT, join_all(flushes)).await.is_err() {
            warn!("the last statistics could not be sent within {LAST_FLUSH_TIMEOUT:?}");
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
