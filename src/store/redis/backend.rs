//! One Redis: a server, a master with Sentinels, or a cluster.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    backend_context::BackendContext,
    batch::ScriptScope,
    call::{Call, CallResult},
    cluster::Cluster,
    endpoint::Endpoint,
    node::{Node, Redirected},
    probe,
    settings::{RedisServers, RedisSettings},
    slots::key_slot,
};
use crate::{
    counter::CounterKey,
    store::{PoolUsage, StoreError},
};

#[derive(Debug)]
pub(super) struct Backend {
    servers: BackendServers,
    context: BackendContext,
    /// The key on which readiness checks run the scripts of a single server.
    probe_key: String,
}

#[derive(Debug)]
enum BackendServers {
    Single(Node),
    Cluster(Cluster),
}

impl Backend {
    pub(super) fn new(settings: &RedisSettings, context: BackendContext) -> Self {
        let endpoint = match &settings.servers {
            RedisServers::Cluster(_) => None,
            RedisServers::Single(address) => Some(Endpoint::fixed(address.clone(), settings)),
            RedisServers::Sentinel { master, sentinels } => {
                Some(Endpoint::via_sentinels(master.clone(), sentinels, settings))
            }
        };
        let servers = match (endpoint, &settings.servers) {
            (Some(endpoint), _) => {
                let scope = ScriptScope::AllKeys;
                BackendServers::Single(Node::new(endpoint, settings, scope, &context))
            }
            _ => BackendServers::Cluster(Cluster::new(settings, context.clone())),
        };
        Self { servers, context, probe_key: probe::key(&settings.key_prefix, 0) }
    }

    /// Returns the slot of a counter in a cluster, and 0 on a single server.
    pub(super) fn slot(&self, counter: &CounterKey) -> u16 {
        if self.is_cluster() { key_slot(counter.as_bytes()) } else { 0 }
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.servers, BackendServers::Cluster(_))
    }

    /// Returns the index of the node that owns `slot`; 0 for a single server.
    pub(super) fn owner_index(&self, slot: u16) -> u16 {
        match &self.servers {
            BackendServers::Single(_) => 0,
            BackendServers::Cluster(cluster) => cluster.owner_index(slot),
        }
    }

    /// Sends a call whose keys are all in `slot`.
    pub(super) async fn call(&self, slot: u16, call: &Arc<Call>, until: Instant) -> CallResult {
        match &self.servers {
            BackendServers::Single(node) => node.call(call, until, Redirected::No).await,
            BackendServers::Cluster(cluster) => cluster.call(slot, call, until).await,
        }
    }

    pub(super) async fn ready(&self) -> Result<(), StoreError> {
        match &self.servers {
            BackendServers::Single(node) => Ok(node.check_scripts(&self.probe_key).await?),
            BackendServers::Cluster(cluster) => cluster.ready().await,
        }
    }

    /// Returns once a task of a connection has ended, which only a panic does.
    pub(super) async fn task_ended(&self) {
        match &self.servers {
            BackendServers::Single(node) => node.task_ended().await,
            BackendServers::Cluster(cluster) => cluster.task_ended().await,
        }
    }

    pub(super) fn usage(&self) -> PoolUsage {
        let mut usage = self.context.connection_usage();
        match &self.servers {
            BackendServers::Single(node) => node.add_usage(&mut usage),
            BackendServers::Cluster(cluster) => cluster.add_usage(&mut usage),
        }
        usage
    }
}
