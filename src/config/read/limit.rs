//! The limits of a descriptor.

use std::{rc::Rc, sync::Arc, time::Duration};

use super::{
    super::{
        keys::Home,
        lint,
        report::Place,
        yaml::{Map, Node, Value},
    },
    Reader,
    fields::{SECOND, present},
};
use crate::{
    counter::KeyFormat,
    limit::{Algorithm, Limit},
    rules::spec::{LimitSpec, OnError, RuleSpec},
    time::Timestamp,
};

/// How many limits one descriptor may have.
const MOST: usize = 8;

/// One of each; what they need to know is filled in.
const ALGORITHMS: [Algorithm; 6] = [
    Algorithm::FixedWindow { count_denied: true },
    Algorithm::SlidingWindow,
    Algorithm::SlidingLog,
    Algorithm::TokenBucket { burst: 0 },
    Algorithm::LeakyBucket { burst: 0 },
    Algorithm::Concurrency { lease: Duration::ZERO },
];

const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);
const LONGEST_PENALTY: Duration = Duration::from_secs(10 * 365 * 86_400);

/// One map that describes a limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'m, 'a> {
    pub(super) map: &'m Map<'a>,
    pub(super) place: Place,
    /// It is the `rate_limit` of its descriptor, and may be `unlimited`.
    pub(super) only: bool,
}

impl<'a> Reader<'a, '_> {
    /// What `rate_limit` and `rate_limits` of the descriptor `map` say, as
    /// part of `rule`. Whether they say anything.
    pub(super) fn limits(&mut self, map: &Map<'a>, rule: &mut RuleSpec) -> bool {
        let list = self.list(map, Home::Descriptor, "rate_limits");
        let blocks = self.blocks(map, &list);
        let names: Vec<_> = blocks.iter().map(|it| self.name(it.map, Home::RateLimit)).collect();
        let mut limits: Vec<(Place, LimitSpec)> = Vec::new();
        for (block, name) in blocks.iter().zip(&names) {
            self.check_keys(block.map, Home::RateLimit);
            self.domain.names.insert(Arc::clone(name));
            for element in self.list(block.map, Home::RateLimit, "replaces") {
                rule.replaces.extend(self.replaces(&element, &names));
            }
            match self.limit(*block, name) {
                Some(limit) => limits.push((block.place, limit)),
                None => rule.name = Arc::clone(name),
            }
        }
        self.shared(&limits);
        lint::limits(&limits, self.report);
        rule.limits = limits.into_iter().map(|(_, limit)| limit).collect();
        !blocks.is_empty()
    }

    /// The maps that describe the limits; `list` is what is in `rate_limits`.
    fn blocks<'m>(&mut self, map: &'m Map<'a>, list: &'m [Rc<Node<'a>>]) -> Vec<Block<'m, 'a>> {
        let mut blocks = Vec::new();
        if let Some(limit) = self.map(map, Home::Descriptor, "rate_limit") {
            blocks.push(Block { map: limit, place: map["rate_limit"].place, only: true });
        }
        let Some(entry) = present(map, "rate_limits") else { return blocks };
        if present(map, "rate_limit").is_some() {
            self.beside(entry, "rate_limits", "`rate_limit`");
        }
        if matches!(&entry.node.value, Value::List(list) if list.is_empty()) {
            let message = "`rate_limits` is empty, expected 1 to 8 limits";
            self.report.mistake(entry.place, message, None);
        }
        if let Some(node) = list.get(MOST) {
            let message = format!("there are {} limits, expected at most {MOST}", list.len());
            self.report.mistake(node.place, message, None);
        }
        // More are not looked at: they are compared with one another.
        for node in list.iter().take(MOST) {
            match &node.value {
                Value::Map(map) => blocks.push(Block { map, place: node.place, only: false }),
                _ => self.wrong(node, "an element of `rate_limits`", "a map like `rate_limit`"),
            }
        }
        blocks
    }

    /// Reports limits of one descriptor that would be counted together.
    fn shared(&mut self, limits: &[(Place, LimitSpec)]) {
        let name = |it: &LimitSpec| {
            let epoch = Timestamp::default();
            KeyFormat::default().key(b"", [].into_iter(), &it.limit, epoch).key
        };
        for (index, (place, limit)) in limits.iter().enumerate() {
            let same = limits[..index].iter().find(|(_, it)| name(it) == name(limit));
            if let Some((first, _)) = same {
                let first = self.report.place(*first);
                let message = format!(
                    "the limit has the algorithm and the window of the one at {first}, expected \
                     another"
                );
                let help = "the two would share a counter: keep the tighter one";
                self.report.mistake(*place, message, Some(help.into()));
            }
        }
    }

    /// The limit that a block describes; none if it is none, or if something
    /// is wrong with it.
    fn limit(&mut self, block: Block<'_, 'a>, name: &Arc<str>) -> Option<LimitSpec> {
        let before = self.report.mistakes();
        if self.unlimited(block) {
            return None;
        }
        let map = block.map;
        let algorithm = match present(map, "algorithm") {
            Some(_) => self.choice(map, "algorithm", &ALGORITHMS.map(|it| (it.name(), it))),
            None => Some(ALGORITHMS[0]),
        };
        let requests = self.number(map, Home::RateLimit, "requests_per_unit", 0..=u32::MAX);
        let burst = self.number(map, Home::RateLimit, "burst", 1..=u32::MAX);
        let lease = self.duration(map, "lease", SECOND..=DAY, MILLISECOND);
        let penalty = self.duration(map, "penalty", MILLISECOND..=LONGEST_PENALTY, MILLISECOND);
        let count_denied = self.flag_or(map, Home::RateLimit, "count_denied", true);
        let consume = [("independent", false), ("all_or_nothing", true)];
        let consume = self.choice(map, "consume", &consume);
        let on_error = OnError::ALL.map(|it| (it.name(), it));
        let on_error = self.choice(map, "on_error", &on_error);
        let window = self.window(block, algorithm);

        let algorithm = algorithm?;
        self.check_combination(block, algorithm, requests);
        let requests = requests.unwrap_or(0);
        let algorithm = match algorithm {
            Algorithm::FixedWindow { .. } => Algorithm::FixedWindow { count_denied },
            Algorithm::SlidingWindow | Algorithm::SlidingLog => algorithm,
            Algorithm::TokenBucket { .. } => {
                Algorithm::TokenBucket { burst: burst.unwrap_or(requests) }
            }
            Algorithm::LeakyBucket { .. } => {
                Algorithm::LeakyBucket { burst: burst.unwrap_or(requests) }
            }
            Algorithm::Concurrency { .. } => {
                Algorithm::Concurrency { lease: lease.unwrap_or_default() }
            }
        };
        let ahead = self.ahead(block, algorithm, requests);
        let penalty = penalty.unwrap_or_default();
        let limit = Limit { requests, window: window?, algorithm, penalty, max_prefetch: ahead };
        (self.report.mistakes() == before).then(|| LimitSpec {
            limit,
            name: Arc::clone(name),
            all_or_nothing: consume.unwrap_or(false),
            on_error,
        })
    }
}
