//! A bounded queue of finished spans, and the task that sends them to the collector.

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

use crate::{
    metrics::{LostSpan, Metrics},
    warnings::WarningLimiter,
};

/// The timeout for delivering the last spans when the process ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest delay of a batch while the process shuts down.
const SHUTDOWN_DELAY: Duration = Duration::from_millis(100);
/// The time without a loss after which a batch that is sent is logged as a recovery.
const RECOVERY_TIME: Duration = Duration::from_secs(60);

/// The bounds of the queue and of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueSettings {
    /// The longest time that a span waits for its batch. Above 0.
    pub(super) delay: Duration,
    /// The largest number of waiting spans. At least 1.
    pub(super) max_spans: usize,
    /// The largest number of spans in a batch. From 1 to `max_spans`.
    pub(super) max_batch: usize,
    /// The timeout of sending a batch. Above 0.
    pub(super) timeout: Duration,
}

/// Receives finished spans. [`SpanSender`] sends the last ones once this is dropped.
#[derive(Debug)]
pub(super) struct Queue {
    shared: Arc<Shared>,
    _open: watch::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    spans: Mutex<VecDeque<SpanData>>,
    /// Notified when there are enough spans for a batch.
    batch_ready: Notify,
    /// Set if spans found no room since the last batch.
    overflowed: AtomicBool,
    settings: QueueSettings,
    metrics: Arc<Metrics>,
}

/// Sends recorded spans to the collector in batches.
#[derive(Debug)]
pub struct SpanSender {
    shared: Arc<Shared>,
    /// Changes when the queue is dropped.
    open: watch::Receiver<()>,
    exporter: SpanExporter,
    losses: WarningLimiter,
    /// The time of the last loss, until its end is logged.
    last_loss: Option<Instant>,
}

impl Queue {
    /// A queue, and the sender that empties it through `exporter`.
    pub(super) fn new(
        settings: QueueSettings,
        exporter: SpanExporter,
        metrics: Arc<Metrics>,
    ) -> (Self, SpanSender) {
        let shared = Arc::new(Shared {
            spans: Mutex::new(VecDeque::with_capacity(settings.max_batch)),
            batch_ready: Notify::new(),
            overflowed: AtomicBool::new(false),
            settings,
            metrics,
        });
        let (sender, open) = watch::channel(());
        let span_sender = SpanSender {
            shared: Arc::clone(&shared),
            open,
            exporter,
            losses: WarningLimiter::new(
                "spans are lost (tollgate_spans_lost_total)",
                "losses of spans (tollgate_spans_lost_total)",
            ),
            last_loss: None,
        };
        (Self { shared, _open: sender }, span_sender)
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        let Shared { spans, batch_ready, overflowed, settings, metrics } = &*self.shared;
        let mut spans = spans.lock();
        if settings.max_spans <= spans.len() {
            drop(spans);
            overflowed.store(true, Relaxed);
            metrics.count_lost_spans(LostSpan::QueueFull, 1);
            return;
        }
        spans.push_back(span);
        let is_batch = spans.len() == settings.max_batch;
        drop(spans);
        if is_batch {
            batch_ready.notify_one();
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
    /// Sends spans until the queue is dropped, and then the remaining spans for at most
    /// 5 s. Once `stop` completes, batches are sent without their usual delay.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let shared = Arc::clone(&self.shared);
        let mut open = self.open.clone();
        let timed_out = async {
            while open.changed().await.is_ok() {}
            time::sleep(SHUTDOWN_TIMEOUT).await;
        };
        tokio::select! {
            () = self.send_until_closed(stop) => {}
            () = timed_out => {}
        }
        // A batch that was being sent at the timeout is not counted: it may have arrived.
        let remaining = shared.spans.lock().len();
        shared.metrics.count_lost_spans(LostSpan::ExportFailed, remaining);
        if remaining > 0 {
            warn!("{remaining} spans are lost: not sent within {SHUTDOWN_TIMEOUT:?} of shutdown");
        }
    }

    /// Ends when the queue is dropped and all spans are sent.
    async fn send_until_closed(&mut self, stop: impl Future<Output = ()>) {
        let shared = Arc::clone(&self.shared);
        let mut open = self.open.clone();
        let mut delay = shared.settings.delay;
        let mut stop = std::pin::pin!(stop);
        let (mut stopping, mut closed) = (false, false);
        while !closed {
            tokio::select! {
                () = shared.batch_ready.notified() => {}
                () = time::sleep(delay) => {}
                () = &mut stop, if !stopping => {
                    stopping = true;
                    delay = delay.min(SHUTDOWN_DELAY);
                }
                changed = open.changed() => closed = changed.is_err(),
            }
            self.send_all().await;
        }
    }

    /// Sends batches until the queue is empty.
    async fn send_all(&mut self) {
        loop {
            let batch = self.shared.next_batch();
            if self.shared.overflowed.swap(false, Relaxed) {
                self.log_lost(
                    "the queue is full; check the collector, or raise OTEL_BSP_MAX_QUEUE_SIZE",
                );
            }
            if batch.is_empty() {
                return;
            }
            let spans = batch.len();
            match self.send(batch).await {
                Ok(()) => self.log_recovery(),
                Err(error) => {
                    self.shared.metrics.count_lost_spans(LostSpan::ExportFailed, spans);
                    self.log_lost(&error);
                }
            }
        }
    }

    async fn send(&self, batch: Vec<SpanData>) -> Result<(), String> {
        let timeout = self.shared.settings.timeout;
        match time::timeout(timeout, self.exporter.export(batch)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {timeout:?}")),
        }
    }

    fn log_lost(&mut self, reason: &str) {
        self.last_loss = Some(Instant::now());
        self.losses.warn(&reason);
    }

    /// Logs that the collector accepts spans again, if the last loss is a while ago.
    fn log_recovery(&mut self) {
        if let Some(last) = self.last_loss
            && RECOVERY_TIME <= last.elapsed()
        {
            self.last_loss = None;
            info!("the collector accepts spans again");
        }
    }
}

impl Shared {
    fn next_batch(&self) -> Vec<SpanData> {
        let mut spans = self.spans.lock();
        let count = self.settings.max_batch.min(spans.len());
        spans.drain(..count).collect()
    }
}
