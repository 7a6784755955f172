//! Finds out whether a server can decide: before it is used, and whenever health is
//! asked about.
//!
//! An answer to PING does not say so. A replica answers it, so does a server whose
//! rights do not suffice, and so does a proxy that sends each key to a server of its
//! own. The names of the keys here hold neither `|` nor `_`, and so are never those of
//! counters.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use redis::{Cmd, Pipeline, RedisError, Script, Value};

use super::{complaints::words, connection::Link, settings::RedisSettings};

/// How long a key stays if nothing drops it, in milliseconds.
const KEPT: u64 = 10_000;
/// How many keys show whether all are on one server: two servers both have some, unless
/// the share of one is less than a few per cent.
const KEYS: usize = 64;
/// The same at first, and for a proxy that had several servers: one may have a small share.
const MANY_KEYS: usize = 1_024;

/// How many keys are looked at for one of each node.
const TAGS: u32 = 65_536;

const DECIDE: &str = include_str!("lua/probe.lua");
const ROUTING: &str = include_str!("lua/routing.lua");

/// Commands that a server answers only if it can decide: the script as a whole, and by
/// its name.
pub(super) fn decisions(key: &str) -> [Cmd; 2] {
    let name = Script::new(DECIDE);
    [["EVAL", DECIDE], ["EVALSHA", name.get_hash()]].map(|begin| {
        let mut command = Cmd::new();
        command.arg(&begin).arg(1).arg(key).arg(KEPT);
        command
    })
}

/// The key number `number` of those that are in different slots of a cluster.
pub(super) fn key(prefix: &str, number: u32) -> String {
    format!("{prefix}tollgate-probe-{{{number}}}")
}

/// A key for each of so many nodes of which `owner` says that it has the slot, but for
/// those with a few slots alone.
pub(super) fn keys(
    prefix: &str,
    nodes: usize,
    owner: impl Fn(&str) -> u16,
) -> HashMap<u16, String> {
    // Braces before ours decide the slot, whatever is in ours.
    let most = if prefix.contains('{') { 1 } else { TAGS };
    let mut keys = HashMap::new();
    for number in 0..most {
        let key = key(prefix, number);
        keys.entry(owner(&key)).or_insert(key);
        if keys.len() == nodes {
            break;
        }
    }
    keys
}

/// Whether one script can reach the keys of all counters.
#[derive(Debug)]
pub(super) struct Routing {
    prefix: String,
    setting: &'static str,
    /// Whether it can, as far as is known.
    proven: AtomicBool,
    /// Whether it could not the last time, or has not shown yet that it can.
    suspect: AtomicBool,
}

/// Why it is not known that it can.
#[derive(Debug)]
pub(super) enum Unfit {
    /// It cannot. What to do about that.
    Always(String),
    /// The server refuses to do what would show it, and so refuses all calls.
    ForNow,
    /// There is no answer.
    Silent(String),
}

impl Routing {
    pub(super) fn new(settings: &RedisSettings) -> Self {
        let RedisSettings { key_prefix, setting_prefix: setting, .. } = settings;
        let (proven, suspect) = (AtomicBool::default(), AtomicBool::new(true));
        Self { prefix: key_prefix.clone(), setting, proven, suspect }
    }

    /// Whether the last answer was that it can.
    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Relaxed)
    }

    /// Asks the server at the other end of `link`. Each key is written by a command of
    /// its own, and all are read by one script.
    pub(super) async fn check(&self, link: &Link) -> Result<(), Unfit> {
        let count = if self.suspect.load(Relaxed) { MANY_KEYS } else { KEYS };
        let result = self.check_with(link, count).await;
        self.proven.store(result.is_ok(), Relaxed);
        match &result {
            Ok(()) => self.suspect.store(false, Relaxed),
            Err(Unfit::Always(_)) => self.suspect.store(true, Relaxed),
            Err(Unfit::ForNow | Unfit::Silent(_)) => {}
        }
        result
    }

    async fn check_with(&self, link: &Link, count: usize) -> Result<(), Unfit> {
        // Some proxies hardly look at how a name ends, and others may check now, too.
        let mark = fastrand::u64(..);
        let name =
            |_| format!("{}tollgate-probe-{:016x}{mark:016x}", self.prefix, fastrand::u64(..));
        let keys: Vec<_> = (0..count).map(name).collect();
        let mut writes = Pipeline::new();
        for key in &keys {
            writes.cmd("SET").arg(key).arg(mark).arg("PX").arg(KEPT);
        }
        let written = link.send_quietly(&writes).await.map_err(|error| self.why(&error))?;
        let refusal = written.into_iter().find_map(|it| match it {
            Value::ServerError(error) => Some(self.why(&error.into())),
            _ => None,
        });
        if let Some(refusal @ Unfit::Always(_)) = refusal {
            return Err(refusal);
        }
        let mut read = Pipeline::new();
        read.cmd("EVAL").arg(ROUTING).arg(count).arg(&keys).arg(mark);
        let read = link.send_quietly(&read).await.map_err(|error| self.why(&error))?;
        let found = match read.into_iter().next() {
            Some(Value::Int(found)) => usize::try_from(found).unwrap_or_default(),
            Some(Value::ServerError(error)) => return Err(self.why(&error.into())),
            _ => 0,
        };
        if found == count {
            return Ok(());
        }
        // Others may have dropped them, or there is no room. But what is still there must
        // have been found.
        let mut look = Pipeline::new();
        for key in &keys {
            look.cmd("GET").arg(key);
        }
        let there = link.send_quietly(&look).await.map_err(|error| self.why(&error))?;
        let there = there.iter().filter(|it| matches!(it, Value::BulkString(_))).count();
        Err(if found < there { Unfit::Always(self.scattered()) } else { Unfit::ForNow })
    }

    fn why(&self, error: &RedisError) -> Unfit {
        match error.code() {
            Some("CROSSSLOT" | "MOVED" | "ASK" | "CLUSTERDOWN") => {
                let setting = self.setting;
                Unfit::Always(format!(
                    "this is a Redis Cluster, or a proxy for one ({}); set \
                     {setting}_TYPE=cluster",
                    words(error)
                ))
            }
            Some(_) => Unfit::ForNow,
            None => Unfit::Silent(error.to_string()),
        }
    }

    fn scattered(&self) -> String {
        let setting = self.setting;
        format!(
            "this is a proxy that sends keys to different servers, such as Envoy or twemproxy, \
             and limits need one that has them all; set {setting}_URL to a Redis itself, or to a \
             Redis Cluster with {setting}_TYPE=cluster, or leave the proxy one server"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::limit::leases;
    use crate::store::redis::slots::{SLOTS, slot};

    #[test]
    fn all_commands_of_the_scripts_are_tried() {
        let used = [
            include_str!("lua/lone.lua"),
            include_str!("lua/records.lua"),
            include_str!("lua/count.lua"),
            leases::LUA,
        ];
        let calls = used.iter().flat_map(|it| it.split("call('").skip(1));
        let used: HashSet<_> = calls.filter_map(|it| it.split_once('\'')).map(|it| it.0).collect();
        assert!(used.contains("INCRBY"), "{used:?}");
        // The scripts do without TIME where it may not be asked for.
        for command in used.into_iter().filter(|it| *it != "TIME") {
            assert!(DECIDE.contains(&format!("{{'{command}', ")), "{command} is not tried");
        }
    }

    #[test]
    fn every_node_has_a_key_in_one_of_its_slots() {
        for nodes in [1, 3, 100] {
            let owner = |key: &str| slot(key.as_bytes()) / SLOTS.div_ceil(nodes);
            let keys = keys("shop:", usize::from(nodes), owner);
            assert_eq!(keys.len(), usize::from(nodes));
            assert!(keys.iter().all(|(node, key)| owner(key) == *node));
        }
        // Here one node has all.
        assert_eq!(keys("{shop}", 3, |key| slot(key.as_bytes())).len(), 1);
    }
}
