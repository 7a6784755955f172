//! Reports keys of a limit that cannot be combined.

use super::{
    super::{
        keys::{self, KeyContext},
        scalar::Plain,
        yaml::{KeyOrigin, Map, MapEntry},
    },
    block::LimitBlock,
    reader::{SourceReader, is_misspelt, non_null},
};
use crate::limit::{Algorithm, AlgorithmInfo, permits};

/// Keys that only some algorithms support.
struct KeyRule {
    keys: &'static [&'static str],
    /// True if the algorithm of the limit supports the keys.
    is_allowed: bool,
    /// The algorithms that support the keys, to follow "is for".
    algorithms: &'static str,
    /// The reason why the other algorithms do not support them.
    reason: &'static str,
}

fn key_rules(info: AlgorithmInfo) -> [KeyRule; 5] {
    [
        KeyRule {
            keys: &["unit", "unit_multiplier", "period", "penalty"],
            is_allowed: info.window,
            algorithms: "every algorithm but `concurrency`",
            reason: "it limits the requests in flight, not the requests per time",
        },
        KeyRule {
            keys: &["lease"],
            is_allowed: info.releasable,
            algorithms: "`concurrency`",
            reason: "the other algorithms have no permits to release",
        },
        KeyRule {
            keys: &["burst"],
            is_allowed: info.burst,
            algorithms: "`token_bucket` and `leaky_bucket`",
            reason: "the other algorithms allow all hits of the limit at once",
        },
        KeyRule {
            keys: &["calendar"],
            is_allowed: info.calendar,
            algorithms: "`fixed_window`",
            reason: "the other algorithms need windows of equal length",
        },
        KeyRule {
            keys: &["phase"],
            is_allowed: info.phase,
            algorithms: "`fixed_window` and `sliding_window`",
            reason: "the other algorithms have no windows with a fixed start",
        },
    ]
}

/// A key that excludes other keys of the same limit.
struct Exclusion {
    key: &'static str,
    excludes: &'static [&'static str],
}

const EXCLUSIONS: [Exclusion; 2] = [
    Exclusion { key: "period", excludes: &["unit", "unit_multiplier"] },
    Exclusion { key: "calendar", excludes: &["unit_multiplier", "period", "phase"] },
];

impl<'a> SourceReader<'a, '_> {
    /// Reports that the key `name`, which is `entry`, is combined with `other`.
    pub(super) fn conflict(&mut self, entry: &MapEntry<'a>, name: &str, other: &str) {
        let message = format!("`{name}` is combined with {other}, expected one of the two");
        self.sink.error(entry.key_location, message);
    }

    /// True if the limit is `unlimited`. Keys that have no meaning then are
    /// reported.
    pub(super) fn is_unlimited(&mut self, block: LimitBlock<'_, 'a>) -> bool {
        const ALLOWED: [&str; 4] = ["unlimited", "requests_per_unit", "name", "replaces"];
        let map = block.map;
        if !block.is_single
            && let Some(entry) = map.get("unlimited")
        {
            let message = "`unlimited` is in an element of `rate_limits`, expected a limit";
            let help = "write `rate_limit: { unlimited: true }` instead of `rate_limits`";
            self.sink.error_with_help(entry.key_location, message, help);
            return false;
        }
        if !self.flag(map, KeyContext::RateLimit, "unlimited") {
            return false;
        }
        for key in keys::all() {
            if key.context == KeyContext::RateLimit
                && !ALLOWED.contains(&key.name)
                && let Some(entry) = non_null(map, key.name)
            {
                self.conflict_with_unlimited(map, entry, key.name);
            }
        }
        let requests = self.number(map, KeyContext::RateLimit, "requests_per_unit", 0..=u32::MAX);
        if let Some(entry) = map.get("requests_per_unit")
            && requests > Some(0)
        {
            let message = "`requests_per_unit` has no effect beside `unlimited: true`";
            self.sink.warning(entry.key_location, message);
        }
        true
    }

    fn conflict_with_unlimited(&mut self, map: &Map<'a>, entry: &MapEntry<'a>, name: &str) {
        const UNLIMITED: &str = "`unlimited: true`";
        let Some(unlimited) = map.get("unlimited") else { return };
        if unlimited.origin == KeyOrigin::Written {
            return self.conflict(entry, name, UNLIMITED);
        }
        let message = format!("`{name}` is combined with {UNLIMITED}, expected one of the two");
        let place = self.sink.describe(unlimited.key_location);
        let help = format!("a `<<` brings {UNLIMITED} from {place}: write `unlimited: false` here");
        self.sink.error_with_help(entry.key_location, message, help);
    }

    /// Reports keys that conflict with the algorithm or with one another.
    pub(super) fn check_combination(
        &mut self,
        block: LimitBlock<'_, 'a>,
        algorithm: Algorithm,
        requests: Option<u32>,
    ) {
        self.check_algorithm_keys(block, algorithm);
        for Exclusion { key, excludes } in EXCLUSIONS {
            let Some(entry) = non_null(block.map, key) else { continue };
            for other in excludes {
                if non_null(block.map, other).is_some() {
                    self.conflict(entry, key, &format!("`{other}`"));
                }
            }
        }
        self.check_lease(block, algorithm);
        self.check_requests(block, algorithm, requests);
    }

    fn check_algorithm_keys(&mut self, block: LimitBlock<'_, 'a>, algorithm: Algorithm) {
        let own = algorithm.name();
        for KeyRule { keys, is_allowed, algorithms, reason } in key_rules(algorithm.info()) {
            if is_allowed {
                continue;
            }
            for key in keys {
                if let Some(entry) = non_null(block.map, key) {
                    let message = format!("`{key}` is for {algorithms}, and this is `{own}`");
                    self.sink.error_with_help(entry.key_location, message, reason);
                }
            }
        }
        // `count_denied: false` is redundant for the other algorithms, but correct.
        if let Some(entry) = block.map.get("count_denied")
            && entry.node.plain() == Some(Plain::Bool(true))
            && !algorithm.info().count_denied
        {
            let message =
                format!("`count_denied: true` is for `fixed_window`, and this is `{own}`");
            let help = "the other algorithms never count refused hits: remove it";
            self.sink.error_with_help(entry.key_location, message, help);
        }
    }

    fn check_lease(&mut self, block: LimitBlock<'_, 'a>, algorithm: Algorithm) {
        if algorithm.info().releasable
            && non_null(block.map, "lease").is_none()
            && !is_misspelt(block.map, KeyContext::RateLimit, "lease")
        {
            let message = "the limit has no `lease`, expected one such as `lease: 30s`";
            let help = "it frees the permit of a client that does not release it";
            self.sink.error_with_help(block.location, message, help);
        }
    }

    fn check_requests(
        &mut self,
        block: LimitBlock<'_, 'a>,
        algorithm: Algorithm,
        requests: Option<u32>,
    ) {
        let info = algorithm.info();
        let own = algorithm.name();
        let Some(entry) = non_null(block.map, "requests_per_unit") else {
            if is_misspelt(block.map, KeyContext::RateLimit, "requests_per_unit") {
                return;
            }
            if info.count_denied {
                let message = "`requests_per_unit` is missing, so that every request is refused";
                self.sink.warning(block.location, message);
            } else {
                let message = "the limit has no `requests_per_unit`, expected one";
                self.sink.error(block.location, message);
            }
            return;
        };
        let max = permits::MAX_REQUESTS;
        if info.keeps_each_hit && requests > Some(max) {
            let message =
                format!("`requests_per_unit` of `{own}` is above {max}, expected no more");
            let help = if info.releasable {
                "each request in flight is stored by itself"
            } else {
                "use sliding_window, which stores two numbers instead of each hit"
            };
            self.sink.error_with_help(entry.node.location, message, help);
        }
        if !info.keeps_each_hit && !info.count_denied && requests == Some(0) {
            let message = format!("`requests_per_unit` of `{own}` is 0, expected at least 1");
            let help = "use fixed_window with 0 to refuse everything";
            self.sink.error_with_help(entry.node.location, message, help);
        }
    }
}
