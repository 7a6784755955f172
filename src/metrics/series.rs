//! The statistics of the rules: one series for each name.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use indexmap::IndexMap;
use parking_lot::{Mutex, RwLock};
use prometheus::IntCounter;

use crate::rules::{Rule, RuleTree, stat_name::StatName};

mod text;

pub(super) use self::text::push_label;
use self::text::{Order, Rows};

/// How many series the values of requests can make, where rules say
/// `detailed_metric` or `value_to_metric`. Those beyond are counted together,
/// as `other` of their domain.
pub const MOST_DYNAMIC: usize = 10_000;

/// The longest name that the values of a request can make, in bytes. What has a
/// longer one is counted as `other` too, or few series could take much memory.
const LONGEST: usize = 1024;

/// How many of the series that requests name are copied before others may come to be.
const AT_ONCE: usize = 500;

/// The name of each statistic of a series, and what it counts. In the order of the
/// names, as they are shown.
pub(super) const STATISTICS: [(&str, &str); 7] = [
    ("near_limit", "Hits close to the limit, passed or not."),
    ("over_limit", "Hits over the limit."),
    (
        "over_limit_with_local_cache",
        "Hits over the limit of which that was known without asking Redis.",
    ),
    ("shadow_mode", "Hits over the limit that passed because of the rule's shadow_mode."),
    ("total_hits", "Hits that a rule governed."),
    ("total_negative_hits", "Hits given back."),
    ("within_limit", "Hits that passed."),
];

/// One value for each of [`STATISTICS`], in that order.
type Values = [u64; STATISTICS.len()];

/// What one decision adds to a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bump {
    /// All hits.
    pub total: u64,
    /// Hits that passed.
    pub within: u64,
    /// Hits close to the limit.
    pub near: u64,
    /// Hits over the limit.
    pub over: u64,
    /// Those of them that the store was not asked about.
    pub cached: u64,
    /// Hits over the limit that passed all the same.
    pub shadow: u64,
    /// Hits given back.
    pub refunded: u64,
}

/// One value for each of [`STATISTICS`], in that order.
#[derive(Debug, Default)]
struct Series([AtomicU64; STATISTICS.len()]);

impl Series {
    /// What has been counted.
    fn values(&self) -> Values {
        self.0.each_ref().map(|it| it.load(Relaxed))
    }

    fn bump(&self, bump: Bump) {
        let Bump { total, within, near, over, cached, shadow, refunded } = bump;
        let hits = [near, over, cached, shadow, total, refunded, within];
        for (value, hits) in self.0.iter().zip(hits) {
            // Nobody makes a counter begin anew.
            if hits > 0 && value.fetch_add(hits, Relaxed).checked_add(hits).is_none() {
                value.store(u64::MAX, Relaxed);
            }
        }
    }
}

/// The series of all rules.
#[derive(Clone, Debug)]
pub(super) struct SeriesTable(Arc<Tables>);

#[derive(Debug)]
struct Tables {
    fixed: ArcSwap<Fixed>,
    /// Those that requests name.
    dynamic: RwLock<IndexMap<Arc<StatName>, Arc<Series>>>,
    /// How many bumps went to `other`.
    folded: IntCounter,
    /// For each follower, series that are gone and that it may not have seen.
    followers: Mutex<Vec<Weak<Gone>>>,
}

/// At most [`MOST_DYNAMIC`].
type Gone = Mutex<Vec<Followed>>;

/// A series, and its name.
#[derive(Clone, Debug)]
pub(super) struct Followed(Arc<StatName>, Arc<Series>);

impl Followed {
    pub(super) fn name(&self) -> &StatName {
        &self.0
    }

    /// What has been counted, for each of [`STATISTICS`].
    pub(super) fn values(&self) -> Values {
        self.1.values()
    }

    /// No other series has it as long as this one is there.
    pub(super) fn address(&self) -> usize {
        Arc::as_ptr(&self.1).addr()
    }
}

/// Sees all series, also those that come and go.
#[derive(Debug)]
pub(super) struct Follower {
    tables: Arc<Tables>,
    gone: Arc<Gone>,
}

impl Follower {
    /// Those in force, of which this is true, and those that are gone since the
    /// last time.
    pub(super) fn series(&self) -> Vec<(Followed, bool)> {
        let mut all = Vec::new();
        self.tables.for_each(|name, series| {
            all.push((Followed(Arc::clone(name), Arc::clone(series)), true));
        });
        // Last: what goes meanwhile is seen here, too, or the next time.
        let gone = std::mem::take(&mut *self.gone.lock());
        all.extend(gone.into_iter().map(|it| (it, false)));
        all
    }
}

/// The series of the rules in force. Rules of the same name share one.
#[derive(Debug, Default)]
struct Fixed {
    by_name: HashMap<Arc<StatName>, Arc<Series>>,
    /// By [`Rule::index`], with the name to know the rule by.
    by_rule: Vec<(Arc<StatName>, Arc<Series>)>,
    /// In the order in which each page shows them, once it has been asked for.
    by_labels: OnceLock<Vec<Followed>>,
    by_path: OnceLock<Vec<Followed>>,
}

impl Fixed {
    fn sorted(&self, order: Order) -> &[Followed] {
        let place = match order {
            Order::Labels => &self.by_labels,
            Order::Path => &self.by_path,
        };
        place.get_or_init(|| {
            let all = self.by_name.iter();
            let mut all: Vec<_> =
                all.map(|(name, series)| Followed(Arc::clone(name), Arc::clone(series))).collect();
            all.sort_unstable_by(|a, b| order.compare(&a.0, &b.0));
            all
        })
    }
}

impl SeriesTable {
    /// No series yet. Bumps that go to `other` are counted in `folded`.
    pub(super) fn new(folded: IntCounter) -> Self {
        Self(Arc::new(Tables {
            fixed: ArcSwap::default(),
            dynamic: RwLock::default(),
            folded,
            followers: Mutex::default(),
        }))
    }

    /// From now on nothing escapes the follower.
    pub(super) fn follow(&self) -> Follower {
        let gone = Arc::new(Gone::default());
        self.0.followers.lock().push(Arc::downgrade(&gone));
        Follower { tables: Arc::clone(&self.0), gone }
    }

    /// Counts for `rule`, under its own name.
    pub(super) fn bump_rule(&self, rule: &Rule, bump: Bump) {
        let fixed = self.0.fixed.load();
        match fixed.by_rule.get(rule.index) {
            Some((name, series)) if Arc::ptr_eq(name, rule.stat_name()) => series.bump(bump),
            // Decided by rules that have just been replaced.
            _ => fixed.by_name.get(rule.stat_name()).into_iter().for_each(|it| it.bump(bump)),
        }
    }

    /// Counts under a name that depends on the request.
    pub(super) fn bump_dynamic(&self, name: StatName, bump: Bump) {
        if let Some(series) = self.0.dynamic.read().get(&name) {
            return series.bump(bump);
        }
        let mut dynamic = self.0.dynamic.write();
        let full = MOST_DYNAMIC <= dynamic.len() && !dynamic.contains_key(&name);
        let folded = full || LONGEST < name.length();
        self.0.folded.inc_by(folded.into());
        let name = if folded { other(&name) } else { name };
        dynamic.entry(Arc::new(name)).or_default().bump(bump);
    }

    /// Makes a series for each of `rules`, or keeps the one of that name, and
    /// drops the others.
    pub(super) fn install(&self, rules: &RuleTree) {
        let old = self.0.fixed.load();
        let mut new = Fixed::default();
        for rule in rules.rules() {
            let name = rule.stat_name();
            let series = new
                .by_name
                .entry(Arc::clone(name))
                .or_insert_with(|| old.by_name.get(name).map(Arc::clone).unwrap_or_default());
            new.by_rule.push((Arc::clone(name), Arc::clone(series)));
        }
        let gone: Vec<_> = old
            .by_name
            .iter()
            .filter(|(name, _)| !new.by_name.contains_key(*name))
            .map(|(name, series)| Followed(Arc::clone(name), Arc::clone(series)))
            .collect();
        // First, so that none is missing in both places when followers look.
        for follower in self.0.followers.lock().iter().filter_map(Weak::upgrade) {
            let mut theirs = follower.lock();
            let room = MOST_DYNAMIC.saturating_sub(theirs.len());
            theirs.extend(gone.iter().take(room).cloned());
        }
        self.0.fixed.store(Arc::new(new));
    }

    /// The statistics in Prometheus' text format, in pieces. `labels` are those that
    /// all have.
    pub(super) fn prometheus(&self, labels: String) -> impl Iterator<Item = String> + Send + use<> {
        self.rows(Order::Labels).prometheus(labels)
    }

    /// The statistics under their names in statsd, one per line, in pieces.
    pub(super) fn dotted(&self) -> impl Iterator<Item = String> + Send + use<> {
        self.rows(Order::Path).dotted()
    }

    /// Those that are there now.
    fn rows(&self, order: Order) -> Rows {
        let fixed = self.0.fixed.load_full();
        let mut dynamic = self.0.named();
        dynamic.sort_unstable_by(|a, b| order.compare(&a.0, &b.0));
        Rows::new(fixed, dynamic, order)
    }
}

/// What a statistic is called in statsd: in one line, also where a value has
/// line breaks.
pub(super) fn dotted(name: &StatName, statistic: &str) -> String {
    let name = format!("ratelimit.service.rate_limit.{name}.{statistic}");
    if name.contains(char::is_control) { name.replace(char::is_control, "_") } else { name }
}

/// `other`, in the same domain: one that the rules name.
fn other(name: &StatName) -> StatName {
    StatName::new(name.domain(), std::iter::once("other".to_owned()))
}

impl Tables {
    fn for_each(&self, mut visit: impl FnMut(&Arc<StatName>, &Arc<Series>)) {
        self.fixed.load().by_name.iter().for_each(|(name, it)| visit(name, it));
        self.dynamic.read().iter().for_each(|(name, it)| visit(name, it));
    }

    /// Those that requests name. New ones do not wait for all of them to be copied.
    fn named(&self) -> Vec<Followed> {
        let mut all = Vec::new();
        loop {
            let dynamic = self.dynamic.read();
            let Some(more) = dynamic.get_range(all.len()..dynamic.len()) else { return all };
            if more.is_empty() {
                return all;
            }
            let more = more.iter().take(AT_ONCE);
            all.extend(more.map(|(name, it)| Followed(Arc::clone(name), Arc::clone(it))));
        }
    }
}

#[cfg(test)]
mod tests;
