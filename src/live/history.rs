//! The hits of the busiest rules over time.

use std::collections::HashMap;

use super::{
    ring::{Point, Ring, Step},
    rule_counts::{HitResults, RuleCounts},
};
use crate::time::Timestamp;

/// The most rules with a history.
pub const MOST_RULES: usize = 1_000;

/// A part of the score of a rule that is forgotten with each tick.
const FORGETTING: u64 = 16;

/// The histories of the busiest rules, and of all rules together.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The counts of each rule at the last tick, by index.
    last: Vec<[u64; 4]>,
    /// The index in `rings` of each rule that has one.
    ring_of: HashMap<usize, usize>,
    rings: Vec<RuleRing>,
    all: Ring,
}

#[derive(Debug)]
struct RuleRing {
    rule: usize,
    /// Hits, of which a part is forgotten with each tick.
    score: u64,
    ring: Ring,
}

impl History {
    /// Adds the hits since the last tick. At most one rule without a history takes the place
    /// of another, so that a tick takes about as long whatever clients do.
    pub(super) fn tick(&mut self, counts: &RuleCounts, now: Timestamp) {
        self.last.resize(counts.rules.rules().len(), [0; 4]);
        for RuleRing { score, .. } in &mut self.rings {
            *score -= *score / FORGETTING;
        }
        let mut total = [0; 4];
        let mut candidate: Option<(usize, [u64; 4])> = None;
        for index in 0..self.last.len() {
            let Some(hits) = self.hits_since_last(index, counts) else { continue };
            for (sum, hits) in total.iter_mut().zip(hits) {
                *sum += hits;
            }
            if let Some(ring) = self.ring_for(index) {
                ring.add(hits, now);
            } else if candidate.is_none_or(|(_, best)| sum(best) < sum(hits)) {
                candidate = Some((index, hits));
            }
        }
        self.all.add(total, now);
        if let Some((rule, hits)) = candidate {
            self.replace_idlest(rule, hits, now);
        }
    }

    fn hits_since_last(&mut self, index: usize, counts: &RuleCounts) -> Option<[u64; 4]> {
        let values = counts.of(index).values();
        let last = std::mem::replace(&mut self.last[index], values);
        if last == values {
            return None;
        }
        let mut hits = [0; 4];
        for ((hits, now), last) in hits.iter_mut().zip(values).zip(last) {
            *hits = now.wrapping_sub(last);
        }
        Some(hits)
    }

    /// The ring of a rule, a new one if there is room.
    fn ring_for(&mut self, rule: usize) -> Option<&mut RuleRing> {
        let place = match self.ring_of.get(&rule) {
            Some(place) => *place,
            None if self.rings.len() < MOST_RULES => {
                self.ring_of.insert(rule, self.rings.len());
                self.rings.push(RuleRing { rule, score: 0, ring: Ring::default() });
                self.rings.len() - 1
            }
            None => return None,
        };
        self.rings.get_mut(place)
    }

    fn replace_idlest(&mut self, rule: usize, hits: [u64; 4], now: Timestamp) {
        let idlest = self.rings.iter_mut().enumerate().min_by_key(|(_, ring)| ring.score);
        let Some((place, idlest)) = idlest else { return };
        if sum(hits) <= idlest.score / FORGETTING {
            return;
        }
        self.ring_of.remove(&idlest.rule);
        self.ring_of.insert(rule, place);
        *idlest = RuleRing { rule, score: 0, ring: Ring::default() };
        idlest.add(hits, now);
    }

    /// Moves the histories to `new` rules with the names of `old` ones, and forgets the others.
    pub(super) fn install(&mut self, old: &RuleCounts, new: &RuleCounts) {
        let mut by_name = HashMap::new();
        for ring in &self.rings {
            if let Some(rule) = old.rules.rules().get(ring.rule) {
                by_name.insert(rule.name(), ring.rule);
            }
        }
        let mut moved = HashMap::new();
        for rule in new.rules.rules() {
            if let Some(old) = by_name.remove(&rule.name()) {
                moved.insert(old, rule.index);
            }
        }
        self.ring_of.clear();
        let mut kept = Vec::with_capacity(moved.len());
        for mut ring in self.rings.drain(..) {
            let Some(rule) = moved.get(&ring.rule) else { continue };
            ring.rule = *rule;
            self.ring_of.insert(*rule, kept.len());
            kept.push(ring);
        }
        self.rings = kept;
        self.last.clear();
    }

    /// The history of all rules, the oldest point first.
    pub(super) fn all(&self, step: Step, now: Timestamp) -> Vec<Point> {
        self.all.points(step, now)
    }

    /// The history of one rule; `None` if it has none.
    pub(super) fn of(&self, rule: usize, step: Step, now: Timestamp) -> Option<Vec<Point>> {
        Some(self.ring(rule)?.points(step, now))
    }

    /// The hits of one rule in the last minute; `None` if it has no history.
    pub(super) fn last_minute(&self, rule: usize, now: Timestamp) -> Option<HitResults> {
        Some(self.ring(rule)?.last_minute(now))
    }

    fn ring(&self, rule: usize) -> Option<&Ring> {
        let ring = self.rings.get(*self.ring_of.get(&rule)?)?;
        Some(&ring.ring)
    }
}

impl RuleRing {
    fn add(&mut self, hits: [u64; 4], now: Timestamp) {
        self.score = self.score.saturating_add(sum(hits));
        self.ring.add(hits, now);
    }
}

/// All hits, each once: what would have been refused has passed, and what a policy decided has
/// passed or not.
fn sum([passed, refused, _, _]: [u64; 4]) -> u64 {
    passed.saturating_add(refused)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::rules::{
        RuleTree,
        spec::{DescriptorSpec, DomainSpec, RuleSpec},
    };

    fn counts(keys: &[String]) -> RuleCounts {
        let mut descriptors = Vec::new();
        for key in keys {
            let rule = Some(RuleSpec::default());
            descriptors.push(DescriptorSpec { key: key.clone(), rule, ..Default::default() });
        }
        let domain = DomainSpec { domain: "shop".into(), descriptors, http: None };
        RuleCounts::new(Arc::new(RuleTree::compile(vec![domain])), Timestamp::default())
    }

    fn hit(counts: &RuleCounts, rule: usize, passed: u64) {
        let hits = HitResults { passed, ..Default::default() };
        counts.add(&counts.rules.rules()[rule], hits);
    }

    fn names(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|number| format!("key{number}")).collect()
    }

    #[test]
    fn a_busy_rule_takes_the_place_of_an_idle_one() {
        let counts = counts(&names(0..MOST_RULES + 2));
        let mut history = History::default();
        let at = |second: u64| Timestamp::from_secs(1_000 + second);
        for rule in 0..MOST_RULES {
            hit(&counts, rule, 100 + rule as u64);
        }
        history.tick(&counts, at(1));
        hit(&counts, MOST_RULES, 3);
        history.tick(&counts, at(2));
        assert_eq!(history.last_minute(MOST_RULES, at(2)), None);
        hit(&counts, MOST_RULES, 50);
        hit(&counts, MOST_RULES + 1, 40);
        history.tick(&counts, at(3));
        assert_eq!(history.last_minute(MOST_RULES, at(3)).unwrap().passed, 50);
        assert_eq!(history.last_minute(MOST_RULES + 1, at(3)), None);
        assert_eq!(history.last_minute(0, at(3)), None);
        assert_eq!(history.last_minute(1, at(3)).unwrap().passed, 101);
        assert_eq!(history.rings.len(), MOST_RULES);
        let all: u64 = history.all(Step::Fine, at(3)).iter().map(|it| it.hits.passed).sum();
        assert_eq!(all, (0..MOST_RULES as u64).map(|rule| 100 + rule).sum::<u64>() + 93);
    }

    #[test]
    fn a_history_follows_its_rule_to_the_next_rules() {
        let old = counts(&names(0..3));
        let mut history = History::default();
        let now = Timestamp::from_secs(1_000);
        for rule in 0..3 {
            hit(&old, rule, 10 + rule as u64);
        }
        history.tick(&old, now);
        let new = counts(&[names(3..4), names(1..3)].concat());
        history.install(&old, &new);
        assert_eq!(history.last_minute(0, now), None);
        assert_eq!(history.last_minute(1, now).unwrap().passed, 11);
        hit(&new, 2, 5);
        hit(&new, 0, 1);
        history.tick(&new, now);
        assert_eq!(history.last_minute(2, now).unwrap().passed, 17);
        assert_eq!(history.last_minute(0, now).unwrap().passed, 1);
        assert_eq!(history.rings.len(), 3);
    }
}
