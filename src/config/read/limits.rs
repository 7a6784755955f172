//! Reads the limits of a descriptor.

use std::{rc::Rc, sync::Arc, time::Duration};

use super::{
    super::{
        keys::KeyContext,
        lint,
        parsed::ParsedLimit,
        yaml::{Map, YamlNode, YamlValue},
    },
    block::LimitBlock,
    reader::{SECOND, SourceReader, non_null},
};
use crate::{
    counter::KeyFormat,
    limit::{Algorithm, Limit},
    rules::spec::{LimitSpec, OnError, RuleSpec},
    time::Timestamp,
};

/// The maximum number of limits of one descriptor.
const MAX_LIMITS: usize = 8;

/// The algorithms, with placeholders for their parameters.
const ALGORITHMS: [Algorithm; 6] = [
    Algorithm::FixedWindow { count_denied: true },
    Algorithm::SlidingWindow,
    Algorithm::SlidingLog,
    Algorithm::TokenBucket { burst: 0 },
    Algorithm::LeakyBucket { burst: 0 },
    Algorithm::Concurrency { lifetime: Duration::ZERO },
];

const MILLISECOND: Duration = Duration::from_millis(1);
const MAX_LEASE: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_PENALTY: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The keys that only some algorithms have.
struct AlgorithmParameters {
    burst: Option<u32>,
    lease: Option<Duration>,
    count_denied: Option<bool>,
}

impl AlgorithmParameters {
    /// Replaces the placeholders in `algorithm`. `requests` is the default of
    /// `burst`.
    fn apply_to(&self, algorithm: Algorithm, requests: u32) -> Algorithm {
        let burst = self.burst.unwrap_or(requests);
        match algorithm {
            Algorithm::FixedWindow { .. } => {
                Algorithm::FixedWindow { count_denied: self.count_denied.unwrap_or(true) }
            }
            Algorithm::SlidingWindow => Algorithm::SlidingWindow,
            Algorithm::SlidingLog => Algorithm::SlidingLog,
            Algorithm::TokenBucket { .. } => Algorithm::TokenBucket { burst },
            Algorithm::LeakyBucket { .. } => Algorithm::LeakyBucket { burst },
            Algorithm::Concurrency { .. } => {
                Algorithm::Concurrency { lifetime: self.lease.unwrap_or_default() }
            }
        }
    }
}

impl<'a> SourceReader<'a, '_> {
    /// Reads `rate_limit` and `rate_limits` of the descriptor `map` into `rule`.
    /// Returns false if the descriptor has neither.
    pub(super) fn limits(&mut self, map: &Map<'a>, rule: &mut RuleSpec) -> bool {
        let list = self.list(map, KeyContext::Descriptor, "rate_limits");
        let blocks = self.blocks(map, &list);
        let mut names = Vec::with_capacity(blocks.len());
        for block in &blocks {
            names.push(self.name(block.map, KeyContext::RateLimit));
        }
        let mut limits = Vec::with_capacity(blocks.len());
        for (block, name) in blocks.iter().zip(&names) {
            self.check_keys(block.map, KeyContext::RateLimit);
            self.domain.names.insert(Arc::clone(name));
            for element in self.list(block.map, KeyContext::RateLimit, "replaces") {
                rule.replaces.extend(self.replaced_name(&element, &names));
            }
            match self.limit(*block, name) {
                Some(spec) => limits.push(ParsedLimit { location: block.location, spec }),
                None => rule.name = Arc::clone(name),
            }
        }
        self.check_shared_counters(&limits);
        lint::check_limits(&limits, self.sink);
        for limit in limits {
            rule.limits.push(limit.spec);
        }
        !blocks.is_empty()
    }

    /// The maps that describe the limits. `list` is the value of `rate_limits`.
    fn blocks<'m>(
        &mut self,
        map: &'m Map<'a>,
        list: &'m [Rc<YamlNode<'a>>],
    ) -> Vec<LimitBlock<'m, 'a>> {
        let mut blocks = Vec::new();
        if let Some(entry) = map.get("rate_limit")
            && matches!(entry.node.value, YamlValue::List(_))
        {
            let message = "`rate_limit` is a list, expected a map";
            let help = "for several limits, write `rate_limits` instead";
            self.sink.error_with_help(entry.key_location, message, help);
        } else if let Some(limit) = self.map(map, KeyContext::Descriptor, "rate_limit") {
            let location = map["rate_limit"].key_location;
            blocks.push(LimitBlock { map: limit, location, is_single: true });
        }
        let Some(entry) = non_null(map, "rate_limits") else { return blocks };
        if non_null(map, "rate_limit").is_some() {
            self.conflict(entry, "rate_limits", "`rate_limit`");
        }
        if matches!(&entry.node.value, YamlValue::List(list) if list.is_empty()) {
            let message = "`rate_limits` is empty, expected 1 to 8 limits";
            self.sink.error(entry.key_location, message);
        }
        if let Some(node) = list.get(MAX_LIMITS) {
            let message = format!("there are {} limits, expected at most {MAX_LIMITS}", list.len());
            self.sink.error(node.location, message);
        }
        // All limits are compared with one another, which takes too long for more.
        for node in list.iter().take(MAX_LIMITS) {
            if let YamlValue::Map(map) = &node.value {
                blocks.push(LimitBlock { map, location: node.location, is_single: false });
            } else {
                self.unexpected(node, "an element of `rate_limits`", "a map like `rate_limit`");
            }
        }
        blocks
    }

    /// Reports limits of one descriptor that would share a counter.
    fn check_shared_counters(&mut self, limits: &[ParsedLimit]) {
        let mut keys = Vec::with_capacity(limits.len());
        for limit in limits {
            let format = KeyFormat::default();
            let counter =
                format.counter(b"", [].into_iter(), &limit.spec.limit, Timestamp::default());
            if let Some(first) = keys.iter().position(|key| *key == counter.key) {
                let first = self.sink.describe(limits[first].location);
                let message = format!(
                    "the limit has the algorithm and the window of the one at {first}, expected \
                     another"
                );
                let help = "the two would share a counter: keep the tighter one";
                self.sink.error_with_help(limit.location, message, help);
            }
            keys.push(counter.key);
        }
    }

    /// The limit that a block describes; `None` if it is unlimited or has an
    /// error, which is reported.
    fn limit(&mut self, block: LimitBlock<'_, 'a>, name: &Arc<str>) -> Option<LimitSpec> {
        let errors_before = self.sink.error_count();
        if self.is_unlimited(block) {
            return None;
        }
        let map = block.map;
        let algorithm = match non_null(map, "algorithm") {
            Some(_) => {
                self.choice(map, "algorithm", &ALGORITHMS.map(|choice| (choice.name(), choice)))
            }
            None => Some(ALGORITHMS[0]),
        };
        let requests = self.number(map, KeyContext::RateLimit, "requests_per_unit", 0..=u32::MAX);
        let parameters = self.algorithm_parameters(map);
        let penalty = self.duration(map, "penalty", MILLISECOND..=MAX_PENALTY, MILLISECOND);
        let consume = [("independent", false), ("all_or_nothing", true)];
        let all_or_nothing = self.choice(map, "consume", &consume).unwrap_or(false);
        let policies = OnError::ALL.map(|policy| (policy.name(), policy));
        let on_error = self.choice(map, "on_error", &policies);
        let window = self.window(block, algorithm);

        let algorithm = algorithm?;
        self.check_combination(block, algorithm, requests);
        let requests = requests.unwrap_or(0);
        let algorithm = parameters.apply_to(algorithm, requests);
        let max_prefetch = self.max_prefetch(block, algorithm, requests);
        let penalty = penalty.unwrap_or_default();
        let limit = Limit { requests, window: window?, algorithm, penalty, max_prefetch };
        if self.sink.error_count() > errors_before {
            return None;
        }
        Some(LimitSpec { limit, name: Arc::clone(name), all_or_nothing, on_error })
    }

    fn algorithm_parameters(&mut self, map: &Map<'a>) -> AlgorithmParameters {
        AlgorithmParameters {
            burst: self.number(map, KeyContext::RateLimit, "burst", 1..=u32::MAX),
            lease: self.duration(map, "lease", SECOND..=MAX_LEASE, MILLISECOND),
            count_denied: self.optional_flag(map, KeyContext::RateLimit, "count_denied"),
        }
    }
}
