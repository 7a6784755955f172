//! Loads the rules and keeps them up to date.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    pin, task,
    time::{self, Instant},
};
use tracing::{info, warn};

use super::{AppError, tasks::Tasks};
use crate::{
    config::CompileOptions,
    engine::SharedRules,
    health::Health,
    live::Live,
    metrics::Metrics,
    reload::{ActiveRules, ReloadTrigger, Reloader},
    rules::RuleTree,
    settings::{RuleSettings, StoreSettings},
    time::{Clock, Timestamp},
    time_zones::TimeZones,
    xds::XdsClient,
};

/// The time between two warnings about rules that are being loaded at the start.
const SLOW_LOAD: Duration = Duration::from_secs(30);

/// The state before any rules are loaded.
pub(super) fn no_rules(
    metrics: &Arc<Metrics>,
    clock: &Arc<dyn Clock>,
    live: Option<&Arc<Live>>,
) -> ActiveRules {
    ActiveRules {
        rules: SharedRules::default(),
        metrics: Arc::clone(metrics),
        health: Arc::new(Health::default()),
        rejection: Arc::default(),
        clock: Arc::clone(clock),
        live: live.cloned(),
    }
}

/// Replaces the active rules whenever their source changes.
pub(super) enum RuleUpdater {
    Files(Box<Reloader>),
    Xds(Box<XdsClient>),
}

impl RuleUpdater {
    /// Loads rule files. Rules of a management server come later.
    ///
    /// # Errors
    ///
    /// If the files cannot be loaded and the settings do not allow a start without
    /// rules, or if the load panics.
    pub(super) async fn load(
        settings: RuleSettings,
        active: ActiveRules,
        now: Timestamp,
    ) -> Result<Self, AppError> {
        let RuleSettings { source, links, xds, merge_domains, force_start, .. } = settings;
        if settings.unhealthy_without_domains {
            active.health.require_domain();
        }
        info!(version = %TimeZones::newest(), "time zones of calendars");
        let options = CompileOptions { merge_domains, time_zones: TimeZones::newest() };
        if let Some(xds) = xds {
            if force_start {
                active.health.allow_no_rules();
            }
            return Ok(Self::Xds(Box::new(XdsClient::new(xds, options, active))));
        }
        let place = source.to_string();
        let mut reloader = Reloader::new(source, links, options, active);
        let load = async move {
            reloader.wait_for_writers(now).await?;
            task::spawn_blocking(move || {
                let result = reloader.load();
                (reloader, result)
            })
            .await
        };
        let loaded = report_while_pending(load, SLOW_LOAD, |elapsed| {
            warn!(
                "the rules of {place} are not loaded after {} s, and no port opens before; a read \
                 hangs if the server of a network file system is gone",
                elapsed.as_secs()
            );
        });
        let (reloader, result) =
            loaded.await.map_err(|panic| AppError::Start(panic.to_string()))?;
        match result {
            Ok(_) => {}
            Err(error) if force_start => {
                warn!("started without rules; every decision fails until rules load\n{error}");
            }
            Err(source) => return Err(AppError::Rules { place, source }),
        }
        Ok(Self::Files(Box::new(reloader)))
    }

    pub(super) fn start(self, tasks: &mut Tasks, trigger: ReloadTrigger) {
        match self {
            Self::Files(reloader) => tasks.background("rule watcher", reloader.watch(trigger)),
            Self::Xds(client) => {
                tasks.background("xDS client", client.run());
                tasks.background("reload requests", ignore_reloads(trigger));
            }
        }
    }
}

/// Logs that leases have no effect on counters in memory, if a rule has any.
pub(super) fn report_unused_leases(rules: &RuleTree, store: &StoreSettings) {
    if let StoreSettings::Redis { .. } = store {
        return;
    }
    let mut unused = 0;
    for rule in rules.rules() {
        unused += usize::from(rule.spec.limits.iter().any(|it| 0 < it.limit.max_prefetch));
    }
    if 0 < unused {
        info!("the `accuracy` of {unused} rules has no effect: the counters are in memory");
    }
}

/// Logs requests to reload rules that a management server sends. Does not return.
async fn ignore_reloads(mut trigger: ReloadTrigger) -> Result<Infallible, Infallible> {
    loop {
        trigger.recv().await;
        info!(
            "nothing to reload: the rules come from the xDS management server, which sends changes \
             by itself"
        );
    }
}

/// Waits for `task`. Calls `report` with the time so far whenever another `period` has passed.
async fn report_while_pending<T>(
    task: impl Future<Output = T>,
    period: Duration,
    report: impl Fn(Duration),
) -> T {
    let begin = Instant::now();
    pin!(task);
    loop {
        match time::timeout(period, task.as_mut()).await {
            Ok(result) => return result,
            Err(_) => report(begin.elapsed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_load_that_hangs_is_reported_until_it_ends() {
        let reports = RefCell::new(Vec::new());
        let load = time::sleep(Duration::from_secs(100));
        report_while_pending(load, SLOW_LOAD, |time| reports.borrow_mut().push(time.as_secs()))
            .await;
        assert_eq!(reports.into_inner(), [30, 60, 90]);
    }
}
