//! Loads the rules and keeps them up to date.

use std::{convert::Infallible, sync::Arc};

use tracing::{info, warn};

use super::{AppError, tasks::Tasks};
use crate::{
    config::CompileOptions,
    engine::SharedRules,
    health::Health,
    metrics::Metrics,
    reload::{ActiveRules, ReloadTrigger, Reloader},
    settings::RuleSettings,
    xds::XdsClient,
};

/// The state before any rules are loaded.
pub(super) fn no_rules(metrics: &Arc<Metrics>) -> ActiveRules {
    ActiveRules {
        rules: SharedRules::default(),
        metrics: Arc::clone(metrics),
        health: Arc::new(Health::default()),
        rejection: Arc::default(),
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
    /// rules.
    pub(super) fn load(settings: RuleSettings, active: ActiveRules) -> Result<Self, AppError> {
        let RuleSettings { source, links, xds, merge_domains, force_start, .. } = settings;
        if settings.unhealthy_without_domains {
            active.health.require_domain();
        }
        let options = CompileOptions { merge_domains };
        if let Some(xds) = xds {
            if force_start {
                active.health.allow_no_rules();
            }
            return Ok(Self::Xds(Box::new(XdsClient::new(xds, options, active))));
        }
        let place = source.to_string();
        let mut reloader = Reloader::new(source, links, options, active);
        match reloader.load() {
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
