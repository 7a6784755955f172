//! Random calls to random counters, with a clock that moves at random.

use proptest::{collection::vec, prelude::*};
use tollgate::limit::{Outcome, bucket::Scale, permits, step, window::Phase};

use super::*;

/// Some counters and a sequence of calls.
#[derive(Clone, Debug)]
pub(crate) struct RandomCalls {
    pub(crate) start: Timestamp,
    /// The limits of each counter: a rule changes from time to time.
    pub(crate) counters: Vec<Vec<Limit>>,
    pub(crate) calls: Vec<RandomCall>,
}

#[derive(Clone, Debug)]
pub(crate) struct RandomCall {
    pub(crate) clock_move: ClockMove,
    pub(crate) charges: Vec<RandomCharge>,
}

/// The movement of the clock before a call.
#[derive(Clone, Debug)]
pub(crate) enum ClockMove {
    Forward(Duration),
    /// Back from the latest time so far, by less than the expiry slack.
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
pub(crate) struct RandomCharge {
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

/// The time and the outcomes of the calls so far.
pub(crate) struct Progress {
    pub(crate) now: Timestamp,
    pub(crate) latest: Timestamp,
    pub(crate) last_outcomes: Vec<Outcome>,
}

impl Progress {
    pub(crate) fn new(start: Timestamp) -> Self {
        Self { now: start, latest: start, last_outcomes: Vec::new() }
    }

    pub(crate) fn move_clock(&mut self, clock_move: &ClockMove, counters: &[Vec<Limit>]) {
        self.now = self.after(clock_move, counters);
        self.latest = self.latest.max(self.now);
    }

    fn after(&self, clock_move: &ClockMove, counters: &[Vec<Limit>]) -> Timestamp {
        let (now, latest) = (self.now.as_micros(), self.latest.as_micros());
        Timestamp::from_micros(match *clock_move {
            ClockMove::Forward(by) => return self.latest.plus(by),
            ClockMove::Back(by) => latest - micros(by),
            ClockMove::Windows(counter, thousandths) => {
                let limit = &counters[counter % counters.len()][0];
                return self.latest.plus(permits::lifetime(limit) / 1_000 * thousandths);
            }
            ClockMove::Retry(before) => self.end_of(self.longest_retry()) - before,
            ClockMove::Reset(before) => self.end_of(self.longest_reset()) - before,
            ClockMove::Glitch(by) if by < 0 => now - by.unsigned_abs() * 1_000_000,
            ClockMove::Glitch(by) => now + by.unsigned_abs() * 1_000_000,
        })
    }

    fn end_of(&self, wait: Duration) -> u64 {
        self.latest.max(self.now.plus(wait)).as_micros()
    }

    fn longest_retry(&self) -> Duration {
        let mut longest = Duration::ZERO;
        for outcome in &self.last_outcomes {
            let wait = outcome.retry_after.unwrap_or_default();
            if wait < FAR_FUTURE {
                longest = longest.max(wait);
            }
        }
        longest
    }

    fn longest_reset(&self) -> Duration {
        let mut longest = Duration::ZERO;
        for outcome in &self.last_outcomes {
            if outcome.reset_after < FAR_FUTURE {
                longest = longest.max(outcome.reset_after);
            }
        }
        longest
    }
}

/// The clock does not move to times later than this.
const FAR_FUTURE: Duration = Duration::from_secs(10 * 365 * 86_400);

impl RandomCalls {
    pub(crate) fn charges(&self, charges: &[RandomCharge], now: Timestamp) -> Vec<Charge> {
        let mut made = Vec::new();
        for charge in charges {
            made.push(self.charge(charge, now));
        }
        made
    }

    fn charge(&self, charge: &RandomCharge, now: Timestamp) -> Charge {
        let counter = charge.counter % self.counters.len();
        let limits = &self.counters[counter];
        let limit = limits[charge.limit % limits.len()].clone();
        let hits = match charge.amount {
            Amount::Hits(hits) => hits,
            Amount::Capacity(more) => Hits::Add(u64::from(limit.capacity()) + u64::from(more)),
        };
        let name = counter.to_string();
        let part = KeyPart { key: b"name", value: name.as_bytes(), shared: false };
        let counter = KeyFormat::default().counter(b"shop", [part].into_iter(), &limit, now);
        let RandomCharge { consume, enforced, refused, .. } = *charge;
        Charge { counter, limit, hits, consume, enforced, refused, on_timeout: OnTimeout::Fail }
    }

    /// Whether an expired state has no effect on any later limit: no bucket drains slower
    /// than before.
    pub(crate) fn may_expire(&self) -> bool {
        for call in &self.calls {
            if matches!(call.clock_move, ClockMove::Glitch(_)) {
                return false;
            }
        }
        for limits in &self.counters {
            for limit in limits {
                if lifetime(limit) != lifetime(&limits[0]) {
                    return false;
                }
            }
        }
        true
    }
}

/// The properties of a limit that determine how long a state has an effect.
#[derive(PartialEq)]
struct Lifetime {
    /// A longer penalty or lifetime could make an old state effective again.
    penalty: Duration,
    permit: Duration,
    bucket: Option<BucketLifetime>,
}

#[derive(PartialEq)]
struct BucketLifetime {
    capacity: u32,
    tick: u64,
    cost: u64,
    drain: u64,
}

fn lifetime(limit: &Limit) -> Lifetime {
    let mut lifetime =
        Lifetime { penalty: limit.penalty, permit: permits::lifetime(limit), bucket: None };
    if let Algorithm::TokenBucket { .. } | Algorithm::LeakyBucket { .. } = limit.algorithm {
        let Scale { tick, cost, drain, .. } = Scale::new(limit);
        lifetime.bucket = Some(BucketLifetime { capacity: limit.capacity(), tick, cost, drain });
    }
    lifetime
}

/// The longest expiry that Redis may set for `charge`.
pub(crate) fn max_expiry(charge: &Charge) -> Duration {
    // After a step back over an edge, the counter has its earlier window again.
    let behind = Duration::from_secs(1);
    let longest = step::max_ttl(&charge.limit, charge.counter.span);
    longest + behind + EXPIRY_SLACK + Duration::from_millis(1)
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
    (prop_oneof![Just(Unit::Second), Just(Unit::Minute), units], 1..4_u32, phase)
        .prop_map(window_of)
}

fn window_of((unit, multiplier, phase): (Unit, u32, Phase)) -> Window {
    let multiplier = multiplier.try_into().expect("it is not 0");
    let mut window = Window::times(unit, multiplier).expect("it is short");
    window.phase = phase;
    window
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

/// The numbers of a random limit.
type LimitParts = (u32, u32, u64, bool, Duration);

/// Limits that share a counter: only the algorithm and the window are equal.
fn counter() -> impl Strategy<Value = Vec<Limit>> {
    let limit = (requests(), requests(), 1..100_u64, any::<bool>(), penalty());
    let limits = (vec(limit, 1..4), prop::bool::weighted(0.3)).prop_map(|(mut limits, several)| {
        limits.truncate(if several { limits.len() } else { 1 });
        limits
    });
    (0..6_u8, window(), any::<bool>(), limits).prop_map(limits_of_counter)
}

fn limits_of_counter(
    (kind, window, steady, all_parts): (u8, Window, bool, Vec<LimitParts>),
) -> Vec<Limit> {
    let rate = all_parts[0].0;
    let mut limits = Vec::new();
    for (requests, burst, lifetime, count_denied, penalty) in all_parts {
        let algorithm = match kind {
            0 => Algorithm::FixedWindow { count_denied },
            1 => Algorithm::SlidingWindow,
            2 => Algorithm::SlidingLog,
            3 => Algorithm::TokenBucket { burst },
            4 => Algorithm::LeakyBucket { burst },
            _ => Algorithm::Concurrency { lifetime: Duration::from_secs(lifetime) },
        };
        let requests = match kind {
            2 | 5 => requests.min(permits::MAX_REQUESTS),
            3 | 4 if steady => rate,
            _ => requests,
        };
        limits.push(Limit {
            requests,
            window: window.clone(),
            algorithm,
            penalty,
            max_prefetch: 0,
        });
    }
    limits
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

fn charge() -> impl Strategy<Value = RandomCharge> {
    let amount = prop_oneof![
        6 => hits().prop_map(Amount::Hits),
        1 => (0..2_u32).prop_map(Amount::Capacity),
    ];
    let flags = (consume(), enforced(), prop::bool::weighted(0.05));
    (0..4_usize, 0..6_usize, amount, flags).prop_map(
        |(counter, limit, amount, (consume, enforced, refused))| {
            // Mostly the first limit, so that limits change rarely.
            let limit = limit.saturating_sub(3);
            RandomCharge { counter, limit, amount, consume, enforced, refused }
        },
    )
}

fn forward(micros: u64) -> ClockMove {
    ClockMove::Forward(Duration::from_micros(micros))
}

fn back(micros: u64) -> ClockMove {
    ClockMove::Back(Duration::from_micros(micros))
}

fn windows((counter, thousandths): (usize, u32)) -> ClockMove {
    ClockMove::Windows(counter, thousandths)
}

fn clock_move(glitches: u32) -> impl Strategy<Value = ClockMove> {
    prop_oneof![
        3 => Just(ClockMove::Forward(Duration::ZERO)),
        3 => (0..1_000_u64).prop_map(forward),
        3 => (0..3_000_000_u64).prop_map(forward),
        3 => (0..=1_000_000_u64).prop_map(back),
        6 => (0..4_usize, 0..=2_000_u32).prop_map(windows),
        3 => (0..2_u64).prop_map(ClockMove::Retry),
        2 => (0..2_u64).prop_map(ClockMove::Reset),
        glitches => (-100..=100_i64).prop_map(ClockMove::Glitch),
    ]
}

/// `glitches` is the weight of clock moves by several seconds.
pub(crate) fn random_calls(glitches: u32) -> impl Strategy<Value = RandomCalls> {
    let call = (clock_move(glitches), vec(charge(), 1..=8))
        .prop_map(|(clock_move, charges)| RandomCall { clock_move, charges });
    let start = 1_000_000_000..2_000_000_000_000_000_u64;
    (start, vec(counter(), 1..5), vec(call, 1..25)).prop_map(|(start, counters, calls)| {
        let start = Timestamp::from_micros(1_000_000_000_000 + start);
        RandomCalls { start, counters, calls }
    })
}
