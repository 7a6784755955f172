//! Starts the admin API.

use std::{
    convert::Infallible,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use axum::Router;
use tokio::time::{self, MissedTickBehavior};
use tracing::{info, warn};

use super::tasks::Tasks;
use crate::{
    admin::{
        self, Admin, AdminSettings, Gate,
        tokens::{self, TokenError, Tokens},
    },
    health::Health,
    listen::Listener,
    live::Live,
    service::Service,
    store::{Counters, Store},
    time::Clock,
};

/// The time between two ticks of the live data.
const TICK: Duration = Duration::from_secs(1);

/// Who may use the API.
pub(super) struct Access {
    settings: AdminSettings,
    tokens: Tokens,
    /// The token of this start, unless there is a file with all tokens.
    start_token: Option<String>,
    health: Arc<Health>,
    rejection: Arc<ArcSwapOption<String>>,
}

impl Access {
    /// Reads the tokens, or makes one. `None` if nobody can have a token. Blocks.
    ///
    /// # Errors
    ///
    /// If the tokens cannot be read or written.
    pub(super) fn load(
        settings: AdminSettings,
        health: &Arc<Health>,
        rejection: &Arc<ArcSwapOption<String>>,
    ) -> Result<Option<Self>, TokenError> {
        if !settings.is_open() {
            info!(
                "the admin API is closed: nobody has a token. ADMIN_TOKENS_FILE or \
                 ADMIN_TOKEN_FILE opens it"
            );
            return Ok(None);
        }
        let (health, rejection) = (Arc::clone(health), Arc::clone(rejection));
        if let Some(path) = &settings.tokens_file {
            let tokens = Tokens::read(path)?;
            return Ok(Some(Self { settings, tokens, start_token: None, health, rejection }));
        }
        let (tokens, token) = Tokens::generate()?;
        if let Some(path) = &settings.token_file {
            tokens::write(path, &token)?;
        }
        Ok(Some(Self { settings, tokens, start_token: Some(token), health, rejection }))
    }

    /// The routes of the API. Adds its tasks, and shows the token of this start on the terminal,
    /// never in the log. `None` without a listener.
    pub(super) fn routes<S: Store + Counters>(
        self,
        service: &Arc<Service<S>>,
        listener: Option<&Listener>,
        tasks: &mut Tasks,
    ) -> Option<Router> {
        let (listener, live) = (listener?, service.live.as_ref()?);
        self.announce(listener);
        let clock = Arc::clone(&service.engine.clock);
        tasks.background("live statistics", tick(Arc::clone(live), Arc::clone(&clock)));
        let AdminSettings { address, names, tokens_file, .. } = self.settings;
        if let Some(path) = tokens_file {
            tasks.background("watcher of the admin tokens", self.tokens.clone().watch(path));
        }
        let admin = Admin::new(service, Arc::clone(live), self.health, self.rejection);
        let metrics = Arc::clone(&service.metrics);
        Some(admin::routes(admin, Gate::new(self.tokens, &address, names, clock, metrics)))
    }

    fn announce(&self, listener: &Listener) {
        let Some(address) = listener.address() else { return };
        if !self.settings.is_loopback() {
            warn!(
                %address,
                "the admin API is served without TLS beyond this host: who can read the traffic \
                 learns the tokens"
            );
        }
        if let Some(token) = &self.start_token
            && self.settings.shows_token
        {
            // A terminal that is gone does not matter.
            let _ = writeln!(io::stdout(), "admin API: http://{address}/#token={token}");
        }
    }
}

async fn tick(live: Arc<Live>, clock: Arc<dyn Clock>) -> Result<Infallible, Infallible> {
    let mut ticks = time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        live.tick(clock.now());
    }
}
