//! Keys of a limit that make no sense together.

use super::{
    super::{
        keys::{Home, KEYS},
        scalar::Plain,
        yaml::Entry,
    },
    Reader,
    fields::present,
    limit::Block,
};
use crate::limit::{Algorithm, AlgorithmInfo, leases};

/// What only some algorithms have.
struct Only {
    keys: &'static [&'static str],
    has: fn(AlgorithmInfo) -> bool,
    /// Which those are.
    which: &'static str,
    /// Why the others do not.
    why: &'static str,
}

const ONLY: [Only; 5] = [
    Only {
        keys: &["unit", "unit_multiplier", "period", "penalty"],
        has: |it| it.window,
        which: "every algorithm but `concurrency`",
        why: "it limits how many calls are in flight, not how many come in some time",
    },
    Only {
        keys: &["lease"],
        has: |it| it.lease,
        which: "`concurrency`",
        why: "only there are hits given back",
    },
    Only {
        keys: &["burst"],
        has: |it| it.burst,
        which: "`token_bucket` and `leaky_bucket`",
        why: "elsewhere all that the limit allows may come at once",
    },
    Only {
        keys: &["calendar"],
        has: |it| it.calendar,
        which: "`fixed_window`",
        why: "only there may windows differ in length",
    },
    Only {
        keys: &["phase"],
        has: |it| it.phase,
        which: "`fixed_window` and `sliding_window`",
        why: "only there do windows begin at some moment",
    },
];

/// Keys of which a limit has at most one.
const EITHER: [(&str, &[&str]); 2] = [
    ("period", &["unit", "unit_multiplier"]),
    ("calendar", &["unit_multiplier", "period", "phase"]),
];

impl<'a> Reader<'a, '_> {
    /// Reports that `entry`, under the key `name`, stands beside `other`.
    pub(super) fn beside(&mut self, entry: &Entry<'a>, name: &str, other: &str) {
        let message = format!("`{name}` stands beside {other}, expected one of the two");
        self.report.mistake(entry.place, message, None);
    }

    /// Whether a block says that everything passes.
    pub(super) fn unlimited(&mut self, block: Block<'_, 'a>) -> bool {
        let map = block.map;
        if !block.only
            && let Some(entry) = map.get("unlimited")
        {
            let message = "`unlimited` stands in an element of `rate_limits`, expected a limit";
            let help = "write `rate_limit: { unlimited: true }` in the place of all of them";
            self.report.mistake(entry.place, message, Some(help.into()));
            return false;
        }
        if !self.flag(map, Home::RateLimit, "unlimited") {
            return false;
        }
        let neutral = ["unlimited", "requests_per_unit", "name", "replaces"];
        let keys = KEYS.iter().filter(|it| it.home == Home::RateLimit);
        for key in keys.filter(|it| !neutral.contains(&it.name)) {
            if let Some(entry) = present(map, key.name) {
                self.beside(entry, key.name, "`unlimited: true`");
            }
        }
        let requests = self.number(map, Home::RateLimit, "requests_per_unit", 0..=u32::MAX);
        if let Some(entry) = map.get("requests_per_unit").filter(|_| requests > Some(0)) {
            let message = "`requests_per_unit` has no effect beside `unlimited: true`";
            self.report.warning(entry.place, message);
        }
        true
    }

    /// Reports what does not go with the algorithm, or with one another.
    pub(super) fn check_combination(
        &mut self,
        block: Block<'_, 'a>,
        algorithm: Algorithm,
        requests: Option<u32>,
    ) {
        let map = block.map;
        let mine = algorithm.name();
        for Only { keys, which, why, .. } in ONLY.iter().filter(|it| !(it.has)(algorithm.info())) {
            for (key, entry) in keys.iter().filter_map(|it| Some((it, present(map, it)?))) {
                let message = format!("`{key}` is for {which}, and this is `{mine}`");
                self.report.mistake(entry.place, message, Some((*why).into()));
            }
        }
        for (key, others) in EITHER {
            let Some(entry) = present(map, key) else { continue };
            for other in others.iter().filter(|it| present(map, it).is_some()) {
                self.beside(entry, key, &format!("`{other}`"));
            }
        }
        let fixed = algorithm.info().count_denied;
        if let Some(entry) = map.get("count_denied")
            && entry.node.plain() == Some(Plain::Bool(true))
            && !fixed
        {
            let message =
                format!("`count_denied: true` is for `fixed_window`, and this is `{mine}`");
            let help = "elsewhere a hit that is refused costs nothing: remove it";
            self.report.mistake(entry.place, message, Some(help.into()));
        }
        self.check_requests(block, algorithm, requests);
    }

    fn check_requests(
        &mut self,
        block: Block<'_, 'a>,
        algorithm: Algorithm,
        requests: Option<u32>,
    ) {
        let map = block.map;
        let mine = algorithm.name();
        if algorithm.info().lease && present(map, "lease").is_none() {
            let message = "the limit has no `lease`, expected one such as `lease: 30s`";
            let help = "it frees the slot of a caller that does not give it back";
            self.report.mistake(block.place, message, Some(help.into()));
        }
        let Some(entry) = present(map, "requests_per_unit") else {
            if algorithm.info().count_denied {
                let message = "`requests_per_unit` is missing, so that every request is refused";
                self.report.warning(block.place, message);
            } else {
                let message = "the limit has no `requests_per_unit`, expected one";
                self.report.mistake(block.place, message, None);
            }
            return;
        };
        let bounded = algorithm.info().keeps_each_hit;
        if bounded && Some(leases::MAX_REQUESTS) < requests {
            let message = format!(
                "`requests_per_unit` of `{mine}` is above {}, expected no more",
                leases::MAX_REQUESTS
            );
            let help = match algorithm.info().lease {
                false => "use sliding_window, which keeps two numbers and not each hit",
                true => "each call in flight is kept by itself",
            };
            self.report.mistake(entry.node.place, message, Some(help.into()));
        }
        let fixed = algorithm.info().count_denied;
        if !bounded && !fixed && requests == Some(0) {
            let message = format!("`requests_per_unit` of `{mine}` is 0, expected at least 1");
            let help = "use fixed_window with 0 to refuse everything";
            self.report.mistake(entry.node.place, message, Some(help.into()));
        }
    }
}
