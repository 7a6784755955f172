//! Random rules.

use std::fmt::{self, Display, Formatter};

use proptest::{collection::vec, prelude::*, sample::select};
use tollgate::limit::Unit;

/// The dependence of a request on its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No limit sets `consume`.
    Independent,
    /// Most limits are `all_or_nothing`.
    AllOrNothing,
    /// With `STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT`.
    Stop,
}

/// An element of `rate_limits`.
#[derive(Clone, Debug)]
pub(crate) struct LimitText {
    algorithm: &'static str,
    pub(crate) requests: u32,
    /// `unit: minute` or similar; empty for `concurrency`.
    window: String,
    seconds: u64,
    more: String,
    all_or_nothing: bool,
}

/// An element of `descriptors`.
#[derive(Clone, Debug)]
pub(crate) struct RuleText {
    pub(crate) limits: Vec<LimitText>,
    flags: &'static str,
    /// The rule has `share_threshold`.
    shared: bool,
    /// The number of the rule that this one replaces.
    replaces: Option<usize>,
}

/// A rule file with the keys `k0`, `k1` and so on.
#[derive(Clone)]
pub(crate) struct RulesText(pub(crate) Vec<RuleText>);

impl Display for RulesText {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "domain: game\ndescriptors:")?;
        for (number, rule) in self.0.iter().enumerate() {
            let RuleText { limits, flags, shared, replaces } = rule;
            writeln!(f, "- key: k{number}")?;
            if *shared {
                writeln!(f, "  value: '*'\n  share_threshold: true")?;
            }
            write!(f, "{flags}")?;
            writeln!(f, "  rate_limits:")?;
            for (place, limit) in limits.iter().enumerate() {
                let LimitText { algorithm, requests, window, more, all_or_nothing, .. } = limit;
                let consume = if *all_or_nothing { ", consume: all_or_nothing" } else { "" };
                // A rule cannot replace itself, and only one `replaces` is valid.
                let replaces = match replaces.filter(|it| *it != number && *it < self.0.len()) {
                    Some(other) if place == 0 => format!(", replaces: [{{name: n{other}}}]"),
                    _ => String::new(),
                };
                writeln!(
                    f,
                    "  - {{name: n{number}, algorithm: {algorithm}, requests_per_unit: \
                     {requests}{window}{more}{consume}{replaces}}}"
                )?;
            }
        }
        Ok(())
    }
}

impl RuleText {
    /// Whether refused requests leave its limits unchanged.
    pub(crate) fn is_spared(&self) -> bool {
        self.limits.iter().all(|it| it.all_or_nothing && !it.more.contains("penalty"))
    }
}

impl fmt::Debug for RulesText {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}

fn requests() -> impl Strategy<Value = u32> {
    prop_oneof![
        1 => Just(0),
        12 => 1..8_u32,
        3 => 1..1_000_u32,
        1 => Just(1_000_000_u32),
        1 => Just(u32::MAX),
    ]
}

/// A window and its length. Half of them are seconds, which may have a server of their
/// own.
fn window() -> impl Strategy<Value = (String, u64)> {
    let units = prop_oneof![
        6 => Just(Unit::Second),
        4 => select(&Unit::ALL[1..]),
    ];
    let short = select(&[Unit::Second, Unit::Minute, Unit::Hour][..]);
    prop_oneof![
        10 => units.prop_map(|it| (format!(", unit: {}", it.name()), it.seconds())),
        1 => (short, 2..5_u64).prop_map(|(unit, times)| {
            let text = format!(", unit: {}, unit_multiplier: {times}", unit.name());
            (text, unit.seconds() * times)
        }),
        2 => (1..100_u64).prop_map(|it| (format!(", period: {it}s"), it)),
    ]
}

/// The options of a limit besides its window.
fn more(algorithm: &'static str) -> BoxedStrategy<String> {
    let none = Just(String::new());
    match algorithm {
        "fixed_window" => prop_oneof![
            6 => none,
            6 => Just(", count_denied: false".to_owned()),
            1 => Just(", phase: spread".to_owned()),
        ]
        .boxed(),
        "sliding_window" => prop_oneof![6 => none, 1 => Just(", phase: spread".to_owned())].boxed(),
        "token_bucket" | "leaky_bucket" => {
            let burst = prop_oneof![8 => 1..8_u32, 1 => 1..1_000_u32, 1 => Just(u32::MAX)];
            prop_oneof![2 => none, 3 => burst.prop_map(|it| format!(", burst: {it}"))].boxed()
        }
        _ => none.boxed(),
    }
}

fn penalty() -> impl Strategy<Value = String> {
    prop_oneof![
        7 => Just(String::new()),
        1 => (1..3_000_u32).prop_map(|it| format!(", penalty: {it}ms")),
        1 => (1..600_u32).prop_map(|it| format!(", penalty: {it}s")),
    ]
}

/// The units that a calendar supports.
const MAY: [&str; 3] = [", unit: day", ", unit: week", ", unit: month"];

fn limit(kind: Kind) -> impl Strategy<Value = LimitText> {
    let algorithms = prop_oneof![
        4 => Just("fixed_window"),
        2 => Just("sliding_window"),
        2 => Just("sliding_log"),
        2 => Just("token_bucket"),
        1 => Just("leaky_bucket"),
        2 => Just("concurrency"),
    ];
    let all_or_nothing = prop::bool::weighted(match kind {
        Kind::Independent => 0.0,
        Kind::AllOrNothing => 0.7,
        Kind::Stop => 0.1,
    });
    let parts = move |algorithm: &'static str| {
        (Just(algorithm), requests(), window(), more(algorithm), penalty(), 1..100_u32)
    };
    (algorithms.prop_flat_map(parts), all_or_nothing).prop_map(
        |((algorithm, requests, (window, seconds), more, penalty, lease), all_or_nothing)| {
            let requests = match algorithm {
                "sliding_log" | "concurrency" => requests.min(1_000),
                "fixed_window" => requests,
                _ => requests.max(1),
            };
            let (window, seconds, more) = match algorithm {
                "concurrency" => (String::new(), 0, format!(", lease: {lease}s")),
                // Days, weeks and months may be calendar windows.
                "fixed_window" if lease % 3 == 0 && more.is_empty() && MAY.contains(&&*window) => {
                    let place = ", calendar: {time_zone: Europe/Berlin}".to_owned();
                    (window, seconds, place + &penalty)
                }
                _ => (window, seconds, more + &penalty),
            };
            LimitText { algorithm, requests, window, seconds, more, all_or_nothing }
        },
    )
}

fn rule(kind: Kind) -> impl Strategy<Value = RuleText> {
    let flags = prop_oneof![
        10 => Just(""),
        1 => Just("  shadow_mode: true\n"),
        2 => Just("  quota_mode: true\n"),
    ];
    let replaces = prop_oneof![12 => Just(None), 1 => (0..4_usize).prop_map(Some)];
    let limits = prop_oneof![3 => vec(limit(kind), 1), 2 => vec(limit(kind), 2..4)];
    (limits, flags, prop::bool::weighted(0.1), replaces).prop_map(
        |(all, flags, shared, replaces)| {
            let mut limits: Vec<LimitText> = Vec::new();
            for it in all {
                // Such limits would share a counter.
                let like = |other: &LimitText| {
                    (other.algorithm, other.seconds) == (it.algorithm, it.seconds)
                };
                if !limits.iter().any(like) {
                    limits.push(it);
                }
            }
            RuleText { limits, flags, shared, replaces }
        },
    )
}

pub(crate) fn rules(kind: Kind) -> impl Strategy<Value = RulesText> {
    vec(rule(kind), 1..5).prop_map(RulesText)
}
