//! Random calls to one limit.

use std::{num::NonZeroU32, time::Duration};

use proptest::{collection::vec, prelude::*, sample::select};
use tollgate::{
    limit::{Algorithm, Hits, Limit, Outcome, Unit, Window, permits, window::Phase},
    time::Timestamp,
};

use crate::counter::Counter;

/// 2026-11-20, not at the edge of any window.
pub(crate) const START: u64 = 1_795_163_412_345_678;

/// The end of all calls. Everything expires after 100 years.
pub(crate) const END: u64 = START + 99 * 365 * 86_400_000_000;

/// The pause before a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pause {
    Micros(u64),
    /// Until the end of the window, plus this many microseconds.
    Edge(i8),
    /// Until the last refused call would pass, plus this many microseconds.
    Retry(i8),
    /// Until the counter is empty, plus this many microseconds.
    Reset(i8),
    /// Thousandths of the window.
    Part(u16),
    /// Thousandths of the time in which one hit is refilled.
    Interval(u16),
}

/// The hits of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    Hits(u32),
    Remaining(i8),
    Capacity(i8),
    /// Thousandths of the capacity.
    Part(u16),
    Refund(u16),
}

pub(crate) type Call = (Pause, Amount);

pub(crate) fn calls(refunds: bool, most: usize) -> BoxedStrategy<Vec<Call>> {
    let pause = prop_oneof![
        3 => Just(Pause::Micros(0)),
        2 => Just(Pause::Micros(1)),
        2 => (0..=2_000_000_u64).prop_map(Pause::Micros),
        2 => (-1..=1_i8).prop_map(Pause::Edge),
        3 => (-1..=1_i8).prop_map(Pause::Retry),
        1 => (-1..=1_i8).prop_map(Pause::Reset),
        4 => (0..1_500_u16).prop_map(Pause::Part),
        4 => (0..2_500_u16).prop_map(Pause::Interval),
        1 => Just(Pause::Part(30_000)),
    ];
    let amount = prop_oneof![
        4 => Just(Amount::Hits(1)),
        2 => (0..20_u32).prop_map(Amount::Hits),
        3 => (-1..=1_i8).prop_map(Amount::Remaining),
        1 => (-1..=1_i8).prop_map(Amount::Capacity),
        3 => (0..1_000_u16).prop_map(Amount::Part),
        1 => any::<u32>().prop_map(Amount::Hits),
    ];
    let refund = (0..1_200_u16).prop_map(Amount::Refund);
    let amount = prop_oneof![8 => amount, u32::from(refunds) => refund];
    vec((pause, amount), 1..most).boxed()
}

pub(crate) fn requests(most: u32) -> impl Strategy<Value = u32> {
    let usual = [1, 2, 3, 7, 10, 60, 100, 999, 1_000, 86_400, 10_000_000, u32::MAX];
    let mut usual = Vec::from(usual);
    usual.retain(|requests| *requests <= most);
    prop_oneof![4 => select(usual), 1 => 1..=most]
}

pub(crate) fn windows() -> impl Strategy<Value = Window> {
    let multiplier = prop_oneof![4 => Just(1), 1 => select(vec![2, 7, 60, 90])];
    (select(&Unit::ALL[..]), multiplier, 0..4_u8, 0..4_000_u64).prop_map(window)
}

fn window((unit, multiplier, phase, seconds): (Unit, u32, u8, u64)) -> Window {
    let window = Window::times(unit, NonZeroU32::new(multiplier).unwrap());
    let mut window = window.unwrap_or(Window::new(unit));
    if phase == 0 {
        window.phase = Phase::Shifted(Duration::from_secs(seconds));
    }
    window
}

pub(crate) fn limits(algorithm: &'static str) -> BoxedStrategy<Limit> {
    let most = match algorithm {
        "sliding_log" | "concurrency" => permits::MAX_REQUESTS,
        _ => u32::MAX,
    };
    let lifetime =
        prop_oneof![Just(1_u64), Just(1_000_000), 1..100_000_000_u64, Just(86_400_000_000)];
    (requests(most), windows(), requests(u32::MAX), any::<bool>(), lifetime)
        .prop_map(move |(requests, window, burst, same, lifetime)| {
            let burst = if same { requests } else { burst };
            let algorithm = match algorithm {
                "fixed_window" => Algorithm::FixedWindow { count_denied: true },
                "fixed_window_without_denied" => Algorithm::FixedWindow { count_denied: false },
                "sliding_window" => Algorithm::SlidingWindow,
                "sliding_log" => Algorithm::SlidingLog,
                "token_bucket" => Algorithm::TokenBucket { burst },
                "leaky_bucket" => Algorithm::LeakyBucket { burst },
                "concurrency" => {
                    Algorithm::Concurrency { lifetime: Duration::from_micros(lifetime) }
                }
                _ => unreachable!(),
            };
            Limit { requests, window, algorithm, penalty: Duration::ZERO, max_prefetch: 0 }
        })
        .boxed()
}

pub(crate) fn any_limit() -> BoxedStrategy<Limit> {
    prop_oneof![
        limits("fixed_window"),
        limits("fixed_window_without_denied"),
        limits("sliding_window"),
        limits("sliding_log"),
        limits("token_bucket"),
        limits("leaky_bucket"),
        limits("concurrency"),
    ]
    .boxed()
}

/// Limits that do not count refused calls.
pub(crate) fn limit_without_counted_denials() -> impl Strategy<Value = Limit> {
    any_limit().prop_filter("the limit counts denied hits", |limit| !counts_denied(limit))
}

pub(crate) fn counts_denied(limit: &Limit) -> bool {
    limit.algorithm == Algorithm::FixedWindow { count_denied: true }
}

/// Roughly the time for which a hit counts.
pub(crate) fn length(limit: &Limit) -> u64 {
    match limit.algorithm {
        Algorithm::Concurrency { lifetime } => lifetime.as_micros() as u64,
        _ => limit.window.seconds() * 1_000_000,
    }
}

/// One call and its outcome.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) now: u64,
    pub(crate) hits: Hits,
    pub(crate) outcome: Outcome,
    /// The counter after the call.
    pub(crate) counter: Counter,
}

/// Makes the calls to a new counter, from `START` on.
pub(crate) fn run_calls(limit: &Limit, calls: &[Call]) -> Vec<Record> {
    let mut counter = Counter::new(limit);
    let mut now = START;
    let mut last: Option<Outcome> = None;
    let mut records = Vec::new();
    for (pause, amount) in calls {
        now = wait(&counter, last, now, *pause);
        if END < now {
            break;
        }
        let hits = hits_of(&counter, *amount, now);
        let outcome = counter.charge(hits, now);
        last = Some(outcome);
        records.push(Record { now, hits, outcome, counter: counter.clone() });
    }
    records
}

pub(crate) fn wait(counter: &Counter, last: Option<Outcome>, now: u64, pause: Pause) -> u64 {
    let limit = &counter.limit;
    let then = |wait: Duration, more: i8| {
        let wait = wait.min(Duration::from_secs(200 * 365 * 86_400));
        (now + wait.as_micros() as u64).saturating_add_signed(more.into()).max(now)
    };
    match pause {
        Pause::Micros(micros) => now + micros,
        Pause::Edge(more) => {
            let span = limit.window.span(Timestamp::from_micros(now), counter.seed);
            then(span.end.since(Timestamp::from_micros(now)), more)
        }
        Pause::Retry(more) => {
            then(last.and_then(|outcome| outcome.retry_after).unwrap_or_default(), more)
        }
        Pause::Reset(more) => {
            then(last.map(|outcome| outcome.reset_after).unwrap_or_default(), more)
        }
        Pause::Part(part) => now + length(limit) / 1_000 * u64::from(part),
        Pause::Interval(part) => {
            now + length(limit) * u64::from(part) / 1_000 / u64::from(limit.requests.max(1))
        }
    }
}

pub(crate) fn hits_of(counter: &Counter, amount: Amount, now: u64) -> Hits {
    let capacity = u64::from(counter.limit.capacity());
    let part = |part: u16| capacity * u64::from(part) / 1_000;
    match amount {
        Amount::Hits(hits) => Hits::Add(hits.into()),
        Amount::Remaining(more) => {
            let remaining = u64::from(counter.would(Hits::Add(0), now).remaining);
            Hits::Add(remaining.saturating_add_signed(more.into()))
        }
        Amount::Capacity(more) => Hits::Add(capacity.saturating_add_signed(more.into())),
        Amount::Part(share) => Hits::Add(part(share)),
        Amount::Refund(share) => Hits::Refund(part(share).max(share.into())),
    }
}
