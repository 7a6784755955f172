//! Random calls to random counters, with a clock that moves at random.

use proptest::{collection::vec, prelude::*};
use tollgate::limit::{Outcome, bucket::Scale, leases, step, window::Phase};

use super::*;

/// Some counters and a sequence of calls.
#[derive(Clone, Debug)]
pub(crate) struct Game {
    pub(crate) start: Timestamp,
    /// The limits of each counter: a rule changes from time to time.
    pub(crate) counters: Vec<Vec<Limit>>,
    pub(crate) calls: Vec<(Step, Vec<Hit>)>,
}

/// The movement of the clock before a call.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Forward(Duration),
    /// Back from the latest moment of the game, by less than the expiry slack.
    Back(Duration),
    /// Thousandths of the window of this counter.
    Windows(usize, u32),
    /// To the `retry_after` of the last outcome, or so many microseconds before.
    Retry(u64),
    /// To the `reset_after` of the last outcome, or so many microseconds before.
    Reset(u64),
    /// By seconds in either direction.
    Glitch(i64),
}

#[derive(Clone, Debug)]
pub(crate) struct Hit {
    counter: usize,
    /// The index of the limit.
    limit: usize,
    amount: Amount,
    consume: Consume,
    enforced: Enforced,
    refused: bool,
}

#[derive(Clone, Debug)]
enum Amount {
    Hits(Hits),
    /// The capacity plus this number.
    Capacity(u32),
}

impl Game {
    /// Computes the moment of a call.
    pub(crate) fn moment(
        &self,
        step: &Step,
        now: Timestamp,
        latest: Timestamp,
        last: &[Outcome],
    ) -> Timestamp {
        let early = |wait: Duration, by| latest.max(now.plus(wait)).as_micros() - by;
        let seconds = |it: u64| it * 1_000_000;
        Timestamp::from_micros(match *step {
            Step::Forward(by) => return latest.plus(by),
            Step::Back(by) => latest.as_micros() - micros(by),
            Step::Windows(counter, thousandths) => {
                let limit = &self.counters[counter % self.counters.len()][0];
                let length = leases::lease(limit) / 1_000 * thousandths;
                return latest.plus(length);
            }
            Step::Retry(by) => {
                let waits = last.iter().filter_map(|it| it.retry_after);
                early(waits.filter(is_near).max().unwrap_or_default(), by)
            }
            Step::Reset(by) => {
                let waits = last.iter().map(|it| it.reset_after);
                early(waits.filter(is_near).max().unwrap_or_default(), by)
            }
            Step::Glitch(by) if by < 0 => now.as_micros() - seconds(by.unsigned_abs()),
            Step::Glitch(by) => now.as_micros() + seconds(by.unsigned_abs()),
        })
    }

    pub(crate) fn charges(&self, hits: &[Hit], now: Timestamp) -> Vec<Charge> {
        let charge = |hit: &Hit| {
            let counter = hit.counter % self.counters.len();
            let limits = &self.counters[counter];
            let limit = limits[hit.limit % limits.len()].clone();
            let hits = match hit.amount {
                Amount::Hits(it) => it,
                Amount::Capacity(more) => Hits::Add(u64::from(limit.capacity()) + u64::from(more)),
            };
            let name = counter.to_string();
            let part = KeyPart { key: b"name", value: name.as_bytes(), shared: false };
            let counter = KeyFormat::default().key(b"game", [part].into_iter(), &limit, now);
            let Hit { consume, enforced, refused, .. } = *hit;
            Charge { counter, limit, hits, consume, enforced, refused, on_timeout: OnTimeout::Fail }
        };
        hits.iter().map(charge).collect()
    }

    /// Whether an expired state has no effect on any later limit: no bucket drains slower
    /// than before.
    pub(crate) fn may_forget(&self) -> bool {
        let rate = |it: &Limit| {
            let Scale { tick, cost, drain, .. } = Scale::new(it);
            (tick, cost, drain)
        };
        let is_bucket = |it: &Limit| {
            matches!(it.algorithm, Algorithm::TokenBucket { .. } | Algorithm::LeakyBucket { .. })
        };
        let steady = |limits: &Vec<Limit>| {
            !is_bucket(&limits[0]) || limits.iter().all(|it| rate(it) == rate(&limits[0]))
        };
        // A longer penalty or lease, or a larger bucket, could make an old state
        // effective again.
        let lasts = |it: &Limit| {
            let capacity = if is_bucket(it) { it.capacity() } else { 0 };
            (it.penalty, leases::lease(it), capacity)
        };
        let same = |limits: &Vec<Limit>| limits.iter().all(|it| lasts(it) == lasts(&limits[0]));
        self.counters.iter().all(|it| steady(it) && same(it))
            && !self.calls.iter().any(|(it, _)| matches!(it, Step::Glitch(_)))
    }
}

/// The longest expiry that Redis may set for `charge`.
pub(crate) fn longest(charge: &Charge) -> Duration {
    // After a step back over an edge, the counter has its earlier window again.
    let behind = Duration::from_secs(1);
    let longest = step::max_ttl(&charge.limit, charge.counter.span);
    longest + behind + EXPIRY_SLACK + Duration::from_millis(1)
}

fn is_near(wait: &Duration) -> bool {
    *wait < Duration::from_secs(10 * 365 * 86_400)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).expect("it is short")
}

fn window() -> impl Strategy<Value = Window> {
    let phase = prop_oneof![
        8 => Just(Phase::Epoch),
        1 => Just(Phase::Spread),
        1 => (0..100_000_u64).prop_map(|it| Phase::Shifted(Duration::from_secs(it))),
    ];
    let units = prop::sample::select(&Unit::ALL[..]);
    (prop_oneof![Just(Unit::Second), Just(Unit::Minute), units], 1..4_u32, phase).prop_map(
        |(unit, multiplier, phase)| {
            let multiplier = multiplier.try_into().expect("it is not 0");
            let mut window = Window::times(unit, multiplier).expect("it is short");
            window.phase = phase;
            window
        },
    )
}

fn requests() -> impl Strategy<Value = u32> {
    prop_oneof![
        1 => Just(0),
        10 => 1..8_u32,
        4 => 1..1_000_u32,
        1 => Just(1_000_000_u32),
        1 => Just(10_000_000_u32),
        1 => Just(u32::MAX),
    ]
}

fn penalty() -> impl Strategy<Value = Duration> {
    prop_oneof![
        6 => Just(0_u64),
        1 => 1..3_000_000_u64,
        1 => (1..600_u64).prop_map(|it| it * 1_000_000),
    ]
    .prop_map(Duration::from_micros)
}

/// Limits that share a counter: only the algorithm and the window are equal.
fn counter() -> impl Strategy<Value = Vec<Limit>> {
    let limit = (requests(), requests(), 1..100_u64, any::<bool>(), penalty());
    let limits = (vec(limit, 1..4), prop::bool::weighted(0.3)).prop_map(|(mut limits, several)| {
        limits.truncate(if several { limits.len() } else { 1 });
        limits
    });
    (0..6_u8, window(), any::<bool>(), limits).prop_map(|(kind, window, steady, limits)| {
        let rate = limits[0].0;
        let limit = |(requests, burst, lease, count_denied, penalty): (u32, u32, u64, bool, _)| {
            let algorithm = match kind {
                0 => Algorithm::FixedWindow { count_denied },
                1 => Algorithm::SlidingWindow,
                2 => Algorithm::SlidingLog,
                3 => Algorithm::TokenBucket { burst },
                4 => Algorithm::LeakyBucket { burst },
                _ => Algorithm::Concurrency { lease: Duration::from_secs(lease) },
            };
            let requests = match kind {
                2 | 5 => requests.min(leases::MAX_REQUESTS),
                3 | 4 if steady => rate,
                _ => requests,
            };
            Limit { requests, window: window.clone(), algorithm, penalty, max_prefetch: 0 }
        };
        limits.into_iter().map(limit).collect()
    })
}

pub(crate) fn hits() -> impl Strategy<Value = Hits> {
    prop_oneof![
        12 => (1..4_u64).prop_map(Hits::Add),
        1 => Just(Hits::Add(0)),
        1 => Just(Hits::Refund(0)),
        3 => (1..8_u64).prop_map(Hits::Refund),
        2 => (1..1_500_u64).prop_map(Hits::Add),
        1 => (1..1_500_u64).prop_map(Hits::Refund),
        1 => (Hits::MAX - 5..=u64::MAX).prop_map(Hits::Add),
        1 => (Hits::MAX - 5..=u64::MAX).prop_map(Hits::Refund),
        1 => (0..Hits::MAX).prop_map(Hits::Add),
        1 => (0..Hits::MAX).prop_map(Hits::Refund),
    ]
}

pub(crate) fn consume() -> impl Strategy<Value = Consume> {
    prop_oneof![
        4 => Just(Consume::Independent),
        1 => Just(Consume::AllOrNothing),
        1 => Just(Consume::IfRefused),
    ]
}

/// Many quotas, as few calls would have several otherwise.
pub(crate) fn enforced() -> impl Strategy<Value = Enforced> {
    let one = prop_oneof![8 => Just(Enforced::Yes), 2 => Just(Enforced::No)];
    prop_oneof![2 => one, 1 => (0..2_usize).prop_map(Enforced::Quota)]
}

fn hit() -> impl Strategy<Value = Hit> {
    let amount = prop_oneof![
        6 => hits().prop_map(Amount::Hits),
        1 => (0..2_u32).prop_map(Amount::Capacity),
    ];
    let flags = (consume(), enforced(), prop::bool::weighted(0.05));
    (0..4_usize, 0..6_usize, amount, flags).prop_map(
        |(counter, limit, amount, (consume, enforced, refused))| {
            // Mostly the first limit, so that limits change rarely.
            let limit = limit.saturating_sub(3);
            Hit { counter, limit, amount, consume, enforced, refused }
        },
    )
}

fn step(glitches: u32) -> impl Strategy<Value = Step> {
    let micros = Duration::from_micros;
    prop_oneof![
        3 => Just(Step::Forward(Duration::ZERO)),
        3 => (0..1_000_u64).prop_map(move |it| Step::Forward(micros(it))),
        3 => (0..3_000_000_u64).prop_map(move |it| Step::Forward(micros(it))),
        3 => (0..=1_000_000_u64).prop_map(move |it| Step::Back(micros(it))),
        6 => (0..4_usize, 0..=2_000_u32).prop_map(|(counter, it)| Step::Windows(counter, it)),
        3 => (0..2_u64).prop_map(Step::Retry),
        2 => (0..2_u64).prop_map(Step::Reset),
        glitches => (-100..=100_i64).prop_map(Step::Glitch),
    ]
}

pub(crate) fn game(glitches: u32) -> impl Strategy<Value = Game> {
    let calls = vec((step(glitches), vec(hit(), 1..=8)), 1..25);
    let start = 1_000_000_000..2_000_000_000_000_000_u64;
    (start, vec(counter(), 1..5), calls).prop_map(|(start, counters, calls)| Game {
        start: Timestamp::from_micros(1_000_000_000_000 + start),
        counters,
        calls,
    })
}
