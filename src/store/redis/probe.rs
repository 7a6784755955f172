//! The commands and keys of readiness checks.
//!
//! A reply to PING does not show that a server can decide: a replica replies to it, and so does
//! a server whose ACL forbids other commands. So a check runs every command of the scripts, on
//! a key of its own. Such a key contains neither `|` nor `_`, and so is never the key of a
//! counter.

use std::collections::HashMap;

use redis::{Cmd, Script};

/// The expiry of a key that a check leaves behind, in milliseconds.
pub(super) const EXPIRY_MS: u64 = 10_000;

/// The number of keys that are tried to find one for each node of a cluster. A node with only
/// a few slots may be missed.
const MAX_KEYS: u32 = 65_536;

const SCRIPT: &str = include_str!("lua/probe.lua");

/// Returns the commands of a check: they run the script by its source and by its hash.
pub(super) fn commands(key: &str) -> [Cmd; 2] {
    let script = Script::new(SCRIPT);
    let command = |name: &str, body: &str| {
        let mut command = redis::cmd(name);
        command.arg(body).arg(1).arg(key).arg(EXPIRY_MS);
        command
    };
    [command("EVAL", SCRIPT), command("EVALSHA", script.get_hash())]
}

/// Returns a key whose hash tag is `number`.
pub(super) fn key(prefix: &str, number: u32) -> String {
    format!("{prefix}tollgate-probe-{{{number}}}")
}

/// Returns a key for each of `count` nodes. `owner` returns the node that owns the slot of a
/// key.
pub(super) fn key_per_node(
    prefix: &str,
    count: usize,
    owner: impl Fn(&str) -> u16,
) -> HashMap<u16, String> {
    // A hash tag in the prefix determines the slot of all keys.
    let max_keys = if prefix.contains('{') { 1 } else { MAX_KEYS };
    let mut keys = HashMap::new();
    for number in 0..max_keys {
        let key = key(prefix, number);
        keys.entry(owner(&key)).or_insert(key);
        if keys.len() == count {
            break;
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::limit::permits;
    use crate::store::redis::slots::{SLOT_COUNT, key_slot};

    #[test]
    fn a_check_runs_every_command_of_the_scripts() {
        let used = [
            include_str!("lua/single_charge.lua"),
            include_str!("lua/records.lua"),
            include_str!("lua/count.lua"),
            permits::LUA,
        ];
        let calls = used.iter().flat_map(|it| it.split("call('").skip(1));
        let used: HashSet<_> = calls.filter_map(|it| it.split_once('\'')).map(|it| it.0).collect();
        assert!(used.contains("INCRBY"), "{used:?}");
        // The scripts work without TIME where the ACL forbids it.
        for command in used.into_iter().filter(|it| *it != "TIME") {
            assert!(SCRIPT.contains(&format!("{{'{command}', ")), "{command} is missing");
        }
    }

    #[test]
    fn every_node_has_a_key_in_one_of_its_slots() {
        for nodes in [1, 3, 100] {
            let owner = |key: &str| key_slot(key.as_bytes()) / SLOT_COUNT.div_ceil(nodes);
            let keys = key_per_node("shop:", usize::from(nodes), owner);
            assert_eq!(keys.len(), usize::from(nodes));
            assert!(keys.iter().all(|(node, key)| owner(key) == *node));
        }
        // All keys are in the same slot.
        assert_eq!(key_per_node("{shop}", 3, |key| key_slot(key.as_bytes())).len(), 1);
    }
}
