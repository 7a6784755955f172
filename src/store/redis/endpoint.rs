//! The server that a connection is opened to: a fixed address, or the master that Sentinels
//! report.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    connect_options::ConnectOptions,
    routing::RoutingCheck,
    sentinels::Sentinels,
    settings::{RedisAddress, RedisServers, RedisSettings},
};

const SENTINEL_POLL_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Endpoint {
    discovery: Discovery,
    pub(super) options: Arc<ConnectOptions>,
    /// `None` for a node of a cluster, where a script accesses the keys of only one slot.
    pub(super) routing_check: Option<Arc<RoutingCheck>>,
}

#[derive(Debug)]
enum Discovery {
    Static(RedisAddress),
    Sentinels(Box<Sentinels>),
}

impl Endpoint {
    /// The server at `address`.
    pub(super) fn fixed(address: RedisAddress, settings: &RedisSettings) -> Self {
        let routing_check = match settings.servers {
            RedisServers::Cluster(_) => None,
            _ => Some(Arc::new(RoutingCheck::new(settings))),
        };
        let options = Arc::new(ConnectOptions::for_servers(settings));
        Self { discovery: Discovery::Static(address), options, routing_check }
    }

    /// The server that Sentinels report as the master named `master`.
    pub(super) fn via_sentinels(
        master: String,
        sentinels: &[RedisAddress],
        settings: &RedisSettings,
    ) -> Self {
        let options = Arc::new(ConnectOptions::for_sentinels(settings));
        let sentinels = Box::new(Sentinels::new(master, options, sentinels));
        Self {
            discovery: Discovery::Sentinels(sentinels),
            options: Arc::new(ConnectOptions::for_servers(settings)),
            routing_check: Some(Arc::new(RoutingCheck::new(settings))),
        }
    }

    pub(super) const fn is_via_sentinels(&self) -> bool {
        matches!(self.discovery, Discovery::Sentinels(_))
    }

    /// Returns the current address.
    pub(super) async fn resolve(&mut self, timeout: Duration) -> Result<RedisAddress, String> {
        match &mut self.discovery {
            Discovery::Static(address) => Ok(address.clone()),
            Discovery::Sentinels(sentinels) => sentinels.find_master(timeout, false).await,
        }
    }

    /// Returns once the Sentinels report another master than the one at `address`. Never
    /// returns for a fixed address.
    pub(super) async fn replaced(&mut self, address: &RedisAddress, timeout: Duration) {
        let Discovery::Sentinels(sentinels) = &mut self.discovery else {
            return std::future::pending().await;
        };
        loop {
            sleep(SENTINEL_POLL_INTERVAL).await;
            if let Ok(master) = sentinels.find_master(timeout, true).await
                && master != *address
            {
                return;
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.discovery {
            Discovery::Static(address) => address.fmt(f),
            Discovery::Sentinels(sentinels) => write!(f, "the master {}", sentinels.master()),
        }
    }
}
