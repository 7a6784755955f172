//! The lines of `/rlconfig`: one for each limit, in the format of the reference service,
//! followed by the keys that this format does not have. Lines with `#` have what is no limit.

use std::fmt::{Display, Write};

use crate::{
    limit::{Limit, Window, window::Phase},
    mapping::Mapping,
    printable::printable_text,
    rules::{
        Rule,
        spec::{LimitSpec, OnError},
    },
};

/// Appends the lines of `rule`.
pub(super) fn describe(rule: &Rule, text: &mut String) {
    if rule.is_unlimited() {
        let mut keys = Keys::default();
        keys.add("unlimited", true);
        keys.add_text("name", &rule.spec.name);
        add_rule_keys(rule, &mut keys);
        return line(rule, "UNKNOWN", 0, &keys, text);
    }
    for spec in &rule.spec.limits {
        let mut keys = limit_keys(spec);
        add_rule_keys(rule, &mut keys);
        let unit = spec.limit.window.unit().name().to_ascii_uppercase();
        line(rule, &unit, spec.limit.requests, &keys, text);
    }
}

/// Appends the lines of the `http` of a domain.
pub(super) fn describe_http(domain: &str, mapping: &Mapping, text: &mut String) {
    for line in mapping.describe() {
        *text += &printable_text(&format!("# http of {domain}: {line}"));
        text.push('\n');
    }
}

/// Keys with their values, each behind a comma.
#[derive(Default)]
struct Keys(String);

impl Keys {
    fn add(&mut self, key: &str, value: impl Display) {
        let _ = write!(self.0, ", {key}: {value}");
    }

    fn add_text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.add(key, value);
        }
    }

    fn add_flag(&mut self, key: &str, value: bool) {
        if value {
            self.add(key, true);
        }
    }
}

fn line(rule: &Rule, unit: &str, requests: u32, keys: &Keys, text: &mut String) {
    let (shadow, quota) = (rule.spec.shadow_mode, rule.spec.quota_mode);
    let line = format!(
        "{}: unit={unit} requests_per_unit={requests}, shadow_mode: {shadow}, quota_mode: {quota}{}",
        rule.name(),
        keys.0
    );
    *text += &printable_text(&line);
    text.push('\n');
}

/// The keys of a limit that differ from their defaults.
fn limit_keys(spec: &LimitSpec) -> Keys {
    let LimitSpec { limit, name, all_or_nothing, on_error } = spec;
    let mut keys = Keys::default();
    let plain = Limit::fixed(limit.requests, Window::new(limit.window.unit()));
    if limit.to_string() != plain.to_string() {
        keys.add("limit", limit);
    }
    let info = limit.algorithm.info();
    if info.burst && limit.capacity() != limit.requests {
        keys.add("burst", limit.capacity());
    }
    if info.count_denied && !limit.algorithm.counts_denied() {
        keys.add("count_denied", false);
    }
    if let Some(lease) = limit.algorithm.lifetime() {
        keys.add("lease", format_args!("{lease:?}"));
    }
    match &limit.window.phase {
        Phase::Epoch => {}
        Phase::Shifted(shift) => keys.add("phase", format_args!("{shift:?}")),
        Phase::Spread => keys.add("phase", "spread"),
        Phase::Calendar(calendar) => keys.add("first_day", calendar.first_day),
    }
    if !limit.penalty.is_zero() {
        keys.add("penalty", format_args!("{:?}", limit.penalty));
    }
    if *all_or_nothing {
        keys.add("consume", "all_or_nothing");
    }
    if let Some(policy) = on_error {
        keys.add("on_error", OnError::name(*policy));
    }
    if limit.max_prefetch > 0 {
        keys.add("accuracy", format_args!("leases of up to {} hits", limit.max_prefetch));
    }
    keys.add_text("name", name);
    keys
}

/// The keys of a rule that apply to all of its limits.
fn add_rule_keys(rule: &Rule, keys: &mut Keys) {
    if !rule.spec.replaces.is_empty() {
        keys.add("replaces", rule.spec.replaces.join(" and "));
    }
    keys.add_flag("share_threshold", rule.shares_counter());
    keys.add_flag("detailed_metric", rule.spec.detailed_metric);
    keys.add_flag("value_to_metric", rule.has_value_to_metric());
    keys.add_flag("metadata", rule.spec.metadata.is_some());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CompileOptions, SourceFile, compile};

    #[track_caller]
    fn check(rules: &str, expected: &str) {
        let text = format!("domain: shop\ndescriptors:\n- {rules}\n");
        let file = SourceFile { name: "a.yaml".into(), bytes: text.into() };
        let compiled = compile(&[file], CompileOptions::default()).unwrap();
        let mut lines = String::new();
        for rule in compiled.rules.rules() {
            describe(rule, &mut lines);
        }
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_rule_of_the_reference_service_has_the_line_of_the_reference_service() {
        check(
            "{key: \":path\", value: \"10.0.0.1|a\", rate_limit: {unit: day, requests_per_unit: 3}}",
            "shop.:path_10.0.0.1|a: unit=DAY requests_per_unit=3, shadow_mode: false, quota_mode: false\n",
        );
    }

    #[test]
    fn each_part_of_http_is_shown_as_it_is_written() {
        let text = "
domain: shop
http:
  trusted_proxies: [10.0.0.0/8, 'fd00::/8']
  skip: [{method: OPTIONS, path: '/a/*'}, {host: a.example}]
  descriptors:
  - [path, remote_address]
  - [{header: X-Api-Key, key: api_key, default: none}, {cookie: c}, {query: q}]
  - [{header: x-jwt, claim: org.id}, {value: v, key: k}, {host: true, default: \"a\\nb\"}]
  - [{remote_address: {ipv4: 24}, key: net}]
";
        let file = SourceFile { name: "a.yaml".into(), bytes: text.into() };
        let compiled = compile(&[file], CompileOptions::default()).unwrap();
        let (_, mapping) = compiled.rules.mapping(b"shop").unwrap();
        let mut lines = String::new();
        describe_http("shop", mapping, &mut lines);
        assert_eq!(
            lines.replace("# http of shop: ", ""),
            "trusted_proxies: [10.0.0.0/8, fd00::/8]\n\
             skip: {method: OPTIONS, path: /a/*}\n\
             skip: {host: a.example}\n\
             descriptor: [path, remote_address]\n\
             descriptor: [{header: x-api-key, key: api_key, default: none}, {cookie: c}, {query: q}]\n\
             descriptor: [{header: x-jwt, claim: org.id}, {value: v, key: k}, \
             {host: true, default: a\u{fffd}b}]\n\
             descriptor: [{remote_address: {ipv4: 24, ipv6: 128}, key: net}]\n",
        );
    }

    #[test]
    fn an_unlimited_rule_is_called_so() {
        check(
            "{key: a, rate_limit: {unlimited: true, name: n, replaces: [{name: m}, {name: o}]}}",
            "shop.a: unit=UNKNOWN requests_per_unit=0, shadow_mode: false, quota_mode: false, \
             unlimited: true, name: n, replaces: m and o\n",
        );
    }

    #[test]
    fn every_key_of_a_limit_is_shown() {
        check(
            "{key: a, value: b*, share_threshold: true, detailed_metric: true, rate_limits: [\
             {period: 90s, requests_per_unit: 5, phase: 15s, penalty: 10m, on_error: deny, \
             count_denied: false, name: n}, \
             {unit: minute, requests_per_unit: 5, algorithm: token_bucket, burst: 2, \
             consume: all_or_nothing}, \
             {requests_per_unit: 2, algorithm: concurrency, lease: 30s}, \
             {unit: month, requests_per_unit: 9, calendar: {time_zone: Europe/Berlin, first_day: 3}}, \
             {unit: day, requests_per_unit: 1000, accuracy: {lease: 1%}, phase: spread}]}",
            "shop.a_b*: unit=SECOND requests_per_unit=5, shadow_mode: false, quota_mode: false, \
             limit: 5 per 90 seconds, count_denied: false, phase: 15s, penalty: 600s, \
             on_error: deny, name: n, share_threshold: true, detailed_metric: true\n\
             shop.a_b*: unit=MINUTE requests_per_unit=5, shadow_mode: false, quota_mode: false, \
             limit: 5 per minute by token_bucket, burst: 2, consume: all_or_nothing, \
             share_threshold: true, detailed_metric: true\n\
             shop.a_b*: unit=SECOND requests_per_unit=2, shadow_mode: false, quota_mode: false, \
             limit: 2 at a time, lease: 30s, share_threshold: true, detailed_metric: true\n\
             shop.a_b*: unit=MONTH requests_per_unit=9, shadow_mode: false, quota_mode: false, \
             limit: 9 per month in Europe/Berlin, first_day: 3, share_threshold: true, \
             detailed_metric: true\n\
             shop.a_b*: unit=DAY requests_per_unit=1000, shadow_mode: false, quota_mode: false, \
             phase: spread, accuracy: leases of up to 10 hits, share_threshold: true, \
             detailed_metric: true\n",
        );
    }
}
