//! Random rules.

use std::{
    collections::HashSet,
    fmt::{self, Display, Formatter},
};

use proptest::{collection::vec, prelude::*, sample::select};
use tollgate::limit::Unit;

/// The dependence of a request on its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConsumeMode {
    /// No limit sets `consume`.
    Independent,
    /// Most limits are `all_or_nothing`.
    AllOrNothing,
    /// With `STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT`.
    StopCounting,
}

/// An element of `rate_limits`.
#[derive(Clone, Debug)]
pub(crate) struct LimitText {
    algorithm: &'static str,
    pub(crate) requests: u32,
    /// `unit: minute` or similar; empty for `concurrency`.
    window: String,
    seconds: u64,
    /// The options besides the window.
    options: String,
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
        writeln!(f, "domain: shop\ndescriptors:")?;
        for (number, rule) in self.0.iter().enumerate() {
            let RuleText { limits, flags, shared, replaces } = rule;
            writeln!(f, "- key: k{number}")?;
            if *shared {
                writeln!(f, "  value: '*'\n  share_threshold: true")?;
            }
            write!(f, "{flags}")?;
            writeln!(f, "  rate_limits:")?;
            for (index, limit) in limits.iter().enumerate() {
                let LimitText { algorithm, requests, window, options, all_or_nothing, .. } = limit;
                let consume = if *all_or_nothing { ", consume: all_or_nothing" } else { "" };
                // A rule cannot replace itself, and only one `replaces` is valid.
                let replaces = match *replaces {
                    Some(other) if index == 0 && other != number && other < self.0.len() => {
                        format!(", replaces: [{{name: n{other}}}]")
                    }
                    _ => String::new(),
                };
                writeln!(
                    f,
                    "  - {{name: n{number}, algorithm: {algorithm}, requests_per_unit: \
                     {requests}{window}{options}{consume}{replaces}}}"
                )?;
            }
        }
        Ok(())
    }
}

impl RuleText {
    /// Whether refused requests leave its limits unchanged.
    pub(crate) fn is_unchanged_by_refused_requests(&self) -> bool {
        for limit in &self.limits {
            if !limit.all_or_nothing || limit.options.contains("penalty") {
                return false;
            }
        }
        true
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

#[derive(Clone, Debug)]
struct WindowText {
    text: String,
    seconds: u64,
}

fn unit_window(unit: Unit) -> WindowText {
    WindowText { text: format!(", unit: {}", unit.name()), seconds: unit.seconds() }
}

fn long_window((unit, multiplier): (Unit, u64)) -> WindowText {
    let text = format!(", unit: {}, unit_multiplier: {multiplier}", unit.name());
    WindowText { text, seconds: unit.seconds() * multiplier }
}

fn period(seconds: u64) -> WindowText {
    WindowText { text: format!(", period: {seconds}s"), seconds }
}

/// Half of the windows are seconds, which may have a server of their own.
fn window() -> impl Strategy<Value = WindowText> {
    let units = prop_oneof![
        6 => Just(Unit::Second),
        4 => select(&Unit::ALL[1..]),
    ];
    let short = select(&[Unit::Second, Unit::Minute, Unit::Hour][..]);
    prop_oneof![
        10 => units.prop_map(unit_window),
        1 => (short, 2..5_u64).prop_map(long_window),
        2 => (1..100_u64).prop_map(period),
    ]
}

/// The options of a limit besides its window.
fn options(algorithm: &'static str) -> BoxedStrategy<String> {
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
            prop_oneof![2 => none, 3 => burst.prop_map(|burst| format!(", burst: {burst}"))].boxed()
        }
        _ => none.boxed(),
    }
}

fn penalty() -> impl Strategy<Value = String> {
    prop_oneof![
        7 => Just(String::new()),
        1 => (1..3_000_u32).prop_map(|millis| format!(", penalty: {millis}ms")),
        1 => (1..600_u32).prop_map(|seconds| format!(", penalty: {seconds}s")),
    ]
}

/// The windows that may be calendar windows.
const CALENDAR_WINDOWS: [&str; 3] = [", unit: day", ", unit: week", ", unit: month"];

fn limit(consume: ConsumeMode) -> impl Strategy<Value = LimitText> {
    let algorithms = prop_oneof![
        4 => Just("fixed_window"),
        2 => Just("sliding_window"),
        2 => Just("sliding_log"),
        2 => Just("token_bucket"),
        1 => Just("leaky_bucket"),
        2 => Just("concurrency"),
    ];
    let all_or_nothing = prop::bool::weighted(match consume {
        ConsumeMode::Independent => 0.0,
        ConsumeMode::AllOrNothing => 0.7,
        ConsumeMode::StopCounting => 0.1,
    });
    let limits = algorithms.prop_flat_map(|algorithm| {
        (Just(algorithm), requests(), window(), options(algorithm), penalty(), 1..100_u32)
            .prop_map(limit_text)
    });
    (limits, all_or_nothing)
        .prop_map(|(limit, all_or_nothing)| LimitText { all_or_nothing, ..limit })
}

fn limit_text(
    (algorithm, requests, window, options, penalty, lease): (
        &'static str,
        u32,
        WindowText,
        String,
        String,
        u32,
    ),
) -> LimitText {
    let requests = match algorithm {
        "sliding_log" | "concurrency" => requests.min(1_000),
        "fixed_window" => requests,
        _ => requests.max(1),
    };
    let mut limit = LimitText {
        algorithm,
        requests,
        window: window.text,
        seconds: window.seconds,
        options: options + &penalty,
        all_or_nothing: false,
    };
    if algorithm == "concurrency" {
        (limit.window, limit.seconds) = (String::new(), 0);
        limit.options = format!(", lease: {lease}s");
    } else if algorithm == "fixed_window"
        && lease % 3 == 0
        && limit.options == penalty
        && CALENDAR_WINDOWS.contains(&&*limit.window)
    {
        limit.options = format!(", calendar: {{time_zone: Europe/Berlin}}{penalty}");
    }
    limit
}

fn rule(consume: ConsumeMode) -> impl Strategy<Value = RuleText> {
    let flags = prop_oneof![
        10 => Just(""),
        1 => Just("  shadow_mode: true\n"),
        2 => Just("  quota_mode: true\n"),
    ];
    let replaces = prop_oneof![12 => Just(None), 1 => (0..4_usize).prop_map(Some)];
    let limits = prop_oneof![3 => vec(limit(consume), 1), 2 => vec(limit(consume), 2..4)];
    (limits, flags, prop::bool::weighted(0.1), replaces).prop_map(
        |(limits, flags, shared, replaces)| {
            let limits = with_counters_of_their_own(limits);
            RuleText { limits, flags, shared, replaces }
        },
    )
}

/// Drops limits that would share the counter of an earlier one.
fn with_counters_of_their_own(all: Vec<LimitText>) -> Vec<LimitText> {
    let mut seen = HashSet::new();
    let mut limits = Vec::new();
    for limit in all {
        if seen.insert((limit.algorithm, limit.seconds)) {
            limits.push(limit);
        }
    }
    limits
}

pub(crate) fn rules(consume: ConsumeMode) -> impl Strategy<Value = RulesText> {
    vec(rule(consume), 1..5).prop_map(RulesText)
}
