//! Spans on their way out: a queue of bounded length, and what empties it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanExporter as _, SpanProcessor},
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{self, Instant},
};
use tracing::{info, warn};

use crate::metrics::{LostSpan, Metrics};

/// How long what is left may take to go out when the process ends.
const FLUSH: Duration = Duration::from_secs(5);
/// How often spans go out while the process ends.
const HURRY: Duration = Duration::from_millis(100);
/// How often it is said at most that spans are lost.
const SILENCE: Duration = Duration::from_secs(60);

/// How spans wait, and how they go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueSettings {
    /// How long a span waits for others at most. Above 0.
    pub(super) delay: Duration,
    /// How many wait at most. At least 1.
    pub(super) most: usize,
    /// How many go out together at most. At least 1, at most `most`.
    pub(super) batch: usize,
    /// How long a batch may take to go out. Above 0.
    pub(super) timeout: Duration,
}

/// Takes spans in. The queue ends with this.
#[derive(Debug)]
pub(super) struct Queue {
    shared: Arc<Shared>,
    _alive: watch::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    spans: Mutex<VecDeque<SpanData>>,
    /// There are enough for a batch.
    full: Notify,
    /// Since the last look, spans found no room.
    overflown: AtomicBool,
    settings: QueueSettings,
    metrics: Arc<Metrics>,
}

/// Sends out the spans that are recorded.
#[derive(Debug)]
pub struct SpanSender {
    shared: Arc<Shared>,
    alive: watch::Receiver<()>,
    client: SpanExporter,
    /// When it was last said that spans are lost.
    complained: Option<Instant>,
}

impl Queue {
    /// A queue, and what empties it through `client`.
    pub(super) fn new(
        settings: QueueSettings,
        client: SpanExporter,
        metrics: Arc<Metrics>,
    ) -> (Self, SpanSender) {
        let spans = Mutex::new(VecDeque::with_capacity(settings.batch));
        let (full, overflown) = (Notify::new(), AtomicBool::new(false));
        let shared = Arc::new(Shared { spans, full, overflown, settings, metrics });
        let (sender, alive) = watch::channel(());
        let exporter = SpanSender { shared: Arc::clone(&shared), alive, client, complained: None };
        (Self { shared, _alive: sender }, exporter)
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        let Shared { spans, full, overflown, settings, metrics } = &*self.shared;
        let mut spans = spans.lock();
        if settings.most <= spans.len() {
            drop(spans);
            overflown.store(true, Relaxed);
            metrics.count_lost_spans(LostSpan::QueueFull, 1);
            return;
        }
        spans.push_back(span);
        let enough = spans.len() == settings.batch;
        drop(spans);
        if enough {
            full.notify_one();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl SpanSender {
    /// Sends spans out until nobody can record any more, and then those that are
    /// left, for at most 5 s. From `stop` on they wait no longer than they must.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let (shared, mut alive) = (Arc::clone(&self.shared), self.alive.clone());
        let overdue = async {
            while alive.changed().await.is_ok() {}
            time::sleep(FLUSH).await;
        };
        tokio::select! {
            () = self.work(stop) => {}
            () = overdue => {}
        }
        // What was under way when the time was over is not counted.
        let left = shared.spans.lock().len();
        shared.metrics.count_lost_spans(LostSpan::ExportFailed, left);
        if left > 0 {
            warn!("{left} spans are lost: they could not be sent within {FLUSH:?}");
        }
    }

    /// Ends when nobody can record any more, and all is sent.
    async fn work(&mut self, stop: impl Future<Output = ()>) {
        let (shared, mut alive) = (Arc::clone(&self.shared), self.alive.clone());
        let mut delay = shared.settings.delay;
        let mut stop = std::pin::pin!(stop);
        let (mut stopping, mut ending) = (false, false);
        while !ending {
            tokio::select! {
                () = shared.full.notified() => {}
                () = time::sleep(delay) => {}
                () = &mut stop, if !stopping => {
                    stopping = true;
                    delay = delay.min(HURRY);
                }
                changed = alive.changed() => ending = changed.is_err(),
            }
            self.send_all().await;
        }
    }

    async fn send_all(&mut self) {
        let QueueSettings { batch, timeout, .. } = self.shared.settings;
        loop {
            let spans: Vec<_> = {
                let mut spans = self.shared.spans.lock();
                let count = batch.min(spans.len());
                spans.drain(..count).collect()
            };
            let count = spans.len();
            if self.shared.overflown.swap(false, Relaxed) {
                self.complain("there are more than the collector takes");
            }
            if count == 0 {
                return;
            }
            let sent = match time::timeout(timeout, self.client.export(spans)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {timeout:?}")),
            };
            if let Err(why) = &sent {
                self.shared.metrics.count_lost_spans(LostSpan::ExportFailed, count);
                self.complain(why);
            } else if self.complained.take_if(|it| SILENCE <= it.elapsed()).is_some() {
                info!("the collector takes spans again");
            }
        }
    }

    fn complain(&mut self, why: &str) {
        if self.complained.is_none_or(|it| SILENCE <= it.elapsed()) {
            self.complained = Some(Instant::now());
            warn!("spans are lost, tollgate_spans_lost counts them: {why}");
        }
    }
}
