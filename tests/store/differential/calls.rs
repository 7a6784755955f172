//! Random calls with a clock that mostly goes forward.

use std::{num::NonZeroU32, time::Duration};

use proptest::{collection::vec, prelude::*, sample::select};
use tollgate::{
    descriptor::{Descriptor, Request},
    engine::decision::Mode,
    limit::{Hits, Limit, Unit, Window},
    time::Timestamp,
};

use super::rules::{Kind, RulesText, rules};
use crate::places;

/// Rules and a sequence of calls.
#[derive(Clone, Debug)]
pub(crate) struct Game {
    pub(crate) rules: RulesText,
    pub(crate) mode: Mode,
    /// Whether there is a deny cache. Then games have no refunds and raise no limit, as
    /// cached refusals are valid for a second.
    pub(crate) remembers: bool,
    pub(crate) start: Timestamp,
    pub(crate) calls: Vec<(Step, Vec<Ask>)>,
}

/// The movement of the clock before a call.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Forward(Duration),
    /// Back from the latest moment of the game.
    Back(Duration),
    /// To the end of the wait of the last answer, or so many microseconds before.
    Retry(u64),
    /// To the next full second, or so many microseconds before.
    Second(u64),
}

/// One descriptor of a call.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    key: usize,
    value: &'static str,
    amount: Amount,
    /// A limit in the request: requests, unit and multiplier.
    brought: Option<(u32, Unit, u32)>,
}

#[derive(Clone, Debug)]
enum Amount {
    Hits(Hits),
    /// The first limit of the rule, plus this number.
    Limit(u64),
}

impl Game {
    pub(crate) fn request(&self, asks: &[Ask]) -> Request {
        places::asking(asks.iter().map(|it| self.descriptor(it)).collect())
    }

    /// Whether it adds hits to limits of the rules only.
    pub(crate) fn is_plain(&self, ask: &Ask) -> bool {
        let Descriptor { hits, limit, .. } = self.descriptor(ask);
        matches!(hits, Hits::Add(_)) && limit.is_none()
    }

    /// A look at all counters of the game.
    pub(crate) fn looks(&self) -> Request {
        let look = |value| {
            let keys = (0..self.rules.0.len()).map(|it| format!("k{it}"));
            keys.map(move |it| places::descriptor(&it, value, Hits::Add(0)))
        };
        places::asking(look("ann").chain(look("bob")).collect())
    }

    fn descriptor(&self, ask: &Ask) -> Descriptor {
        let key = ask.key % self.rules.0.len();
        let requests = u64::from(self.rules.0[key].limits[0].requests);
        let hits = match ask.amount {
            Amount::Hits(Hits::Refund(it)) if self.remembers => Hits::Add(it),
            Amount::Hits(it) => it,
            Amount::Limit(more) => Hits::Add(requests + more),
        };
        let limit = ask.brought.filter(|_| !self.remembers).map(|(requests, unit, times)| {
            let times = NonZeroU32::new(times).expect("it is not 0");
            Limit::fixed(requests, Window::times(unit, times).expect("it is short"))
        });
        Descriptor { limit, ..places::descriptor(&format!("k{key}"), ask.value, hits) }
    }
}

impl Step {
    /// The moment of the next call, after an answer with this wait.
    pub(crate) fn moment(
        &self,
        now: Timestamp,
        latest: Timestamp,
        wait: Option<Duration>,
    ) -> Timestamp {
        let before = |it: Timestamp, by: u64| Timestamp::from_micros(it.as_micros() - by);
        match *self {
            Self::Forward(by) => latest.plus(by),
            Self::Back(by) => before(latest, u64::try_from(by.as_micros()).expect("it is short")),
            Self::Retry(by) => {
                let near = wait.filter(|it| *it < Duration::from_secs(400 * 86_400));
                before(latest.max(now.plus(near.unwrap_or_default())), by)
            }
            Self::Second(by) => before(Timestamp::from_secs(latest.as_secs() + 1), by),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let micros = Duration::from_micros;
    prop_oneof![
        6 => Just(Step::Forward(Duration::ZERO)),
        3 => (0..1_000_u64).prop_map(move |it| Step::Forward(micros(it))),
        3 => (0..1_500_000_u64).prop_map(move |it| Step::Forward(micros(it))),
        1 => (0..600_u64).prop_map(move |it| Step::Forward(Duration::from_secs(it))),
        1 => (0..=900_000_u64).prop_map(move |it| Step::Back(micros(it))),
        3 => (0..2_u64).prop_map(Step::Retry),
        1 => (0..2_u64).prop_map(Step::Second),
    ]
}

fn amount() -> impl Strategy<Value = Amount> {
    let hits = prop_oneof![
        16 => Just(Hits::Add(1)),
        6 => (2..5_u64).prop_map(Hits::Add),
        2 => Just(Hits::Add(0)),
        3 => (1..5_u64).prop_map(Hits::Refund),
        1 => (1..1_500_u64).prop_map(Hits::Add),
        1 => Just(Hits::Add(u64::MAX)),
        1 => Just(Hits::Refund(u64::MAX)),
    ];
    prop_oneof![12 => hits.prop_map(Amount::Hits), 1 => (0..2_u64).prop_map(Amount::Limit)]
}

fn ask() -> impl Strategy<Value = Ask> {
    let unit = select(&[Unit::Second, Unit::Minute, Unit::Hour][..]);
    let brought = prop_oneof![
        10 => Just(None),
        1 => (0..6_u32, unit, 1..3_u32).prop_map(Some),
    ];
    let value = prop_oneof![3 => Just("ann"), 1 => Just("bob")];
    (0..4_usize, value, amount(), brought).prop_map(|(key, value, amount, brought)| Ask {
        key,
        value,
        amount,
        brought,
    })
}

pub(crate) fn game(kind: Kind) -> impl Strategy<Value = Game> {
    let calls = vec((step(), vec(ask(), 1..=5)), 1..50);
    // From 2001 to 2033.
    let start = 1_000_000_000..2_000_000_000_000_000_u64;
    let flags =
        (prop::bool::weighted(0.25), prop::bool::weighted(0.05), prop::bool::weighted(0.05));
    (rules(kind), flags, start, calls).prop_map(
        move |(rules, (remembers, shadow, quota), start, calls)| Game {
            rules,
            mode: Mode { shadow, quota, stop_counting: kind == Kind::Stop },
            remembers,
            start: Timestamp::from_micros(1_000_000_000_000 + start),
            calls,
        },
    )
}
