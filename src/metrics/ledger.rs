//! What a sink of statistics has been told.
//!
//! Statistics only count up, and a sink is told the difference. So what could not
//! be delivered is part of the next difference, and needs no queue.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use super::{
    Metrics,
    readings::{Reading, Value},
    series::{Followed, Follower, MOST_DYNAMIC, STATISTICS, dotted},
};

/// The books about one sink.
#[derive(Debug)]
pub struct Ledger {
    metrics: Arc<Metrics>,
    follower: Follower,
    /// By the address of the series, which stays where it is as long as it is here.
    series: HashMap<usize, Account>,
    /// By name.
    others: HashMap<String, Vec<u64>>,
    round: u64,
}

/// The books about one series.
#[derive(Debug)]
struct Account {
    followed: Followed,
    told: [u64; STATISTICS.len()],
    /// The last round in which it was in force.
    round: u64,
}

/// Something that a sink has not been told.
#[derive(Debug)]
pub struct Due<'l> {
    /// With dots between its components.
    pub name: String,
    /// What there is to tell.
    pub what: What,
    /// To be signed once it has been told.
    pub receipt: Receipt<'l>,
}

/// What there is to tell of a statistic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// So many more. Never 0.
    More(u64),
    /// So many now.
    Level(f64),
    /// So many more calls took about so many milliseconds. Never 0 calls.
    Times {
        /// How long they took.
        millis: f64,
        /// How many they were.
        calls: u64,
    },
}

/// Remembers that something was told, once [signed](Self::sign). Dropped, it
/// remembers nothing.
#[derive(Debug)]
pub struct Receipt<'l>(Option<(&'l mut u64, u64)>);

impl Receipt<'_> {
    /// It has been told.
    pub fn sign(self) {
        if let Some((told, now)) = self.0 {
            *told = now;
        }
    }
}

impl Account {
    fn owes(&self) -> bool {
        self.followed.values() != self.told
    }
}

impl Ledger {
    /// The books about a sink that has been told nothing yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let follower = metrics.rules.follow();
        let (series, others) = (HashMap::new(), HashMap::new());
        Self { metrics, follower, series, others, round: 0 }
    }

    /// Everything that the sink has not been told. At most one for each
    /// statistic, and one for each bucket of a histogram.
    pub fn due(&mut self) -> impl Iterator<Item = Due<'_>> {
        self.update();
        let readings = self.metrics.readings();
        for Reading { name, value } in &readings {
            let buckets = match value {
                Value::Count(_) => 1,
                Value::Level(_) => 0,
                Value::Times(times) => times.len(),
            };
            match self.others.get_mut(name) {
                Some(told) => told.resize(buckets, 0),
                None => drop(self.others.insert(name.clone(), vec![0; buckets])),
            }
        }
        let readings: HashMap<_, _> = readings.into_iter().map(|it| (it.name, it.value)).collect();
        let others = self.others.iter_mut().flat_map(move |(name, told)| {
            readings.get(name).map(|value| of_reading(name, value, told)).unwrap_or_default()
        });
        self.series.values_mut().flat_map(of_series).chain(others)
    }

    /// Takes up series that are new, and drops those that are gone and have
    /// nothing more to tell.
    fn update(&mut self) {
        self.round += 1;
        let round = self.round;
        for (followed, in_force) in self.follower.series() {
            let account = match self.series.entry(followed.address()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    new.insert(Account { followed, told: [0; STATISTICS.len()], round: 0 })
                }
            };
            if in_force {
                account.round = round;
            }
        }
        // Rules may come and go for as long as the sink is away.
        let mut gone = 0;
        self.series.retain(|_, it| {
            it.round == round || {
                gone += 1;
                it.owes() && gone <= MOST_DYNAMIC
            }
        });
    }
}

fn of_series(account: &mut Account) -> impl Iterator<Item = Due<'_>> {
    let values = account.followed.values();
    let name = account.followed.name();
    STATISTICS.iter().zip(values).zip(&mut account.told).filter_map(move |((it, now), told)| {
        let more = now.wrapping_sub(*told);
        (more > 0).then(|| Due {
            name: dotted(name, it.0),
            what: What::More(more),
            receipt: Receipt(Some((told, now))),
        })
    })
}

fn of_reading<'l>(name: &str, value: &Value, told: &'l mut [u64]) -> Vec<Due<'l>> {
    let due = |what, receipt| Due { name: name.to_owned(), what, receipt };
    match value {
        Value::Level(level) => vec![due(What::Level(*level), Receipt(None))],
        Value::Count(now) => {
            let more = |told: &&mut u64| **told < *now;
            let told = told.iter_mut().filter(more);
            told.map(|it| due(What::More(now - *it), Receipt(Some((it, *now))))).collect()
        }
        Value::Times(times) => {
            let more = |((_, now), told): &(&(f64, u64), &mut u64)| **told < *now;
            let times = times.iter().zip(told).filter(more);
            let due = |((millis, now), told): (&(f64, u64), &'l mut u64)| {
                let calls = now - *told;
                due(What::Times { millis: *millis, calls }, Receipt(Some((told, *now))))
            };
            times.map(due).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::{
        metrics::series::Bump,
        rules::{
            RuleTree,
            spec::{DescriptorSpec, DomainSpec, RuleSpec},
        },
    };

    const HIT: Bump =
        Bump { total: 1, within: 1, near: 0, over: 0, cached: 0, shadow: 0, refunded: 0 };

    fn rules(keys: &[&str]) -> RuleTree {
        let descriptor = |&key: &&str| DescriptorSpec {
            key: key.into(),
            rule: Some(RuleSpec::default()),
            ..DescriptorSpec::default()
        };
        let descriptors = keys.iter().map(descriptor).collect();
        RuleTree::compile(vec![DomainSpec { domain: "shop".into(), descriptors }])
    }

    /// Tells the sink what is due, of the hits of rules; signs if `told`.
    fn hits(ledger: &mut Ledger, told: bool) -> BTreeMap<String, u64> {
        let mut hits = BTreeMap::new();
        for Due { name, what, receipt } in ledger.due() {
            if let What::More(more) = what
                && let Some(name) = name.strip_suffix(".total_hits")
            {
                let name = name.strip_prefix("ratelimit.service.rate_limit.").unwrap();
                *hits.entry(name.to_owned()).or_default() += more;
            }
            if told {
                receipt.sign();
            }
        }
        hits
    }

    fn hit(metrics: &Metrics, rules: &RuleTree) {
        rules.rules().iter().for_each(|it| metrics.rules.bump_rule(it, HIT));
    }

    fn map(hits: &[(&str, u64)]) -> BTreeMap<String, u64> {
        hits.iter().map(|(name, hits)| ((*name).to_owned(), *hits)).collect()
    }

    #[test]
    fn what_was_not_told_is_part_of_the_next_difference() {
        let metrics = Arc::new(Metrics::new(0.8));
        let mut ledger = Ledger::new(Arc::clone(&metrics));
        let rules = rules(&["a"]);
        metrics.install_rules(&rules);
        assert_eq!(hits(&mut ledger, true), map(&[]), "nothing has been counted");
        hit(&metrics, &rules);
        assert_eq!(hits(&mut ledger, false), map(&[("shop.a", 1)]));
        hit(&metrics, &rules);
        assert_eq!(hits(&mut ledger, true), map(&[("shop.a", 2)]));
        assert_eq!(hits(&mut ledger, true), map(&[]));
    }

    #[test]
    fn rules_that_are_gone_have_their_last_word_and_new_ones_of_the_name_begin_anew() {
        let metrics = Arc::new(Metrics::new(0.8));
        let mut ledger = Ledger::new(Arc::clone(&metrics));
        let (a, b) = (rules(&["a"]), rules(&["b"]));
        // Also those that come and go between two differences.
        for rules in [&a, &b, &a, &b] {
            metrics.install_rules(rules);
            hit(&metrics, rules);
        }
        assert_eq!(hits(&mut ledger, false), map(&[("shop.a", 2), ("shop.b", 2)]));
        assert_eq!(hits(&mut ledger, true), map(&[("shop.a", 2), ("shop.b", 2)]));
        assert_eq!(hits(&mut ledger, true), map(&[]));
        assert_eq!(ledger.series.len(), 1, "those that are gone are dropped");
    }

    #[test]
    fn two_sinks_are_told_independently() {
        let metrics = Arc::new(Metrics::new(0.8));
        let mut ledgers = [(); 2].map(|()| Ledger::new(Arc::clone(&metrics)));
        let (old, new) = (rules(&["a"]), rules(&["b"]));
        metrics.install_rules(&old);
        hit(&metrics, &old);
        assert_eq!(hits(&mut ledgers[0], true), map(&[("shop.a", 1)]));
        hit(&metrics, &old);
        metrics.install_rules(&new);
        assert_eq!(hits(&mut ledgers[0], true), map(&[("shop.a", 1)]));
        assert_eq!(hits(&mut ledgers[1], true), map(&[("shop.a", 2)]));
    }

    #[test]
    fn times_are_told_by_bucket_and_levels_always() {
        let metrics = Arc::new(Metrics::new(0.8));
        let mut ledger = Ledger::new(Arc::clone(&metrics));
        let mut told = |name: &str| {
            let due: Vec<_> = ledger.due().filter(|it| it.name == name).collect();
            let told = due.iter().map(|it| it.what).collect::<Vec<_>>();
            due.into_iter().for_each(|it| it.receipt.sign());
            told
        };
        let name = "ratelimit_server.ShouldRateLimit.response_time";
        for micros in [7, 7, 700] {
            metrics.count_call("ShouldRateLimit", Duration::from_micros(micros));
        }
        let calls = |times: Vec<What>| {
            times.into_iter().map(|it| matches!(it, What::Times { calls: 2, .. })).collect()
        };
        let both: Vec<bool> = calls(told(name));
        assert_eq!(both, [true, false]);
        assert_eq!(told(name), []);
        metrics.count_call("ShouldRateLimit", Duration::from_micros(7));
        assert!(matches!(told(name)[..], [What::Times { calls: 1, .. }]));
        assert_eq!(told("tollgate.rules"), [What::Level(0.0)]);
        assert_eq!(told("tollgate.rules"), [What::Level(0.0)]);
    }
}
