//! Differences in statistics.

use super::{
    environment::Environment,
    finding::{Finding, Grade},
    reference,
};
use crate::settings::hints;

/// One check for each kind of difference.
pub(super) const CHECKS: &[fn(&Environment) -> Option<Finding>] =
    &[several_sinks, no_sink, disabled, mapping, counted_twice, tags];

fn no_sink(env: &Environment) -> Option<Finding> {
    const NAME: &str = "USE_STATSD";
    let has_statsd = !env.is_set(NAME) || env.is_true(NAME);
    if has_statsd
        || env.is_true("DISABLE_STATS")
        || env.is_true("USE_DOG_STATSD")
        || env.is_true("USE_PROMETHEUS")
    {
        return None;
    }
    let finding = Finding::new(Grade::Same, "statistics are not written to the log")
        .about(env, NAME)
        .reference("writes statistics to stderr as JSON when no other sink is set")
        .tollgate("writes none; /metrics on the HTTP port serves them for Prometheus");
    Some(finding)
}

fn disabled(env: &Environment) -> Option<Finding> {
    const NAME: &str = "DISABLE_STATS";
    if !env.is_true(NAME) {
        return None;
    }
    let finding = Finding::new(Grade::Same, "the pages with statistics stay available")
        .about(env, NAME)
        .reference("has no statistics")
        .tollgate(
            "sends no statistics, but still serves /metrics on the HTTP port and /stats on the \
             debug port",
        );
    Some(finding)
}

fn several_sinks(env: &Environment) -> Option<Finding> {
    let has_statsd = env.is_true("USE_STATSD") || env.get("USE_STATSD").is_none();
    let mut sinks = 0;
    for is_on in [has_statsd, env.is_true("USE_DOG_STATSD"), env.is_true("USE_PROMETHEUS")] {
        sinks += u32::from(is_on);
    }
    if sinks < 2 || env.is_true("DISABLE_STATS") {
        return None;
    }
    let finding = Finding::new(Grade::Note, "statistics go to several sinks")
        .about(env, "USE_STATSD")
        .reference("does not start with this: USE_STATSD is true unless it is set")
        .tollgate("supports several sinks")
        .unless_set(env, &["USE_STATSD", "DISABLE_STATS"]);
    Some(finding)
}

fn mapping(env: &Environment) -> Option<Finding> {
    const NAME: &str = "PROMETHEUS_MAPPER_YAML";
    if !env.is_set(NAME) || hints::ignored(NAME).is_none() {
        return None;
    }
    let finding = Finding::new(Grade::Note, format!("{NAME} is not read"))
        .about(env, NAME)
        .reference("takes names and labels for Prometheus from this file")
        .tollgate("uses the names and labels that the reference has without such a file")
        .remedy("if the file is your own, adapt dashboards and alerts");
    Some(finding)
}

fn counted_twice(env: &Environment) -> Option<Finding> {
    const NAME: &str = "LOCAL_CACHE_SIZE_IN_BYTES";
    let cache_bytes = reference::parse_int(env.text(NAME)?)?;
    if !env.is_true("USE_PROMETHEUS") || cache_bytes == 0 {
        return None;
    }
    let title = "over_limit of rules with several keys counts less for Prometheus";
    let finding = Finding::new(Grade::Differs, title)
        .about(env, NAME)
        .reference("counts a request twice if the local cache refuses it")
        .tollgate("counts every hit once")
        .remedy("expect smaller numbers on dashboards, and check the thresholds of alerts");
    Some(finding)
}

fn tags(env: &Environment) -> Option<Finding> {
    const NAME: &str = "EXTRA_TAGS";
    if !env.is_set(NAME) || !env.is_true("USE_PROMETHEUS") {
        return None;
    }
    let finding = Finding::new(Grade::Differs, "EXTRA_TAGS are labels for Prometheus")
        .about(env, NAME)
        .reference("leaves them in the names of statistics, which then have no labels")
        .tollgate("adds them to the labels of each statistic")
        .remedy("adapt dashboards and alerts");
    Some(finding)
}
