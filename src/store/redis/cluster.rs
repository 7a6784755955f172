//! A Redis Cluster: each node owns a part of the slots.
//!
//! A call is sent to the node that owns the slot of its counters. Nodes are independent of
//! each other: a node that is down fails only the calls for its own slots.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use self::{
    refresh::keep_up_to_date,
    slot_map::{ClusterNode, SlotMap, UNASSIGNED},
    topology::Topology,
};
use super::{
    backend_context::BackendContext,
    call::{Call, CallResult},
    node::Redirected,
    node_error::NodeError,
    probe,
    settings::RedisSettings,
    slots::{SLOT_COUNT, key_slot},
};
use crate::store::{PoolUsage, StoreError};

mod refresh;
mod slot_map;
pub(super) mod slots_reply;
mod topology;

/// The most redirections that one call follows.
const MAX_REDIRECTIONS: u32 = 4;
/// The delay before a call is sent again while its keys are on two nodes.
const TRY_AGAIN_DELAY: Duration = Duration::from_millis(3);

#[derive(Debug)]
pub(super) struct Cluster {
    topology: Arc<Topology>,
    /// Aborted when the cluster is dropped.
    _task: JoinSet<()>,
}

impl Cluster {
    /// Starts to connect to the nodes in `settings`, and to those that they report. Needs a
    /// Tokio runtime.
    pub(super) fn new(settings: &RedisSettings, context: BackendContext) -> Self {
        let topology = Arc::new(Topology::new(settings.clone(), context));
        let mut task = JoinSet::new();
        task.spawn(keep_up_to_date(Arc::clone(&topology)));
        Self { topology, _task: task }
    }

    /// Sends a call whose keys are all in `slot`, and follows redirections.
    pub(super) async fn call(&self, slot: u16, call: &Arc<Call>, until: Instant) -> CallResult {
        let mut node = self.topology.owner(slot)?;
        let mut redirected = Redirected::No;
        let mut redirections_left = MAX_REDIRECTIONS;
        loop {
            let error = match node.call(call, until, redirected).await {
                Ok(replies) => return Ok(replies),
                Err(error) => error,
            };
            if redirections_left == 0 {
                return Err(error);
            }
            redirections_left -= 1;
            // A node that redirects a call has not made it.
            match error {
                NodeError::Moved { slot, address } => {
                    node = self.topology.follow_moved(slot, &address, &node)?;
                    redirected = Redirected::No;
                }
                NodeError::Ask { address } => {
                    node = self.topology.follow_ask(&address, &node)?;
                    redirected = Redirected::Ask;
                }
                NodeError::TryAgain if Instant::now() + TRY_AGAIN_DELAY < until => {
                    sleep(TRY_AGAIN_DELAY).await;
                }
                NodeError::TryAgain => return Err(error),
                NodeError::Unsent(_) | NodeError::Failed(_) => {
                    self.topology.request_refresh();
                    return Err(error);
                }
            }
        }
    }

    /// Returns the index in the slot map of the node that owns `slot`.
    pub(super) fn owner_index(&self, slot: u16) -> u16 {
        self.topology.slot_map().owner_index(slot)
    }

    /// Checks that every slot has an owner, and that each owner can run the scripts.
    pub(super) async fn ready(&self) -> Result<(), StoreError> {
        let first_refresh = self.topology.first_refresh().await;
        let map = self.topology.slot_map();
        check_coverage(&map, first_refresh)?;
        let keys =
            probe::key_per_node(&self.topology.settings.key_prefix, map.owners().len(), |key| {
                map.owner_index(key_slot(key.as_bytes()))
            });
        let mut checks = Vec::with_capacity(keys.len());
        for (index, key) in &keys {
            let ClusterNode { node, .. } = &map.nodes[usize::from(*index)];
            checks.push(node.check_scripts(key));
        }
        for result in join_all(checks).await {
            if let Err(error) = result {
                self.topology.request_refresh();
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Adds the queued calls and the unresponsive nodes to `usage`.
    pub(super) fn add_usage(&self, usage: &mut PoolUsage) {
        for ClusterNode { node, .. } in &self.topology.slot_map().nodes {
            node.add_usage(usage);
        }
    }

    /// Returns once the task that refreshes the slot map, or a task of a node, has ended.
    pub(super) async fn task_ended(&self) {
        self.topology.refresh_ended.notified().await;
    }
}

/// Returns an error if a slot has no owner.
fn check_coverage(map: &SlotMap, first_refresh: Result<(), Arc<str>>) -> Result<(), StoreError> {
    let mut unassigned = 0;
    let mut first = None;
    for slot in 0..SLOT_COUNT {
        if map.owner_index(slot) == UNASSIGNED {
            unassigned += 1;
            first = first.or(Some(slot));
        }
    }
    let Some(first) = first else { return Ok(()) };
    if unassigned == SLOT_COUNT
        && let Err(reason) = first_refresh
    {
        let reason = format!("the slot map of the Redis Cluster is unknown: {reason}");
        return Err(StoreError::Failed(reason));
    }
    let mut reason = format!("no node of the Redis Cluster has slot {first}");
    if unassigned > 1 {
        reason.push_str(&format!(", or {} others", unassigned - 1));
    }
    Err(StoreError::Failed(reason))
}
