//! Lua scripts that run on Redis.

use std::fmt;

use redis::Script;

use crate::limit::step;

/// A script and its SHA-1 hash.
pub(super) struct LuaScript {
    source: String,
    script: Script,
}

impl fmt::Debug for LuaScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LuaScript").field(&self.script.get_hash()).finish()
    }
}

impl LuaScript {
    pub(super) fn new(source: String) -> Self {
        Self { script: Script::new(&source), source }
    }

    /// The first words of a command that runs the script if the server has it in its cache.
    pub(super) fn evalsha(&self) -> [&str; 2] {
        ["EVALSHA", self.script.get_hash()]
    }

    /// The first words of a command that sends the script and runs it.
    pub(super) fn eval(&self) -> [&str; 2] {
        ["EVAL", &self.source]
    }
}

/// Joins the functions of all algorithms and the given `parts` to one script.
pub(super) fn source(parts: &[&str]) -> String {
    let mut source = include_str!("lua/numbers.lua").to_owned();
    source += &step::lua();
    for part in parts {
        source += part;
    }
    source
}
