use std::collections::HashSet;

use futures_util::FutureExt;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    causes,
    cli::{
        http_question::{HeaderLine, RequestLine},
        rule_input::RulePlaces,
    },
    counter::KeyFormat,
    descriptor::{Descriptor, Request},
    engine::decision::Mode,
    explain::rehearsal::Rehearsal,
    limit::{Hits, Limit, Unit, Window},
    rule_files::LinkPolicy,
    rules::spec::{DescriptorSpec, DomainSpec, LimitSpec, RuleSpec},
    time::{ManualClock, Timestamp},
};

const RULES: &str = "\
domain: edge
descriptors:
- key: path
  rate_limit: { unit: second, requests_per_unit: 50 }
- key: path
  value: /login
  descriptors:
  - key: address
    shadow_mode: true
    rate_limits:
    - { unit: minute, requests_per_unit: 5, algorithm: sliding_window, penalty: 10m, name: slow }
    - { unit: day, requests_per_unit: 100, name: daily }
- key: plan
  value: paid
  rate_limit: { unlimited: true, replaces: [{ name: daily }] }
";

fn explained(descriptors: &[&str], domain: &'static str, json: bool) -> (String, CommandStatus) {
    let hit = Hit {
        address: hit::default_address(),
        tls: None,
        domain: domain.into(),
        descriptors: descriptors
            .iter()
            .map(|text| hit::parse_descriptor(text.as_bytes()).unwrap())
            .collect(),
        hits: None,
        refund: false,
        http_port: hit::HTTP_PORT,
    };
    let (text, result) = explain(RULES, hit, None, json);
    (text, result.unwrap())
}

fn explain(
    rules: &str,
    hit: Hit,
    http: Option<HttpQuestion>,
    json: bool,
) -> (String, Result<CommandStatus, ExplainError>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rules.yaml");
    std::fs::write(&path, rules).unwrap();
    let explain = Explain {
        input: RuleInput {
            rules: RulePlaces::Paths(vec![path]),
            links: LinkPolicy::Inside,
            merge_domains: false,
        },
        settings: DecisionSettings::read(|_| None, |_| None).unwrap(),
        hit,
        http,
        ask_server: false,
        json,
    };
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
    let result = run(&explain, clock, &mut out, &mut errors).now_or_never().unwrap();
    assert_eq!(String::from_utf8(errors).unwrap(), "");
    let place = format!("{}/", directory.path().display());
    (String::from_utf8(out).unwrap().replace(&place, ""), result)
}

#[test]
fn the_rule_its_limits_and_the_answer_are_shown() {
    let (text, status) = explained(&["path=/login,address=::1", "plan=paid"], "edge", false);
    let expected = "\
path=/login,address=::1
  entry path=/login
    path=/login at rules.yaml:5: matches, by the exact value
    path at rules.yaml:3: comes later, matches by any value
  entry address=::1
    address at rules.yaml:8: matches, by any value
  rule edge.path_/login.address at rules.yaml:8, in shadow mode: it refuses nothing
    limit 5 per minute by sliding_window, penalty 600s, name slow
      counter edge|path=/login|address=::1|penalty:sliding_window:60s
    limit 100 per day, name daily
      does not apply: another descriptor's rule replaces `daily`
plan=paid
  entry plan=paid
    plan=paid at rules.yaml:13: matches, by the exact value
  rule edge.plan_paid at rules.yaml:13, replaces daily
    unlimited: every request passes, and nothing is counted
answer if nothing has been counted
  OK
    path=/login,address=::1: OK, 5 per minute (slow), 4 remaining, resets in 120 s
    plan=paid: OK, unlimited
";
    assert_eq!((text.as_str(), status), (expected, CommandStatus::Positive));
}

#[test]
fn the_reason_and_hints_are_shown_if_no_rule_applies() {
    let (text, status) = explained(&["path=/login"], "edge", false);
    let expected = "\
path=/login
  entry path=/login
    path=/login at rules.yaml:5: matches, by the exact value
    path at rules.yaml:3: comes later, matches by any value
  no rule applies: `path=/login` at rules.yaml:5 has no limit, and no entry follows
  shadowed: edge.path at rules.yaml:3 would apply if `path=/login` at rules.yaml:5 did not come first
  hint: the rules below it need more entries: `path=/login,address` at rules.yaml:8
answer if nothing has been counted
  OK
    path=/login: OK, no limit
";
    assert_eq!((text.as_str(), status), (expected, CommandStatus::Unmatched));
}

#[test]
fn an_unknown_domain_comes_with_the_known_ones() {
    let (text, status) = explained(&["path=/"], "Edge", false);
    assert!(
        text.starts_with("no rule file has the domain `Edge`; did you mean `edge`?\n"),
        "{text}"
    );
    assert_eq!(status, CommandStatus::Unmatched);
    let (text, _) = explained(&["path=/"], "mail", false);
    assert!(
        text.starts_with("no rule file has the domain `mail`; the domains are `edge`\n"),
        "{text}"
    );
}

#[test]
fn programs_read_json() {
    let (text, _) = explained(&["path=/login,address=::1", "plan=free"], "edge", true);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let [first, second] = json["descriptors"].as_array().unwrap().as_slice() else {
        unreachable!("{json}")
    };
    assert_eq!(first["rule"]["key"], "edge.path_/login.address");
    assert_eq!(first["rule"]["limits"][1]["limit"], "100 per day, name daily");
    assert_eq!(first["entries"][0]["tried"][1]["result"], "later");
    assert_eq!((&first["matched"], &second["matched"]), (&true.into(), &false.into()));
    assert_eq!((&second["end"], &second["rule"]), (&"no_element".into(), &().into()));
    assert_eq!(json["answer"]["statuses"][0]["limitRemaining"], 4);
}

#[test]
fn json_has_the_same_fields_in_every_case() {
    let mut fields = HashSet::new();
    for (domain, problem) in [("edge", false), ("edge", true), ("mail", true)] {
        let descriptor = if problem { "plan=free" } else { "plan=paid" };
        let (text, _) = explained(&[descriptor], domain, true);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let described = json["descriptors"][0].as_object().unwrap();
        assert_eq!(described["problem"].is_string(), problem, "{json}");
        fields.insert(described.keys().cloned().collect::<Vec<_>>());
    }
    assert_eq!(fields.len(), 1, "{fields:?}");
    let keys = |json: &serde_json::Value| json.as_object().unwrap().keys().cloned().collect();
    let usable: Vec<String> =
        keys(&serde_json::from_str(&explained(&["plan=paid"], "edge", true).0).unwrap());
    let unusable: Vec<String> = keys(&json::unusable(b"edge", "no rules"));
    assert_eq!(usable, unusable);
}

/// Random lists of descriptors: with limits, without them, and unlimited.
fn lists(depth: u32) -> BoxedStrategy<Vec<DescriptorSpec>> {
    let key = prop::sample::select(vec!["a", "b", "a_b", "a*", "*"]);
    let value = prop::sample::select(vec!["", "a", "b", "a*", "*"]);
    let below = if depth == 0 { Just(Vec::new()).boxed() } else { lists(depth - 1) };
    let element = (key, value, 0..3, below).prop_map(|(key, value, kind, descriptors)| {
        let limit = LimitSpec {
            limit: Limit::fixed(5, Window::new(Unit::Minute)),
            name: Arc::default(),
            all_or_nothing: false,
            on_error: None,
        };
        let limits = if kind == 0 { vec![limit] } else { Vec::new() };
        let rule = (kind < 2).then(|| RuleSpec { limits, ..RuleSpec::default() });
        let (key, value) = (key.to_owned(), value.to_owned());
        DescriptorSpec { key, value, rule, descriptors, ..DescriptorSpec::default() }
    });
    vec(element, 0..5).prop_map(without_duplicates).boxed()
}

fn without_duplicates(mut list: Vec<DescriptorSpec>) -> Vec<DescriptorSpec> {
    let mut seen = HashSet::new();
    list.retain(|spec| seen.insert(spec.composite_key()));
    list
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn the_explained_rule_decides(
        descriptors in lists(2),
        asked in vec(vec(("[ab_*]{0,3}", "[ab_*]{0,3}"), 0..4), 1..6),
    ) {
        let domain = "d".to_owned();
        let rules = Arc::new(RuleTree::compile(vec![DomainSpec { domain, descriptors, http: None }]));
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(9)));
        let keys = KeyFormat::default();
        let service = Rehearsal::new(Arc::clone(&rules), clock, keys, Mode::default());
        let mut descriptors = Vec::new();
        for pairs in asked {
            let entries = pairs
                .into_iter()
                .map(|(key, value)| Entry { key: key.into(), value: value.into() })
                .collect();
            let hits = Hits::Add(1);
            descriptors.push(Descriptor { entries, hits, has_own_hits: false, limit: None });
        }
        let request = Request { domain: "d".into(), descriptors, hits_addend: 0 };
        let decision = service.decide(&request).now_or_never().unwrap().unwrap();
        let domain = rules.domain(b"d").unwrap();
        for (descriptor, verdict) in request.descriptors.iter().zip(&decision.verdicts) {
            let explained = domain.explain(&descriptor.entries).end.rule();
            let decided = verdict.matched.rule();
            prop_assert_eq!(explained.map(|rule| rule.index), decided.map(|rule| rule.index));
        }
    }
}

const HTTP_RULES: &str = "\
domain: edge
http:
  skip: [{ method: OPTIONS }]
  descriptors:
  - [path, remote_address]
  - [{ header: x-api-key, key: api_key }]
  - [{ header: x-claims, claim: sub, key: user }]
descriptors:
- key: path
  value: /login
  descriptors:
  - { key: remote_address, rate_limit: { unit: day, requests_per_unit: 3 } }
- { key: api_key, rate_limit: { unit: day, requests_per_unit: 5 } }
- { key: user, rate_limit: { unit: day, requests_per_unit: 5 } }
";

fn explain_http(
    line: &str,
    headers: &[&str],
    domain: &'static str,
    json: bool,
) -> (String, Result<CommandStatus, ExplainError>) {
    explain_http_from(Some("192.0.2.1"), line, headers, domain, json)
}

fn explain_http_from(
    from: Option<&str>,
    line: &str,
    headers: &[&str],
    domain: &'static str,
    json: bool,
) -> (String, Result<CommandStatus, ExplainError>) {
    let hit = Hit {
        address: hit::default_address(),
        tls: None,
        domain: domain.into(),
        descriptors: Vec::new(),
        hits: None,
        refund: false,
        http_port: hit::HTTP_PORT,
    };
    let http = HttpQuestion {
        line: RequestLine::parse(line.into()).unwrap(),
        headers: headers.iter().map(|line| HeaderLine::parse(line.into()).unwrap()).collect(),
        from: from.map(|it| it.parse().unwrap()),
    };
    explain(HTTP_RULES, hit, Some(http), json)
}

#[test]
fn the_descriptors_of_an_http_request_are_shown() {
    let (text, status) =
        explain_http("GET //login?a", &["X-Api-Key: k", "X-Claims: x"], "edge", false);
    let expected = "\
descriptors of the HTTP request
  path=/login,remote_address=192.0.2.1
  api_key=k
  none: the entry `user` has no value, because the claim `sub` of the header `x-claims` cannot be read: the header is not base64url
path=/login,remote_address=192.0.2.1
";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.ends_with("  OK\n    path=/login,remote_address=192.0.2.1: OK, 3 per day, 2 remaining, resets in 57600 s\n    api_key=k: OK, 5 per day, 4 remaining, resets in 57600 s\n"), "{text}");
    assert_eq!(status.unwrap(), CommandStatus::Positive);
}

#[test]
fn an_http_request_without_descriptors_passes() {
    let (text, status) = explain_http("OPTIONS /login", &[], "edge", false);
    let expected = "\
descriptors of the HTTP request
  none: element 1 of `skip` matches the request: it passes, and nothing is counted
";
    assert_eq!((text.as_str(), status.unwrap()), (expected, CommandStatus::Unmatched));
    let (text, _) = explain_http("OPTIONS /login", &[], "edge", true);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["http"]["descriptors"], serde_json::json!([]));
    assert!(report["http"]["skipped"].as_str().is_some_and(|it| it.starts_with("element 1")));
    let (text, _) = explain_http("GET /login", &[], "edge", true);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let first = &report["http"]["descriptors"][0]["descriptor"];
    assert_eq!(first, "path=/login,remote_address=192.0.2.1");
    assert_eq!(report["http"]["descriptors"][1]["descriptor"], serde_json::Value::Null);
    assert_eq!(report["descriptors"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_request_that_a_proxy_asks_wrongly_is_an_error() {
    let error = |line, headers: &[&str], domain| {
        causes::text(&explain_http(line, headers, domain, false).1.unwrap_err())
    };
    assert_eq!(
        error("GET /", &["X-Forwarded-For: unix:"], "edge"),
        "a proxy that asks about this request gets status 400: the entry of X-Forwarded-For at \
         position 1 from the right is `unix:`, expected an IP address; the proxies there may be fewer than trusted_hops or trusted_proxies say"
    );
    let unknown = explain_http_from(None, "GET /", &[], "edge", false).1.unwrap_err();
    assert_eq!(
        causes::text(&unknown),
        "the rules need the address of the client, expected `--from ADDRESS`"
    );
    assert_eq!(
        error("GET /", &[], "Edge"),
        "no rule file has the domain `Edge`; did you mean `edge`?"
    );
}
