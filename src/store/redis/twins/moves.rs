//! Random games: limits, initial values and moves.

use std::time::Duration;

use super::{
    text::{Kept, list},
    *,
};
use crate::{
    limit::{Algorithm, Unit, Window},
    store::{Consume, Enforced},
};

/// The limit and the initial value of each counter, and the moves, each with the time in
/// microseconds since the move before.
#[derive(Clone, Debug)]
pub(super) struct Game {
    pub(super) counters: Vec<(Limit, Vec<u8>)>,
    pub(super) moves: Vec<(i64, Move)>,
}

#[derive(Clone, Debug)]
pub(super) enum Move {
    /// Calls of one run of the script that decides.
    Call(Vec<CallOf>),
    /// Settlements of one script run, which is repeated if the flag is set.
    Settle(Vec<Vec<SettleOf>>, bool),
}

#[derive(Clone, Debug)]
pub(super) struct CallOf {
    pub(super) pause: i64,
    pub(super) holder: Option<u64>,
    pub(super) charges: Vec<ChargeOf>,
}

#[derive(Clone, Debug)]
pub(super) struct ChargeOf {
    pub(super) counter: usize,
    /// The increase of the limit since the start.
    pub(super) more: u32,
    pub(super) hits: Hits,
    pub(super) consume: Consume,
    pub(super) enforced: Enforced,
    pub(super) refused: bool,
}

#[derive(Clone, Debug)]
pub(super) struct SettleOf {
    /// The number of charges after the settled one.
    pub(super) charge: usize,
    pub(super) how: How,
}

/// The kind of a settlement. `None` stands for the hits of the charge.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    Count(u64, Option<Hits>),
    Release(u64),
    Refund(Option<Hits>),
    Set(u64),
    Erase,
}

const COUNTERS: usize = 3;

pub(super) fn game() -> impl Strategy<Value = Game> {
    let counters = vec((limit(), old()), COUNTERS);
    (counters, vec((pause(), next()), 1..12)).prop_map(|(counters, moves)| Game { counters, moves })
}

/// A game with lists of about the largest possible length.
pub(super) fn game_of_lists() -> impl Strategy<Value = Game> {
    let algorithm = prop_oneof![
        Just(Algorithm::SlidingLog),
        Just(Algorithm::Concurrency { lifetime: Duration::from_secs(60) }),
    ];
    let limit = (algorithm, 990..=1_010_u32, window()).prop_map(|(algorithm, requests, window)| {
        Limit { algorithm, ..Limit::fixed(requests, window) }
    });
    let old = permits(980..1_020).prop_flat_map(|permits| {
        let text = |mark| {
            let each = permits.iter().map(|(granted, hits)| format!("{granted}{mark}{hits},"));
            each.collect::<String>().into_bytes()
        };
        let old = [text('@'), text(':')];
        prop_oneof![2 => prop::sample::select(old.to_vec()), 8 => bytes(permits)]
    });
    let counters = vec((limit, old), COUNTERS);
    (counters, vec((pause(), next()), 1..30)).prop_map(|(counters, moves)| Game { counters, moves })
}

/// Permits in order, most of which are active when the game starts.
fn permits(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(u64, u64)>> {
    let most = prop_oneof![8 => Just(2_u64), 1 => Just(100), 1 => Just(100_000)];
    let pause = prop_oneof![8 => Just(60_000_u64), 1 => Just(1 << 40), 1 => Just(1 << 50)];
    (most, pause).prop_flat_map(move |(most, pause)| {
        let each = vec((1..=pause, 1..=most), count.clone());
        (each, 0..5_000_000_u64).prop_map(|(each, ahead)| {
            let mut granted = START.as_micros() + ahead;
            let mut permits = Vec::new();
            for (pause, hits) in each {
                permits.push((granted, hits));
                granted = granted.saturating_sub(pause).max(1);
            }
            permits.reverse();
            permits.dedup_by_key(|(granted, _)| *granted);
            permits
        })
    })
}

/// The formats in which the scripts of this version and earlier ones store a list.
fn bytes(permits: Vec<(u64, u64)>) -> impl Strategy<Value = Vec<u8>> {
    let hits: u64 = permits.iter().map(|(_, hits)| hits).sum();
    let earlier = prop_oneof![Just(0_u64), 0..1_000_000_u64, Just((1 << 48) - 70_000_000)];
    let start = prop_oneof![Just(0), 65_530..65_536_u64, Just(Hits::MAX)];
    (earlier, start, any::<bool>(), 0..9_usize).prop_map(move |(earlier, start, wide, skip)| {
        let first = permits.first().map_or(0, |(granted, _)| *granted);
        let last = permits.last().map_or(0, |(granted, _)| *granted);
        let short = last - first.saturating_sub(earlier) < 1 << 48;
        let wide = wide || !short || 65_535 < hits;
        list(&permits, Kept { wide, start, earlier, skip })
    })
}

fn next() -> impl Strategy<Value = Move> {
    let call = (pause(), prop::option::of(id()), vec(charge(), 1..=6));
    let call = call.prop_map(|(pause, holder, charges)| CallOf { pause, holder, charges });
    let settle = (0..12_usize, how()).prop_map(|(charge, how)| SettleOf { charge, how });
    // A script run with one charge takes a fast path.
    let lone = (pause(), charge()).prop_map(|(pause, charge)| CallOf {
        pause,
        holder: None,
        charges: vec![charge],
    });
    prop_oneof![
        3 => vec(call, 1..3).prop_map(Move::Call),
        2 => lone.prop_map(|call| Move::Call(vec![call])),
        2 => (vec(vec(settle, 1..4), 1..4), any::<bool>())
            .prop_map(|(calls, again)| Move::Settle(calls, again)),
    ]
}

fn id() -> impl Strategy<Value = u64> {
    1..4_u64
}

fn charge() -> impl Strategy<Value = ChargeOf> {
    let consume = prop_oneof![
        Just(Consume::Independent),
        Just(Consume::AllOrNothing),
        Just(Consume::IfRefused)
    ];
    let more = prop_oneof![9 => Just(0), 1 => 1..4_u32];
    let refused = prop::bool::weighted(0.05);
    (0..COUNTERS, more, hits(), consume, enforced(), refused).prop_map(
        |(counter, more, hits, consume, enforced, refused)| ChargeOf {
            counter,
            more,
            hits,
            consume,
            enforced,
            refused,
        },
    )
}

fn enforced() -> impl Strategy<Value = Enforced> {
    prop_oneof![
        6 => Just(Enforced::Yes),
        2 => Just(Enforced::No),
        2 => (0..2_usize).prop_map(Enforced::Quota),
    ]
}

fn hits() -> impl Strategy<Value = Hits> {
    prop_oneof![
        12 => (0..5_u64).prop_map(Hits::Add),
        4 => (0..4_u64).prop_map(Hits::Refund),
        1 => (1..1_100_u64).prop_map(Hits::Add),
        1 => (1..1_100_u64).prop_map(Hits::Refund),
        1 => (65_530..65_540_u64).prop_map(Hits::Add),
        1 => (Hits::MAX - 2..=Hits::MAX + 2).prop_map(Hits::Add),
        1 => (Hits::MAX - 2..=Hits::MAX + 2).prop_map(Hits::Refund),
    ]
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        4 => (id(), prop::option::of(hits())).prop_map(|(id, hits)| How::Count(id, hits)),
        2 => id().prop_map(How::Release),
        3 => prop::option::of(hits()).prop_map(How::Refund),
        1 => prop_oneof![0..9_u64, Just(Hits::MAX)].prop_map(How::Set),
        1 => Just(How::Erase),
    ]
}

/// A time between moves: windows, permits, bans and holds begin and end within the game, and
/// clocks step back.
fn pause() -> impl Strategy<Value = i64> {
    let hold = i64::try_from(HOLD_TIMEOUT.as_micros()).unwrap();
    prop_oneof![
        4 => Just(0_i64),
        3 => 0..2_000_000_i64,
        1 => 0..70_000_000_i64,
        1 => -1..=1_i64,
        1 => hold - 1..=hold + 1,
        1 => -hold - 1..0,
        1 => -70_000_000..0_i64,
    ]
}

fn limit() -> impl Strategy<Value = Limit> {
    let penalty = prop_oneof![
        2 => Just(Duration::ZERO),
        1 => Just(Duration::from_millis(300)),
        1 => Just(Duration::from_secs(30)),
    ];
    let requests = prop_oneof![8 => 0..8_u32, 1 => Just(u32::MAX)];
    (algorithm(), requests, window(), penalty).prop_map(|(algorithm, requests, window, penalty)| {
        let penalty = if algorithm.info().window { penalty } else { Duration::ZERO };
        Limit { algorithm, penalty, ..Limit::fixed(requests, window) }
    })
}

fn window() -> impl Strategy<Value = Window> {
    prop_oneof![
        Just(Window::new(Unit::Second)),
        Just(Window::new(Unit::Minute)),
        Just(Window::new(Unit::Year)),
        Just(Window::times(Unit::Year, 20.try_into().unwrap()).unwrap()),
    ]
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    let burst = prop_oneof![8 => 1..9_u32, 1 => Just(u32::MAX)];
    prop_oneof![
        any::<bool>().prop_map(|count_denied| Algorithm::FixedWindow { count_denied }),
        Just(Algorithm::SlidingWindow),
        Just(Algorithm::SlidingLog),
        burst.clone().prop_map(|burst| Algorithm::TokenBucket { burst }),
        burst.prop_map(|burst| Algorithm::LeakyBucket { burst }),
        Just(Algorithm::Concurrency { lifetime: Duration::from_secs(2) }),
    ]
}

/// Initial values: those of any version, and of other clients.
fn old() -> impl Strategy<Value = Vec<u8>> {
    let lists = permits(1..6).prop_flat_map(bytes);
    let cut = (permits(1..6).prop_flat_map(bytes), any::<prop::sample::Index>());
    let state = prop_oneof![6 => state().prop_map(String::into_bytes), 4 => lists];
    prop_oneof![
        4 => Just(Vec::new()),
        4 => (state, rest()).prop_map(|(state, rest)| [state, rest.into_bytes()].concat()),
        1 => cut.prop_map(|(it, at)| it[..at.index(it.len())].to_vec()),
    ]
}

fn state() -> impl Strategy<Value = String> {
    let list = (old_number(), prop_oneof!["@", ":"], old_number());
    let list = list.prop_map(|(moment, mark, hits)| format!("{moment}{mark}{hits},"));
    prop_oneof![
        Just(String::new()),
        old_number(),
        vec(old_number(), 2).prop_map(|numbers| numbers.join(":")),
        vec(old_number(), 3).prop_map(|numbers| numbers.join(":")),
        vec(list, 1..5).prop_map(|lists| lists.concat()),
        "[-+0-9:@, a#]{1,6}",
    ]
}

fn rest() -> impl Strategy<Value = String> {
    let hold = vec(old_number(), 3).prop_map(|numbers| format!("&{}", numbers.join(":")));
    let ban = prop_oneof![
        2 => Just(String::new()),
        1 => old_number().prop_map(|number| format!("!{number}")),
    ];
    prop_oneof![
        1 => Just(String::new()),
        3 => (ban, vec(hold, 0..4)).prop_map(|(ban, holds)| ban + &holds.concat()),
        1 => "[!&][!&0-9:]{0,6}",
        1 => prop_oneof![Just("5&1:2:3"), Just("!"), Just("&"), Just("!5&"), Just("&1:2"), Just("&0:2:3")]
            .prop_map(Into::into),
    ]
}

fn old_number() -> impl Strategy<Value = String> {
    let moment = |it: i64| START.as_micros().saturating_add_signed(it);
    prop_oneof![
        5 => (0..9_u64).prop_map(|number| number.to_string()),
        2 => (-70..70_i64).prop_map(move |seconds| moment(1_000_000 * seconds).to_string()),
        2 => (-70_000_000..70_000_000_i64).prop_map(move |micros| moment(micros).to_string()),
        1 => (Hits::MAX - 2..=Hits::MAX + 2).prop_map(|number| number.to_string()),
        1 => Just("99999999999999999999".to_owned()),
    ]
}
