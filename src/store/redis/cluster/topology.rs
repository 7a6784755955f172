//! The current slot map of a cluster, and changes to it by redirections.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::slot_map::{ClusterNode, SlotMap};
use crate::store::{
    StoreError,
    redis::{
        backend_context::BackendContext,
        batch::ScriptScope,
        endpoint::Endpoint,
        node::Node,
        node_error::NodeError,
        settings::{RedisAddress, RedisSettings},
    },
};

/// The most nodes of a cluster, which is what Redis recommends.
const MAX_NODES: usize = 1_000;

#[derive(Debug)]
pub(super) struct Topology {
    pub(super) settings: RedisSettings,
    pub(super) context: BackendContext,
    map: ArcSwap<SlotMap>,
    /// Held while the map is replaced.
    replacing: Mutex<()>,
    /// Notified when the map may be out of date.
    pub(super) refresh_requested: Notify,
    /// The result of the last refresh, or `None` before the first one.
    last_refresh: watch::Sender<Option<Result<(), Arc<str>>>>,
    /// Notified when the refresh task ends.
    pub(super) refresh_ended: Notify,
}

impl Topology {
    pub(super) fn new(settings: RedisSettings, context: BackendContext) -> Self {
        Self {
            settings,
            context,
            map: ArcSwap::from_pointee(SlotMap::empty()),
            replacing: Mutex::default(),
            refresh_requested: Notify::new(),
            last_refresh: watch::Sender::new(None),
            refresh_ended: Notify::new(),
        }
    }

    pub(super) fn slot_map(&self) -> Arc<SlotMap> {
        self.map.load_full()
    }

    pub(super) fn request_refresh(&self) {
        self.refresh_requested.notify_one();
    }

    pub(super) fn set_last_refresh(&self, result: Result<(), Arc<str>>) {
        self.last_refresh.send_replace(Some(result));
    }

    /// Waits for the first refresh, and returns the result of the last one.
    pub(super) async fn first_refresh(&self) -> Result<(), Arc<str>> {
        let mut last_refresh = self.last_refresh.subscribe();
        let result = match last_refresh.wait_for(Option::is_some).await {
            Ok(result) => result.clone(),
            Err(_) => None,
        };
        result.unwrap_or(Ok(()))
    }

    /// Returns the owner of `slot`, or an error that requests a refresh.
    pub(super) fn owner(&self, slot: u16) -> Result<Arc<Node>, NodeError> {
        if let Some(owner) = self.map.load().owner(slot) {
            return Ok(Arc::clone(&owner.node));
        }
        self.request_refresh();
        let mut reason = format!("no node of the Redis Cluster is known to have slot {slot}");
        if let Some(Err(error)) = &*self.last_refresh.borrow() {
            reason.push_str(": ");
            reason.push_str(error);
        }
        Err(NodeError::unsent(reason))
    }

    /// Returns the node at `address`, to which the node `from` redirected a call with ASK.
    pub(super) fn follow_ask(
        &self,
        address: &str,
        from: &Arc<Node>,
    ) -> Result<Arc<Node>, StoreError> {
        let address = self.parse_redirection(address, from)?;
        let _replacing = self.replacing.lock();
        let mut map = SlotMap::clone(&self.map.load());
        let index = self.find_or_add(&mut map, &address)?;
        let node = Arc::clone(&map.nodes[usize::from(index)].node);
        self.map.store(Arc::new(map));
        Ok(node)
    }

    /// Makes the node at `address` the owner of `slot`, after the node `from` redirected a
    /// call with MOVED. Returns the new owner.
    pub(super) fn follow_moved(
        &self,
        slot: u16,
        address: &str,
        from: &Arc<Node>,
    ) -> Result<Arc<Node>, StoreError> {
        self.request_refresh();
        let address = self.parse_redirection(address, from)?;
        let _replacing = self.replacing.lock();
        let map = self.map.load();
        // Another call may have been redirected before.
        if let Some(owner) = map.owner(slot)
            && owner.address == address
        {
            return Ok(Arc::clone(&owner.node));
        }
        let mut map = SlotMap::clone(&map);
        let index = self.find_or_add(&mut map, &address)?;
        map.assign(slot, slot, index);
        let node = Arc::clone(&map.nodes[usize::from(index)].node);
        self.map.store(Arc::new(map));
        Ok(node)
    }

    /// Parses `host:port`. Without a host, it is the host of the node `from`.
    fn parse_redirection(&self, text: &str, from: &Arc<Node>) -> Result<RedisAddress, StoreError> {
        let malformed =
            || StoreError::Failed(format!("a node redirects to the malformed address {text:?}"));
        let (host, port) = text.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().map_err(|_| malformed())?;
        if matches!(host, "" | "?") {
            for ClusterNode { address, node } in &self.map.load().nodes {
                if let RedisAddress::Tcp { host, .. } = address
                    && Arc::ptr_eq(node, from)
                {
                    return Ok(RedisAddress::Tcp { host: host.clone(), port });
                }
            }
        }
        Ok(RedisAddress::Tcp { host: host.trim_matches(['[', ']']).to_owned(), port })
    }

    /// Returns the index of the node at `address`, which is added to `map` if necessary.
    pub(super) fn find_or_add(
        &self,
        map: &mut SlotMap,
        address: &RedisAddress,
    ) -> Result<u16, StoreError> {
        let found = map.nodes.iter().position(|node| node.address == *address);
        let index = found.unwrap_or(map.nodes.len());
        if index >= MAX_NODES {
            let reason = format!("the Redis Cluster has more than {MAX_NODES} nodes");
            return Err(StoreError::Failed(reason));
        }
        if found.is_none() {
            map.nodes.push(self.connect(address));
        }
        Ok(u16::try_from(index).unwrap_or(u16::MAX))
    }

    /// Starts to connect to the node at `address`.
    pub(super) fn connect(&self, address: &RedisAddress) -> ClusterNode {
        let endpoint = Endpoint::fixed(address.clone(), &self.settings);
        let node = Node::new(endpoint, &self.settings, ScriptScope::OneSlot, &self.context);
        ClusterNode { address: address.clone(), node: Arc::new(node) }
    }

    /// Replaces the map by one that `build` makes from the current map.
    pub(super) fn replace_map<T>(
        &self,
        build: impl FnOnce(&SlotMap) -> Result<(SlotMap, T), StoreError>,
    ) -> Result<T, StoreError> {
        let _replacing = self.replacing.lock();
        let (map, result) = build(&self.map.load())?;
        self.map.store(Arc::new(map));
        Ok(result)
    }
}
