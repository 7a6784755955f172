//! Random calls with a clock that mostly goes forward.

use std::{num::NonZeroU32, time::Duration};

use proptest::{collection::vec, prelude::*, sample::select};
use tollgate::{
    descriptor::{Descriptor, Request},
    engine::decision::Mode,
    limit::{Hits, Limit, Unit, Window},
    time::Timestamp,
};

use super::rules::{ConsumeMode, RulesText, rules};
use crate::deployments::{self, request_with};

/// Rules and a sequence of calls.
#[derive(Clone, Debug)]
pub(crate) struct RandomCalls {
    pub(crate) rules: RulesText,
    pub(crate) mode: Mode,
    /// Then there are no refunds, and no limit is raised, as cached refusals are valid for a
    /// second.
    pub(crate) has_deny_cache: bool,
    pub(crate) start: Timestamp,
    pub(crate) calls: Vec<RandomCall>,
}

#[derive(Clone, Debug)]
pub(crate) struct RandomCall {
    pub(crate) clock_move: ClockMove,
    pub(crate) descriptors: Vec<RandomDescriptor>,
}

/// The movement of the clock before a call.
#[derive(Clone, Debug)]
pub(crate) enum ClockMove {
    Forward(Duration),
    /// Back from the latest time so far.
    Back(Duration),
    /// To the end of the wait of the last answer, or so many microseconds before.
    Retry(u64),
    /// To the next full second, or so many microseconds before.
    Second(u64),
}

/// One descriptor of a call.
#[derive(Clone, Debug)]
pub(crate) struct RandomDescriptor {
    key: usize,
    value: &'static str,
    amount: Amount,
    /// A limit in the request.
    limit_override: Option<LimitOverride>,
}

#[derive(Clone, Debug)]
struct LimitOverride {
    requests: u32,
    unit: Unit,
    multiplier: u32,
}

#[derive(Clone, Debug)]
enum Amount {
    Hits(Hits),
    /// The first limit of the rule, plus this number.
    Limit(u64),
}

impl RandomCalls {
    pub(crate) fn request(&self, call: &RandomCall) -> Request {
        let mut descriptors = Vec::new();
        for descriptor in &call.descriptors {
            descriptors.push(self.descriptor(descriptor));
        }
        request_with(descriptors)
    }

    /// A request of no hits with all counters.
    pub(crate) fn peek_request(&self) -> Request {
        let mut descriptors = Vec::new();
        for value in ["ann", "bob"] {
            for number in 0..self.rules.0.len() {
                let key = format!("k{number}");
                descriptors.push(deployments::descriptor(&key, value, Hits::Add(0)));
            }
        }
        request_with(descriptors)
    }

    fn descriptor(&self, random: &RandomDescriptor) -> Descriptor {
        let key = random.key % self.rules.0.len();
        let requests = u64::from(self.rules.0[key].limits[0].requests);
        let hits = match random.amount {
            Amount::Hits(Hits::Refund(hits)) if self.has_deny_cache => Hits::Add(hits),
            Amount::Hits(hits) => hits,
            Amount::Limit(more) => Hits::Add(requests + more),
        };
        let mut descriptor = deployments::descriptor(&format!("k{key}"), random.value, hits);
        if let Some(limit) = &random.limit_override
            && !self.has_deny_cache
        {
            descriptor.limit = Some(limit.limit());
        }
        descriptor
    }
}

impl LimitOverride {
    fn limit(&self) -> Limit {
        let multiplier = NonZeroU32::new(self.multiplier).expect("it is not 0");
        let window = Window::times(self.unit, multiplier).expect("it is short");
        Limit::fixed(self.requests, window)
    }
}

/// Whether the request adds hits to limits of the rules only.
pub(crate) fn only_adds_to_rules(request: &Request) -> bool {
    for Descriptor { hits, limit, .. } in &request.descriptors {
        if matches!(hits, Hits::Refund(_)) || limit.is_some() {
            return false;
        }
    }
    true
}

impl ClockMove {
    /// The time of the next call, after an answer with this wait.
    pub(crate) fn time(
        &self,
        now: Timestamp,
        latest: Timestamp,
        wait: Option<Duration>,
    ) -> Timestamp {
        match *self {
            Self::Forward(by) => latest.plus(by),
            Self::Back(by) => before(latest, u64::try_from(by.as_micros()).expect("it is short")),
            Self::Retry(micros) => {
                let mut wait = wait.unwrap_or_default();
                if wait >= FAR_FUTURE {
                    wait = Duration::ZERO;
                }
                before(latest.max(now.plus(wait)), micros)
            }
            Self::Second(micros) => before(Timestamp::from_secs(latest.as_secs() + 1), micros),
        }
    }
}

/// The clock does not move forward by as much as this.
const FAR_FUTURE: Duration = Duration::from_secs(400 * 86_400);

fn before(time: Timestamp, micros: u64) -> Timestamp {
    Timestamp::from_micros(time.as_micros() - micros)
}

fn forward(micros: u64) -> ClockMove {
    ClockMove::Forward(Duration::from_micros(micros))
}

fn forward_seconds(seconds: u64) -> ClockMove {
    ClockMove::Forward(Duration::from_secs(seconds))
}

fn back(micros: u64) -> ClockMove {
    ClockMove::Back(Duration::from_micros(micros))
}

fn clock_move() -> impl Strategy<Value = ClockMove> {
    prop_oneof![
        6 => Just(ClockMove::Forward(Duration::ZERO)),
        3 => (0..1_000_u64).prop_map(forward),
        3 => (0..1_500_000_u64).prop_map(forward),
        1 => (0..600_u64).prop_map(forward_seconds),
        1 => (0..=900_000_u64).prop_map(back),
        3 => (0..2_u64).prop_map(ClockMove::Retry),
        1 => (0..2_u64).prop_map(ClockMove::Second),
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

fn limit_override((requests, unit, multiplier): (u32, Unit, u32)) -> Option<LimitOverride> {
    Some(LimitOverride { requests, unit, multiplier })
}

fn descriptor() -> impl Strategy<Value = RandomDescriptor> {
    let unit = select(&[Unit::Second, Unit::Minute, Unit::Hour][..]);
    let limit = prop_oneof![
        10 => Just(None),
        1 => (0..6_u32, unit, 1..3_u32).prop_map(limit_override),
    ];
    let value = prop_oneof![3 => Just("ann"), 1 => Just("bob")];
    (0..4_usize, value, amount(), limit).prop_map(|(key, value, amount, limit_override)| {
        RandomDescriptor { key, value, amount, limit_override }
    })
}

pub(crate) fn random_calls(consume: ConsumeMode) -> impl Strategy<Value = RandomCalls> {
    let call = (clock_move(), vec(descriptor(), 1..=5))
        .prop_map(|(clock_move, descriptors)| RandomCall { clock_move, descriptors });
    // From 2001 to 2033.
    let start = 1_000_000_000..2_000_000_000_000_000_u64;
    let flags =
        (prop::bool::weighted(0.25), prop::bool::weighted(0.05), prop::bool::weighted(0.05));
    (rules(consume), flags, start, vec(call, 1..50)).prop_map(
        move |(rules, (has_deny_cache, shadow, quota), start, calls)| {
            let stop_counting = consume == ConsumeMode::StopCounting;
            let mode = Mode { shadow, quota, stop_counting };
            let start = Timestamp::from_micros(1_000_000_000_000 + start);
            RandomCalls { rules, mode, has_deny_cache, start, calls }
        },
    )
}
