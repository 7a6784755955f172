//! Settings of statistics that depend on each other, and the variables of mogrifiers.

use super::{Pairs, read};
use crate::{
    settings::StatisticsSettings,
    statsd::{SinkSettings, StatsdProtocol, TagDialect},
};

/// The value read for one setting.
pub(super) fn show(settings: &StatisticsSettings, name: &str) -> String {
    let StatisticsSettings { tags, flush_interval, sinks, prometheus, .. } = settings;
    match name {
        "EXTRA_TAGS" => format!("{:?}", tags.clean().collect::<Vec<_>>()),
        "STATS_FLUSH_INTERVAL" => format!("{flush_interval:?}"),
        "PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS" => {
            settings.response_times_in_milliseconds.to_string()
        }
        "USE_PROMETHEUS" | "PROMETHEUS_ADDR" | "PROMETHEUS_PATH" => {
            format!("{:?}", prometheus.as_ref().map(|it| format!("{}{}", it.address, it.path)))
        }
        _ => format!("[{}]", sinks.iter().map(sink).collect::<Vec<_>>().join(", ")),
    }
}

fn sink(sink: &SinkSettings) -> String {
    let kind = match (&sink.dialect, sink.protocol) {
        (TagDialect::DogStatsd(_), StatsdProtocol::Udp) => "dog",
        (TagDialect::Statsd, StatsdProtocol::Udp) => "udp",
        (TagDialect::Statsd, StatsdProtocol::Tcp) => "tcp",
        (TagDialect::DogStatsd(_), StatsdProtocol::Tcp) => unreachable!(),
    };
    format!("{kind} {}", sink.server)
}

fn sinks(env: Pairs<'_>) -> String {
    show(&read(&[], env).unwrap().statistics, "USE_STATSD")
}

#[test]
fn statsd_is_used_if_its_server_or_protocol_is_set() {
    for (env, expected) in [
        (&[("STATSD_HOST", "a"), ("STATSD_PORT", "1")][..], "[tcp a:1]"),
        (&[("USE_STATSD", "false"), ("STATSD_HOST", "a")], "[]"),
        // The host may be the one of DogStatsD.
        (&[("USE_DOG_STATSD", "true"), ("STATSD_HOST", "a")], "[dog a:8125]"),
        (
            &[("USE_DOG_STATSD", "true"), ("USE_STATSD", "true"), ("STATSD_PROTOCOL", "udp")],
            "[udp localhost:8125, dog localhost:8125]",
        ),
        (&[("USE_PROMETHEUS", "true"), ("USE_STATSD", "true")], "[tcp localhost:8125]"),
    ] {
        assert_eq!(sinks(env), expected, "{env:?}");
    }
    let flag = read(&[("STATSD_HOST", "")], &[("STATSD_HOST", "a")]).unwrap();
    assert_eq!(show(&flag.statistics, "USE_STATSD"), "[]", "an empty flag hides the variable");
}

#[test]
fn disable_stats_turns_off_every_sink() {
    let env = [
        ("DISABLE_STATS", "true"),
        ("USE_STATSD", "true"),
        ("USE_DOG_STATSD", "true"),
        ("USE_PROMETHEUS", "true"),
    ];
    let statistics = read(&[], &env).unwrap().statistics;
    assert!(statistics.sinks.is_empty() && statistics.prometheus.is_none(), "{statistics:?}");
}

const LISTED: &[(&str, &str)] = &[
    ("USE_DOG_STATSD", "true"),
    ("USE_DOG_STATSD_MOGRIFIERS", "first, Second"),
    ("DOG_STATSD_MOGRIFIER_FIRST_PATTERN", r"^a\.(.*)$"),
    ("DOG_STATSD_MOGRIFIER_FIRST_NAME", "b.$1"),
    ("DOG_STATSD_MOGRIFIER_FIRST_TAGS", "c:$1,d:e"),
    ("DOG_STATSD_MOGRIFIER_SECOND_PATTERN", "x"),
    ("DOG_STATSD_MOGRIFIER_SECOND_NAME", "y"),
];

#[test]
fn mogrifiers_are_read_in_the_order_of_the_list() {
    let mut statistics = read(&[], LISTED).unwrap().statistics;
    assert_eq!(statistics.mogrifier_names, ["FIRST", "SECOND"]);
    let Some(TagDialect::DogStatsd(mogrifiers)) = statistics.sinks.pop().map(|it| it.dialect)
    else {
        unreachable!()
    };
    let shown = mogrifiers.iter().map(|it| (it.pattern.as_str(), it.name.as_str(), &it.tags[..]));
    let tags = [("c".to_owned(), "$1".to_owned()), ("d".into(), "e".into())];
    let expected = [(r"^a\.(.*)$", "b.$1", &tags[..]), ("x", "y", &[])];
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}

#[test]
fn every_error_in_a_mogrifier_is_reported_even_if_dogstatsd_is_off() {
    let env = [
        ("USE_DOG_STATSD_MOGRIFIERS", "a,b"),
        ("DOG_STATSD_MOGRIFIER_A_PATTERN", "(x"),
        ("DOG_STATSD_MOGRIFIER_A_NAME", ""),
        ("DOG_STATSD_MOGRIFIER_A_TAGS", "a:"),
        ("DOG_STATSD_MOGRIFIER_B_NAME", "y"),
        ("DOG_STATSD_MOGRIFIER_B_TAGS", "a"),
        // C is not listed, and the last two lack the prefix.
        ("DOG_STATSD_MOGRIFIER_C_PATTERN", "(x"),
        ("PATTERN", "x"),
        ("NAME", "host"),
    ];
    assert_eq!(
        read(&[], &env).unwrap_err().to_string(),
        r#"these settings cannot be used:
  DOG_STATSD_MOGRIFIER_A_PATTERN="(x": expected a regular expression (unclosed group)
  DOG_STATSD_MOGRIFIER_A_TAGS="a:": expected key:value,key:value, without empty values
  DOG_STATSD_MOGRIFIER_A_NAME: expected it to be set, as USE_DOG_STATSD_MOGRIFIERS lists A
  DOG_STATSD_MOGRIFIER_B_TAGS="a": expected key:value,key:value
  DOG_STATSD_MOGRIFIER_B_PATTERN: expected it to be set, as USE_DOG_STATSD_MOGRIFIERS lists B"#
    );
}
