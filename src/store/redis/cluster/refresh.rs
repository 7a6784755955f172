//! Keeps the slot map of a cluster up to date.

use std::{sync::Arc, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::cmd;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{
    slot_map::{ClusterNode, SlotMap},
    slots_reply,
    topology::Topology,
};
use crate::{
    backoff::{Backoff, BackoffSettings},
    store::{
        StoreError,
        redis::{
            settings::RedisServers,
            slot_vote::{SlotRange, majority},
        },
    },
};

/// The interval of refreshes if calls succeed.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);
/// The delays between two refreshes while calls fail but the map stays the same: a node that is
/// down for long must not keep the others busy. Instances that lost the same node should not ask
/// at the same moment.
const BACKOFF: BackoffSettings = BackoffSettings {
    initial: Duration::from_millis(125),
    max: Duration::from_millis(1_250),
    jitter: 0.4,
};
/// The number of nodes that are asked for their slot map.
const MAX_MAPS: usize = 5;
/// The number of nodes in a log line.
const MAX_LOGGED_NODES: usize = 50;
/// The time that the other nodes have after the first reply.
const OTHERS_TIMEOUT: Duration = Duration::from_millis(100);

#[derive(Debug, PartialEq, Eq)]
enum Refreshed {
    Changed,
    Unchanged,
}

/// The replacement of a slot map.
struct Update {
    refreshed: Refreshed,
    /// The addresses of all nodes, if they differ from those before.
    new_nodes: Option<Vec<String>>,
}

/// Notifies [`Topology::refresh_ended`] when the task ends, also by a panic.
struct EndGuard(Arc<Topology>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.refresh_ended.notify_one();
    }
}

/// Refreshes the slot map regularly, and on request. Returns only if the task of a node has
/// ended.
pub(super) async fn keep_up_to_date(topology: Arc<Topology>) {
    let guard = EndGuard(topology);
    let topology = &guard.0;
    let mut seeds = Vec::new();
    let mut is_failing = false;
    let mut backoff = Backoff::new(BACKOFF);
    loop {
        let refreshed = refresh(topology, &mut seeds).await;
        match &refreshed {
            Ok(refreshed) => {
                is_failing = false;
                seeds.clear();
                if *refreshed == Refreshed::Changed {
                    backoff.reset();
                }
            }
            Err(error) => {
                if !is_failing {
                    let reason = error.reason();
                    warn!("cannot read the slot map of the Redis Cluster: {reason}; retrying");
                }
                is_failing = true;
            }
        }
        topology.set_last_refresh(match refreshed {
            Ok(_) => Ok(()),
            Err(error) => Err(error.reason().into()),
        });
        if topology.slot_map().nodes.iter().any(|node| node.node.has_task_ended()) {
            return;
        }
        sleep(backoff.next_delay()).await;
        if timeout(REFRESH_INTERVAL, topology.refresh_requested.notified()).await.is_err() {
            backoff.reset();
        }
    }
}

/// Asks nodes for the slot map. If no known node replies, asks the `seeds`, which are
/// connected to when they are needed, and stay connected until a refresh succeeds.
async fn refresh(
    topology: &Topology,
    seeds: &mut Vec<ClusterNode>,
) -> Result<Refreshed, StoreError> {
    let nodes = topology.slot_map().nodes.clone();
    if let Ok(maps) = query(&sample(&nodes)).await {
        return update(topology, &maps, &nodes);
    }
    if let Ok(maps) = query(&nodes).await {
        return update(topology, &maps, &nodes);
    }
    // All nodes may have been replaced. Seeds are only asked then: their addresses may differ
    // from those that nodes report, so that they need connections of their own.
    if seeds.is_empty()
        && let RedisServers::Cluster(addresses) = &topology.settings.servers
    {
        for address in addresses {
            seeds.push(topology.connect(address));
        }
    }
    let maps = query(seeds).await?;
    update(topology, &maps, seeds)
}

/// Replaces the slot map by the majority of `maps`. Keeps the connections of `asked` and of
/// the current map.
fn update(
    topology: &Topology,
    maps: &[Vec<SlotRange>],
    asked: &[ClusterNode],
) -> Result<Refreshed, StoreError> {
    let update = topology.replace_map(|old| {
        let known_owner = |slot| old.owner(slot).map(|owner| &owner.address);
        let mut new = SlotMap::empty();
        for SlotRange { first, last, owner } in majority(maps, known_owner) {
            if new.node_at(&owner).is_none() {
                for node in old.nodes.iter().chain(asked) {
                    if node.address == owner {
                        new.nodes.push(node.clone());
                        break;
                    }
                }
            }
            let index = topology.find_or_add(&mut new, &owner)?;
            new.assign(first, last, index);
        }
        let nodes = new.addresses();
        let new_nodes = if nodes == old.addresses() { None } else { Some(nodes) };
        let refreshed =
            if old.has_same_owners(&new) { Refreshed::Unchanged } else { Refreshed::Changed };
        Ok((new, Update { refreshed, new_nodes }))
    })?;
    if let Some(nodes) = update.new_nodes
        && topology.context.log_lines.allows_line()
    {
        let count = nodes.len();
        let nodes = nodes[..count.min(MAX_LOGGED_NODES)].join(",");
        info!(count, nodes, "the nodes of the Redis Cluster have changed");
    }
    Ok(update.refreshed)
}

/// Returns random nodes, so that each is asked less often the more nodes there are. Excludes
/// unresponsive nodes.
fn sample(nodes: &[ClusterNode]) -> Vec<ClusterNode> {
    let mut sample = Vec::new();
    for node in nodes {
        if !node.node.is_unresponsive() {
            sample.push(node.clone());
        }
    }
    while MAX_MAPS < sample.len() {
        sample.swap_remove(fastrand::usize(..sample.len()));
    }
    sample
}

/// Returns the slot maps of the nodes that reply first.
async fn query(nodes: &[ClusterNode]) -> Result<Vec<Vec<SlotRange>>, StoreError> {
    let mut queries: FuturesUnordered<_> = nodes.iter().map(query_node).collect();
    let mut maps = Vec::new();
    let mut last_error = StoreError::Failed("no node of the Redis Cluster is known".into());
    while maps.len() < MAX_MAPS {
        let next = if maps.is_empty() {
            queries.next().await
        } else {
            timeout(OTHERS_TIMEOUT, queries.next()).await.unwrap_or_default()
        };
        match next {
            Some(Ok(map)) => maps.push(map),
            Some(Err(error)) => last_error = error,
            None => break,
        }
    }
    if maps.is_empty() { Err(last_error) } else { Ok(maps) }
}

async fn query_node(node: &ClusterNode) -> Result<Vec<SlotRange>, StoreError> {
    let reply = node.node.command(cmd("CLUSTER").arg("SLOTS")).await?;
    match slots_reply::parse(&reply, &node.address) {
        // A node that has left the cluster reports no slots.
        Some(map) if !map.is_empty() => Ok(map),
        _ => Err(StoreError::Failed("the reply to CLUSTER SLOTS contains no slots".into())),
    }
}
