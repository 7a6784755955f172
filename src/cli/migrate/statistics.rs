//! What differs with the same settings of statistics.

use super::{
    Case,
    finding::{Finding, Grade},
    reference,
};
use crate::settings::hints;

/// The checks, one for each kind of difference.
pub(super) const CHECKS: &[fn(&Case<'_>) -> Option<Finding>] =
    &[two_sinks, no_sink, disabled, mapping, counted_twice, tags];

fn no_sink(case: &Case<'_>) -> Option<Finding> {
    const NAME: &str = "USE_STATSD";
    let others = ["DISABLE_STATS", "USE_DOG_STATSD", "USE_PROMETHEUS"];
    let is_off = case.env.has(NAME) && !case.env.is_true(NAME);
    (is_off && !others.iter().any(|it| case.env.is_true(it))).then(|| {
        Finding::new(Grade::Same, "statistics are not written to the log")
            .of(case.env, NAME)
            .there("writes them to stderr as JSON, as there is no other place for them")
            .here("writes none; /metrics on the HTTP port has them for Prometheus")
    })
}

fn disabled(case: &Case<'_>) -> Option<Finding> {
    const NAME: &str = "DISABLE_STATS";
    case.env.is_true(NAME).then(|| {
        Finding::new(Grade::Same, "statistics can be asked for all the same")
            .of(case.env, NAME)
            .there("has none")
            .here("sends none; /metrics on the HTTP port and /stats on the debug port stay")
    })
}

fn two_sinks(case: &Case<'_>) -> Option<Finding> {
    let on = |name: &str| case.env.is_true(name);
    let statsd = on("USE_STATSD") || case.env.get("USE_STATSD").is_none();
    let sinks = [statsd, on("USE_DOG_STATSD"), on("USE_PROMETHEUS")];
    let several = 1 < sinks.iter().filter(|it| **it).count();
    (several && !on("DISABLE_STATS")).then(|| {
        Finding::new(Grade::Note, "statistics go to several places")
            .of(case.env, "USE_STATSD")
            .there("does not start with this: USE_STATSD is true unless it is set")
            .here("serves them all")
            .unless(case.env, &["USE_STATSD", "DISABLE_STATS"])
    })
}

fn mapping(case: &Case<'_>) -> Option<Finding> {
    const NAME: &str = "PROMETHEUS_MAPPER_YAML";
    (case.env.has(NAME) && hints::ignored(NAME).is_some()).then(|| {
        Finding::new(Grade::Note, format!("{NAME} is not read"))
            .of(case.env, NAME)
            .there("names and labels of statistics for Prometheus are those of this file")
            .here("they are those that the reference has without such a file")
            .remedy("if the file is your own, adapt what reads the statistics")
    })
}

fn counted_twice(case: &Case<'_>) -> Option<Finding> {
    let cache = case.env.text("LOCAL_CACHE_SIZE_IN_BYTES").and_then(reference::int);
    (case.env.is_true("USE_PROMETHEUS") && cache.is_some_and(|it| it != 0)).then(|| {
        let title = "over_limit of rules with several keys counts less for Prometheus";
        Finding::new(Grade::Differs, title)
            .of(case.env, "LOCAL_CACHE_SIZE_IN_BYTES")
            .there("adds what the local cache refuses a second time")
            .here("counts every hit once")
            .remedy("expect smaller numbers on dashboards, and look at thresholds of alerts")
    })
}

fn tags(case: &Case<'_>) -> Option<Finding> {
    const NAME: &str = "EXTRA_TAGS";
    (case.env.has(NAME) && case.env.is_true("USE_PROMETHEUS")).then(|| {
        Finding::new(Grade::Differs, "EXTRA_TAGS are labels for Prometheus")
            .of(case.env, NAME)
            .there("leaves them in the names of statistics, which have no labels then")
            .here("makes labels of them, beside those that a statistic has anyway")
            .remedy("adapt what reads the statistics")
    })
}
