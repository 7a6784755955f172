//! Counters in a Redis Cluster: every node has a part of the slots.
//!
//! A call is sent to the node that has the slot of its counters. Nodes are independent of
//! each other: one that is dead or silent hurts nobody but its own keys.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures_util::{
    future::join_all,
    stream::{FuturesUnordered, StreamExt},
};
use parking_lot::Mutex;
use redis::{Cmd, Value, cmd};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use super::{
    call::{Call, CallResult},
    node::Node,
    node_error::NodeError,
    probe,
    settings::{RedisAddress, RedisSettings},
    settler::SettlementQueue,
    slots::{SLOTS, slot},
    target::Target,
    traffic::Traffic,
    views::{self, Slots},
};
use crate::store::StoreError;

/// How often the nodes are asked who has which slots.
const REFRESH: Duration = Duration::from_secs(2);
/// How long to wait at least between two times, and how long once that has taught nothing
/// several times although a call failed: a node that is gone for long must not keep the
/// others busy.
const BREATH: Duration = Duration::from_millis(100);
const LONGEST_BREATH: Duration = Duration::from_secs(1);
/// How many nodes are asked, and how long the others have once one has answered.
const VIEWS: usize = 5;
const OTHERS: Duration = Duration::from_millis(100);
/// How often a call is sent on by nodes that do not have the slot.
const REDIRECTIONS: u32 = 4;
/// How long to wait when the keys of a call are moving.
const MOVING: Duration = Duration::from_millis(3);
/// How many nodes are known at most: Redis recommends no more.
const NODES: usize = 1_000;
/// A slot that nobody has.
const NOBODY: u16 = u16::MAX;

/// A cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    known: Arc<Known>,
    /// Ends with this.
    _task: JoinSet<()>,
}

/// What is known of it.
#[derive(Debug)]
struct Known {
    settings: RedisSettings,
    traffic: Traffic,
    late: SettlementQueue,
    seeds: Vec<RedisAddress>,
    map: ArcSwap<Map>,
    /// Held while the map is replaced.
    changing: Mutex<()>,
    /// The map may be wrong.
    doubt: Notify,
    /// What has come of the last time that the nodes were asked, if they have been.
    learned: watch::Sender<Option<Result<(), Arc<str>>>>,
    /// Dropped when nothing refreshes the map any more.
    refreshing: Notify,
}

/// Nodes, and where they are.
type Nodes = Vec<(RedisAddress, Arc<Node>)>;

/// Who has which slots.
#[derive(Clone, Debug)]
struct Map {
    nodes: Nodes,
    /// The place in `nodes`, for each slot.
    owners: Box<[u16]>,
}

impl Cluster {
    /// Begins to connect to `seeds`, and to those whom they know. Needs a Tokio
    /// runtime.
    pub(super) fn new(
        seeds: &[RedisAddress],
        settings: &RedisSettings,
        (traffic, late): (Traffic, SettlementQueue),
    ) -> Self {
        let map = Map { nodes: Vec::new(), owners: vec![NOBODY; SLOTS.into()].into() };
        let known = Arc::new(Known {
            settings: settings.clone(),
            traffic,
            late,
            seeds: seeds.to_vec(),
            map: ArcSwap::from_pointee(map),
            changing: Mutex::default(),
            doubt: Notify::new(),
            learned: watch::Sender::new(None),
            refreshing: Notify::new(),
        });
        let mut task = JoinSet::new();
        task.spawn(keep_up(Arc::clone(&known)));
        Self { known, _task: task }
    }

    /// Makes a call whose keys are in one slot, wherever that is.
    pub(super) async fn call(&self, slot: u16, call: &Arc<Call>, until: Instant) -> CallResult {
        let mut node = self.known.owner(slot)?;
        let mut asking = false;
        let mut left = REDIRECTIONS;
        loop {
            // Whatever is sent on has not been made.
            let error = match node.call(call, until, asking).await {
                Ok(answers) => return Ok(answers),
                Err(error) => error,
            };
            if left == 0 {
                return Err(error);
            }
            left -= 1;
            match error {
                NodeError::Moved { slot, address } => {
                    node = self.known.moved(slot, &address, &node)?;
                    asking = false;
                }
                NodeError::Ask { address } => {
                    node = self.known.at(&address, &node)?;
                    asking = true;
                }
                NodeError::TryAgain if Instant::now() + MOVING < until => sleep(MOVING).await,
                NodeError::TryAgain => return Err(error),
                NodeError::Unsent(_) | NodeError::Failed(_) => {
                    self.known.doubt.notify_one();
                    return Err(error);
                }
            }
        }
    }

    /// The number of the node that owns `slot`, by the current slot map.
    pub(super) fn number_of_owner(&self, slot: u16) -> u16 {
        self.known.map.load().owners.get(usize::from(slot)).copied().unwrap_or(NOBODY)
    }

    /// What the node that has `slot` answers to `command`.
    pub(super) async fn ask_owner(&self, slot: u16, command: &Cmd) -> Result<Value, NodeError> {
        let node = self.known.owner(slot)?;
        match node.ask(command).await {
            Err(NodeError::Moved { slot, address }) => {
                self.known.moved(slot, &address, &node)?.ask(command).await
            }
            Err(NodeError::Ask { address }) => {
                self.known.at(&address, &node)?.ask_moving(command).await
            }
            answer => answer,
        }
    }

    /// Whether all slots are served, by nodes that can decide.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let Known { map, settings, doubt, learned, .. } = &*self.known;
        // Whoever has just begun will know in a moment.
        let mut learned = learned.subscribe();
        let learned = learned.wait_for(Option::is_some).await.map(|it| it.clone());
        let map = map.load_full();
        let nobodys = map.owners.iter().filter(|it| **it == NOBODY).count();
        if nobodys == usize::from(SLOTS)
            && let Ok(Some(Err(why))) = learned
        {
            let why = format!("it is not known which node has which slots: {why}");
            return Err(StoreError::Failed(why));
        }
        if let Some(first) = map.owners.iter().position(|it| *it == NOBODY) {
            let why = format!("no node of the Redis Cluster has slot {first}");
            return Err(StoreError::Failed(match nobodys - 1 {
                0 => why,
                others => format!("{why}, or {others} others"),
            }));
        }
        let owner = |key: &str| map.owners[usize::from(slot(key.as_bytes()))];
        let mut owners = map.owners.to_vec();
        owners.sort_unstable();
        owners.dedup();
        let keys = probe::keys(&settings.key_prefix, owners.len(), owner);
        let probes = keys.iter().map(|(place, key)| {
            let (_, node) = &map.nodes[usize::from(*place)];
            async move { node.decides(key).await.err().map(StoreError::from) }
        });
        match join_all(probes).await.into_iter().flatten().next() {
            None => Ok(()),
            Some(error) => {
                doubt.notify_one();
                Err(error)
            }
        }
    }

    /// How many calls wait for others, and how many nodes do not answer.
    pub(super) fn waiting_and_silent(&self) -> (u64, u64) {
        let map = self.known.map.load();
        let nodes = || map.nodes.iter().map(|(_, node)| node);
        (nodes().map(|it| it.waiting()).sum(), nodes().map(|it| u64::from(it.is_silent())).sum())
    }

    /// Ends when a task that it needs has ended.
    pub(super) async fn died(&self) {
        self.known.refreshing.notified().await;
    }
}

/// Keeps the map up to date. Ends only when a task of a node has ended.
async fn keep_up(known: Arc<Known>) {
    // Also if this panics.
    struct Ended(Arc<Known>);
    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.refreshing.notify_one();
        }
    }
    let ended = Ended(known);
    let known = &ended.0;
    let (mut told, mut seeds) = (false, Nodes::new());
    let mut breath = BREATH;
    loop {
        let learned = known.refresh(&mut seeds).await;
        match &learned {
            Ok(news) => {
                told = false;
                seeds.clear();
                if *news {
                    breath = BREATH;
                }
            }
            Err(why) if !told => {
                let why = why.reason();
                warn!("cannot learn which node of the Redis Cluster has which slots: {why}");
                told = true;
            }
            Err(_) => {}
        }
        let learned = learned.map(|_| ()).map_err(|why| why.reason().into());
        known.learned.send_replace(Some(learned));
        if known.map.load().nodes.iter().any(|(_, node)| node.is_dead()) {
            return;
        }
        // Instances that lost the same node do not ask at the same moments.
        sleep(breath.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        let doubt = timeout(REFRESH, known.doubt.notified()).await;
        breath = if doubt.is_ok() { LONGEST_BREATH.min(2 * breath) } else { BREATH };
    }
}

impl Known {
    fn owner(&self, slot: u16) -> Result<Arc<Node>, NodeError> {
        let map = self.map.load();
        let owner =
            map.owners.get(usize::from(slot)).and_then(|it| map.nodes.get(usize::from(*it)));
        owner.map(|(_, node)| Arc::clone(node)).ok_or_else(|| {
            self.doubt.notify_one();
            let why = format!("no node of the Redis Cluster is known to have slot {slot}");
            NodeError::Unsent(StoreError::Failed(match &*self.learned.borrow() {
                Some(Err(cause)) => format!("{why}: {cause}"),
                Some(Ok(())) | None => why,
            }))
        })
    }

    /// The node to which `from` has sent a call on.
    fn at(&self, address: &str, from: &Arc<Node>) -> Result<Arc<Node>, StoreError> {
        let address = self.address(address, from)?;
        let _changing = self.changing.lock();
        let mut map = Map::clone(&self.map.load());
        let place = self.place(&mut map, &address)?;
        let node = Arc::clone(&map.nodes[usize::from(place)].1);
        self.map.store(Arc::new(map));
        Ok(node)
    }

    /// The same, for good.
    fn moved(&self, slot: u16, address: &str, from: &Arc<Node>) -> Result<Arc<Node>, StoreError> {
        self.doubt.notify_one();
        let address = self.address(address, from)?;
        let _changing = self.changing.lock();
        let map = self.map.load();
        let slot = usize::from(slot % SLOTS);
        // Others have been sent here, too.
        if let Some((at, node)) = map.nodes.get(usize::from(map.owners[slot]))
            && *at == address
        {
            return Ok(Arc::clone(node));
        }
        let mut map = Map::clone(&map);
        let place = self.place(&mut map, &address)?;
        map.owners[slot] = place;
        let node = Arc::clone(&map.nodes[usize::from(place)].1);
        self.map.store(Arc::new(map));
        Ok(node)
    }

    /// Without a host it is that of the node that says so.
    fn address(&self, text: &str, from: &Arc<Node>) -> Result<RedisAddress, StoreError> {
        let unclear = || StoreError::Failed(format!("a node says that {text:?} is another"));
        let (host, port) = text.rsplit_once(':').ok_or_else(unclear)?;
        let port = port.parse().map_err(|_| unclear())?;
        let map = self.map.load();
        let of = |node: &Arc<Node>| {
            let is_it = |(address, it): &&(RedisAddress, _)| {
                Arc::ptr_eq(it, node).then_some(address).is_some()
            };
            map.nodes.iter().find(is_it).map(|(address, _)| address.clone())
        };
        let host = match (host, of(from)) {
            ("" | "?", Some(RedisAddress::Tcp { host, .. })) => host,
            (host, _) => host.trim_matches(['[', ']']).to_owned(),
        };
        Ok(RedisAddress::Tcp { host, port })
    }

    /// The place of the node at `address`, which need not be known yet.
    fn place(&self, map: &mut Map, address: &RedisAddress) -> Result<u16, StoreError> {
        let found = map.nodes.iter().position(|(it, _)| it == address);
        let place = found.unwrap_or(map.nodes.len());
        let place = u16::try_from(place).ok().filter(|it| usize::from(*it) < NODES);
        let place = place.ok_or_else(|| {
            StoreError::Failed(format!("the Redis Cluster has more than {NODES} nodes"))
        })?;
        if found.is_none() {
            map.nodes.push((address.clone(), self.node(address)));
        }
        Ok(place)
    }

    fn node(&self, address: &RedisAddress) -> Arc<Node> {
        let target = Target::fixed(address.clone(), &self.settings);
        Arc::new(Node::new(target, &self.settings, true, (&self.traffic, &self.late)))
    }

    /// Learns who has which slots, and says whether that is news. `seeds` are connected to
    /// if need be, and stay so until that works.
    async fn refresh(&self, seeds: &mut Nodes) -> Result<bool, StoreError> {
        let known = self.map.load().nodes.clone();
        if let Ok(views) = ask(&some(&known)).await {
            return self.learn(&views, known);
        }
        if let Ok(views) = ask(&known).await {
            return self.learn(&views, known);
        }
        // All of them may have been replaced. Seeds may have other names than
        // those that the nodes have for each other, and so connections of their
        // own: they are not asked without need.
        if seeds.is_empty() {
            seeds.extend(self.seeds.iter().map(|it| (it.clone(), self.node(it))));
        }
        let views = ask(seeds).await?;
        self.learn(&views, seeds.clone())
    }

    fn learn(&self, views: &[Vec<Slots>], asked: Nodes) -> Result<bool, StoreError> {
        let _changing = self.changing.lock();
        let old = self.map.load();
        let before = |slot: u16| old.nodes.get(usize::from(old.owners[usize::from(slot)]));
        let ranges = &views::agree(views, |slot| before(slot).map(|(address, _)| address));
        let mut new = Map { nodes: Vec::new(), owners: vec![NOBODY; SLOTS.into()].into() };
        for Slots { first, last, owner } in ranges {
            if !new.nodes.iter().any(|(it, _)| it == owner) {
                let known = old.nodes.iter().chain(&asked).find(|(it, _)| it == owner);
                new.nodes.extend(known.cloned());
            }
            let place = self.place(&mut new, owner)?;
            new.owners[usize::from(*first)..=usize::from(*last)].fill(place);
        }
        let addresses =
            |map: &Map| map.nodes.iter().map(|(it, _)| it.to_string()).collect::<Vec<_>>();
        let (before, after) = (addresses(&old), addresses(&new));
        if before != after {
            info!(nodes = after.join(","), "the nodes of the Redis Cluster that have slots");
        }
        let owners = |map: &Map| -> Vec<_> {
            let owner = |it: &u16| map.nodes.get(usize::from(*it)).map(|(_, it)| Arc::as_ptr(it));
            map.owners.iter().map(owner).collect()
        };
        let news = owners(&old) != owners(&new);
        self.map.store(Arc::new(new));
        Ok(news)
    }
}

/// As many of `nodes` as are to be asked, by chance: each is asked less often the more there
/// are. Those that do not answer anyway are left out if there are others.
fn some(nodes: &Nodes) -> Nodes {
    let mut heard: Nodes = nodes.iter().filter(|(_, it)| !it.is_silent()).cloned().collect();
    while VIEWS < heard.len() {
        heard.swap_remove(fastrand::usize(..heard.len()));
    }
    heard
}

/// Who has which slots, says each of some of `nodes`: those that answer first, and they
/// wait a moment for each other.
async fn ask(nodes: &Nodes) -> Result<Vec<Vec<Slots>>, StoreError> {
    let asks = nodes.iter().map(|(address, node)| async move {
        let answer = node.ask(cmd("CLUSTER").arg("SLOTS")).await?;
        let ranges = ranges(&answer, address);
        // One that has left the cluster knows of none.
        let ranges = ranges.filter(|it| !it.is_empty());
        ranges.ok_or_else(|| StoreError::Failed("the answer is no list of slots".into()))
    });
    let mut asks: FuturesUnordered<_> = asks.collect();
    let none = "no node of the Redis Cluster is known".into();
    let (mut views, mut error) = (Vec::new(), StoreError::Failed(none));
    while views.len() < VIEWS {
        let next = match views.is_empty() {
            true => asks.next().await,
            false => timeout(OTHERS, asks.next()).await.unwrap_or_default(),
        };
        match next {
            Some(Ok(view)) => views.push(view),
            Some(Err(why)) => error = why,
            None => break,
        }
    }
    if views.is_empty() { Err(error) } else { Ok(views) }
}

/// What the answer of the node at `from` to CLUSTER SLOTS says.
fn ranges(answer: &Value, from: &RedisAddress) -> Option<Vec<Slots>> {
    let Value::Array(ranges) = answer else { return None };
    let slot = |it: &Value| match it {
        Value::Int(it) => u16::try_from(*it).ok().filter(|it| *it < SLOTS),
        _ => None,
    };
    let range = |range: &Value| {
        let Value::Array(range) = range else { return None };
        let [first, last, Value::Array(owner), ..] = &range[..] else { return None };
        let (host, port) = match &owner[..] {
            [host, Value::Int(port), ..] => (host, u16::try_from(*port).ok()?),
            _ => return None,
        };
        let host = match host {
            Value::BulkString(host) => String::from_utf8(host.clone()).ok()?,
            _ => String::new(),
        };
        let host = match from {
            // It does not know its own name.
            RedisAddress::Tcp { host: asked, .. } if host.is_empty() || host == "?" => {
                asked.clone()
            }
            _ => host,
        };
        let (first, last) = (slot(first)?, slot(last)?);
        (first <= last).then_some(Slots { first, last, owner: RedisAddress::Tcp { host, port } })
    };
    ranges.iter().map(range).collect()
}

#[cfg(test)]
mod tests;
