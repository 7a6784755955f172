//! Readiness of the counter store.

use std::{convert::Infallible, future, sync::Arc, time::Duration};

use tokio::time;
use tracing::{info, warn};

use crate::{
    health::Health,
    service::Service,
    store::{Store, StoreError},
};

/// The pause between two checks of the store.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Failed checks in a row that make the service unhealthy: a single one may only
/// meet a reconnection.
const FAILURES_UNTIL_UNHEALTHY: u32 = 2;

/// Demands on the store.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StoreReadiness {
    /// The time for its first answer; `None` means no bound.
    pub(super) startup_timeout: Option<Duration>,
    /// The service is unhealthy whenever the store does not answer, not only
    /// until its first answer.
    pub(super) health_follows_redis: bool,
}

/// Fails when a task of the store has ended.
pub(super) async fn watch_tasks<S: Store>(
    service: Arc<Service<S>>,
) -> Result<Infallible, &'static str> {
    service.engine.store.task_failed().await;
    Err("one of its tasks has ended")
}

impl StoreReadiness {
    /// Sets the store's state in `health` until `stop`.
    ///
    /// # Errors
    ///
    /// If the first answer takes too long, or if the store can never answer with
    /// these settings.
    pub(super) async fn hold<S: Store>(
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

    /// Returns only on an error.
    async fn watch<S: Store>(self, store: &S, health: &Health) -> String {
        if let Err(error) = self.first_answer(store, health).await {
            return error;
        }
        health.set_store(Ok(()));
        if !self.health_follows_redis {
            return future::pending().await;
        }
        let mut failures = 0_u32;
        loop {
            time::sleep(RETRY_PAUSE).await;
            let Err(error) = store.ready().await else {
                if FAILURES_UNTIL_UNHEALTHY <= failures {
                    info!("ready again: Redis answers");
                }
                failures = 0;
                health.set_store(Ok(()));
                continue;
            };
            failures = failures.saturating_add(1);
            if failures == FAILURES_UNTIL_UNHEALTHY {
                warn!("no longer ready: {error}");
            }
            if FAILURES_UNTIL_UNHEALTHY <= failures {
                health.set_store(Err(error.reason()));
            }
        }
    }

    async fn first_answer<S: Store>(self, store: &S, health: &Health) -> Result<(), String> {
        let limit = self.startup_timeout.unwrap_or(Duration::MAX);
        let mut last = None;
        if let Ok(result) = time::timeout(limit, wait_for_answer(store, health, &mut last)).await {
            return result;
        }
        let cause = last.map_or_else(|| "no answer at all".to_owned(), |error| error.to_string());
        Err(format!(
            "Redis has not decided within REDIS_STARTUP_MAX_ELAPSED_TIME, {limit:?}: {cause}"
        ))
    }
}

/// Waits for the first answer; `last` is the latest error.
///
/// # Errors
///
/// If the store can never answer with these settings.
async fn wait_for_answer<S: Store>(
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
        time::sleep(RETRY_PAUSE).await;
    }
    Ok(())
}
