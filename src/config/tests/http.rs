//! The `http` of a file.

use super::*;
use crate::{
    mapping::{Headers, HttpRequest, Mapped, MappingError},
    rules::{NoMapping, RuleTree},
};

/// Rules that match the keys `remote_address`, `path` and `api_key`.
const RULES: &str = "
descriptors:
- key: remote_address
  rate_limit: { unit: day, requests_per_unit: 3 }
- key: path
  value: /login
  rate_limit: { unit: day, requests_per_unit: 3 }
- key: api_key
  rate_limit: { unit: day, requests_per_unit: 3 }
";

/// The only header line of a request.
#[derive(Debug)]
struct Line(&'static str, &'static str);

impl Headers for Line {
    fn visit<'h>(&'h self, name: &str, visit: &mut dyn FnMut(&'h [u8])) {
        if name == self.0 {
            visit(self.1.as_bytes());
        }
    }
}

/// Maps `GET /login?a=b` with one header line by `http`.
fn map(http: &str, header: &Line) -> Result<Vec<String>, MappingError> {
    let compiled = compile_one(&format!("domain: d\nhttp: {http}\n{RULES}"));
    let compiled = compiled.unwrap_or_else(|errors| panic!("{errors}"));
    let request = HttpRequest {
        method: Some(b"GET"),
        target: Some(b"/login?a=b"),
        host: Some(b"example.com"),
        scheme: None,
        headers: header,
        peer: Some("192.0.2.1".parse().unwrap()),
    };
    let (_, mapping) = compiled.rules.mapping(b"d").expect("the domain has `http`");
    let Mapped::Request(request) = mapping.map(&request)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for descriptor in request.descriptors {
        let mut text = String::new();
        for entry in descriptor.entries {
            let (key, value) = (entry.key.escape_ascii(), entry.value.escape_ascii());
            text += &format!("{key}={value} ");
        }
        found.push(text.trim_end().to_owned());
    }
    Ok(found)
}

#[track_caller]
fn check_map(http: &str, header: Line, expected: &[&str]) {
    let expected: Vec<_> = expected.iter().map(|text| (*text).to_owned()).collect();
    assert_eq!(map(http, &header), Ok(expected), "{http}");
}

#[test]
fn an_http_block_maps_requests_to_descriptors() {
    let key = || Line("x-api-key", "k");
    check_map("{ descriptors: [[remote_address]] }", key(), &["remote_address=192.0.2.1"]);
    check_map(
        "{ descriptors: [[path, remote_address], [method, host]] }",
        key(),
        &["path=/login remote_address=192.0.2.1", "method=GET host=example.com"],
    );
    check_map(
        "{ descriptors: [[{ header: X-Api-Key, key: api_key }], [{ header: x-plan }]] }",
        key(),
        &["api_key=k"],
    );
    check_map(
        "{ descriptors: [[{ header: x-plan, default: free }, { key: a, value: b }]] }",
        key(),
        &["x-plan=free a=b"],
    );
    check_map(
        "{ descriptors: [[{ path: true, key: p }, { query: a }, { scheme: true, default: x }]] }",
        key(),
        &["p=/login a=b scheme=x"],
    );
    check_map(
        "{ descriptors: [[{ remote_address: { ipv4: 24 } }], [{ remote_address: true, key: r }]] }",
        key(),
        &["masked_remote_address=192.0.2.0/24", "r=192.0.2.1"],
    );
    check_map("{ skip: [{ method: GET }], descriptors: [[path]] }", key(), &[]);
    check_map(
        "{ skip: [{ path: /log*, host: a }], descriptors: [[path]] }",
        key(),
        &["path=/login"],
    );
    let claims = Line("x-claims", "eyJvcmciOnsiaWQiOjd9fQ");
    check_map("{ descriptors: [[{ header: x-claims, claim: org.id }]] }", claims, &["org.id=7"]);
}

#[test]
fn the_client_is_found_as_the_block_says() {
    let forwarded = || Line("x-forwarded-for", "192.0.2.5, 10.0.0.2, 10.0.0.1");
    let client = |http: &str, expected: &str| {
        let http = format!("{{ {http} descriptors: [[{{ remote_address: true, key: r }}]] }}");
        check_map(&http, forwarded(), &[&format!("r={expected}")]);
    };
    client("", "10.0.0.1");
    client("trusted_hops: 3,", "192.0.2.5");
    client("trusted_proxies: [10.0.0.0/8, 'fd00::/8'],", "192.0.2.5");
    client("trusted_proxies: [10.0.0.1],", "10.0.0.2");
}

#[test]
fn a_domain_without_http_has_no_mapping() {
    let rules = compile_one("domain: d").unwrap().rules;
    assert_eq!(rules.mapping(b"d").unwrap_err(), NoMapping::NoHttp);
    assert_eq!(rules.mapping(b"e").unwrap_err(), NoMapping::UnknownDomain);
    assert_eq!(RuleTree::default().mapping(b"d").unwrap_err(), NoMapping::NoRules);
}

/// Compares the errors of `http: { text }` with `expected`. Columns are counted from the
/// beginning of `text`; 0 is the key `http`.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let errors = compile_one(&format!("domain: d\nhttp: {{ {text} }}\n")).expect_err(text);
    let line = |it: &Diagnostic| {
        let help = it.help.iter().map(|help| format!(" ({help})"));
        let column = place(it).1.saturating_sub(8);
        format!("{column}: {}{}", it.message, help.collect::<String>())
    };
    assert_eq!(errors.iter().map(line).collect::<Vec<_>>(), expected, "{text}");
}

/// Like [`check`] for one entry, with one error.
#[track_caller]
fn check_entry(entry: &str, expected: &str) {
    check(&format!("descriptors: [[{entry}]]"), &[expected]);
}

#[test]
fn a_mistake_in_an_entry_is_reported_with_the_expected_value() {
    let expected = "expected remote_address, path, raw_path, method, host, scheme, or a map with \
                    one of them, `header`, `query`, `cookie` or `value`";
    let flag = "expected `true`";
    check_entry(
        "remote_adress",
        &format!("16: an entry is `remote_adress`, {expected} (did you mean `remote_address`?)"),
    );
    check_entry(
        "header",
        &format!("16: an entry is `header`, {expected} (`header` needs a name: {{header: NAME}})"),
    );
    check_entry("[path]", &format!("16: an entry is a list, {expected}"));
    check_entry("", "15: a descriptor has 0 entries, expected 1 to 31");
    check_entry("{ hader: x }", "18: the key `hader` is unknown (did you mean `header`?)");
    check_entry(
        "{ unit: x }",
        "18: the key `unit` does not belong here (it belongs in `rate_limit` or an element of `rate_limits`)",
    );
    check_entry("{ key: x }", &format!("16: the entry has no source, {expected}"));
    check_entry("{ value: x }", "18: the entry with this `value` has no `key`, expected one");
    check_entry(
        "{ header: x, query: y }",
        "29: `query` is combined with `header`, expected one of the two",
    );
    check_entry("{ path: yes please }", &format!("24: `path` is `yes please`, {flag}"));
    check_entry("{ path: false }", &format!("24: `path` is `false`, {flag}"));
    check_entry("{ header: [x] }", "26: `header` is a list, expected the name of a header");
    check_entry(
        "{ header: '' }",
        "26: `header` is the quoted string ``, expected the name of a header",
    );
    check_entry("{ cookie: , key: a }", "24: `cookie` is empty, expected the name of a cookie");
    check_entry("{ header: 'a b' }", "26: `header` is `a b`, expected the name of a header");
}

#[test]
fn an_option_that_cannot_be_meant_is_reported_with_the_reason() {
    check_entry(
        "{ header: ':path' }",
        "26: `header` is `:path`, expected the name of a header (the path is the source `path`)",
    );
    check_entry(
        "{ path: true, default: x }",
        "30: `default` has no meaning beside `path`, expected none (each request has this value)",
    );
    check_entry(
        "{ claim: org }",
        "18: `claim` has no `header` beside it, expected the one with the claims (a proxy that has \
         verified a token can put its payload there, such as Envoy with `forward_payload_header`)",
    );
    check_entry(
        "{ query: x, claim: org }",
        "28: `claim` has no `header` beside it, expected the one with the claims",
    );
    check_entry(
        "{ header: Authorization, claim: sub }",
        "26: the claims of `authorization` are not verified, expected the header in which the \
         proxy puts those that are (anybody could choose whose limit is used up)",
    );
    check_entry(
        "{ header: x, claim: a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a }",
        "36: `claim` is `a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a`, expected 1 to 16 names with dots",
    );
    check_entry(
        "{ remote_address: {} }",
        "18: `remote_address` has neither `ipv4` nor `ipv6`, expected one of them",
    );
    check_entry(
        "{ remote_address: { ipv4: 33 } }",
        "42: `ipv4` is `33`, expected a whole number from 1 to 32",
    );
    check_entry(
        "{ remote_address: { ip4: 24 } }",
        "36: the key `ip4` is unknown (did you mean `ipv4`?)",
    );
    check_entry(
        "{ remote_address: 24 }",
        "34: `remote_address` is `24`, expected `true`, or a map with `ipv4` or `ipv6`",
    );
}

#[test]
fn a_mistake_around_the_entries_is_reported() {
    const NONE: &str =
        "0: `http` has no `descriptors`, expected at least one (for example: [[remote_address]])";
    check("", &[NONE]);
    check("descriptors: []", &[NONE]);
    check("descriptors:", &[NONE]);
    check(
        "descriptor: [[path]]",
        &["1: the key `descriptor` is unknown (did you mean `descriptors`?)"],
    );
    let brackets = "(write it in brackets, such as [path, remote_address])";
    check(
        "descriptors: [path, { header: x }]",
        &[
            &format!("15: a descriptor is `path`, expected a list of entries {brackets}"),
            &format!("21: a descriptor is a map, expected a list of entries {brackets}"),
        ],
    );
    check(
        "descriptors: [[path], [host], [path]]",
        &[
            "31: the descriptor is already at r.yaml:2: requests would be counted twice (remove one \
           of them)",
        ],
    );
    // An entry with a mistake does not make its descriptor equal to another one.
    check(
        "descriptors: [[path], [path, { heder: x }], [{ heder: x }]]",
        &[
            "32: the key `heder` is unknown (did you mean `header`?)",
            "48: the key `heder` is unknown (did you mean `header`?)",
        ],
    );
    let many = "[path], ".repeat(100);
    let long = "path, ".repeat(32);
    check(
        &format!("descriptors: [[{long}]]"),
        &["15: a descriptor has 32 entries, expected 1 to 31"],
    );
    let errors = compile_one(&format!("domain: d\nhttp: {{ descriptors: [{many} [host]] }}"));
    let message = &errors.unwrap_err().iter().last().unwrap().message.clone();
    assert_eq!(message, "`descriptors` has more than 100 elements");
    let errors = compile_one("domain: d\nhttp:\n").unwrap_err();
    assert_eq!(errors.first().message, "`http` has no `descriptors`, expected at least one");
    let errors = compile_one("domain: d\nhttp: [path]\n").unwrap_err();
    assert_eq!(errors.first().message, "`http` is a list, expected a map with `descriptors`");
}

#[test]
fn a_mistake_in_the_trusted_proxies_is_reported() {
    let check = |text: &str, expected: &str| {
        check(&format!("{text}, descriptors: [[path]]"), &[expected]);
    };
    let hops = "expected a whole number from 1 to 100";
    check("trusted_hops: 0", &format!("15: `trusted_hops` is `0`, {hops}"));
    check("trusted_hops: 101", &format!("15: `trusted_hops` is `101`, {hops}"));
    check(
        "trusted_hops: '1'",
        &format!("15: `trusted_hops` is the quoted string `1`, {hops} (remove the quotes)"),
    );
    check(
        "trusted_hops: 1, trusted_proxies: [10.0.0.0/8]",
        "18: `trusted_proxies` is combined with `trusted_hops`, expected one of the two",
    );
    let list = "expected a list of 1 to 256 networks, such as `10.0.0.0/8`";
    check("trusted_proxies: []", &format!("1: `trusted_proxies` has 0 elements, {list}"));
    check("trusted_proxies: 10.0.0.0/8", &format!("18: `trusted_proxies` is `10.0.0.0/8`, {list}"));
    check(
        "trusted_proxies: [10.0.0.0/33]",
        "19: an element of `trusted_proxies` is `10.0.0.0/33`, expected a network such as \
         `10.0.0.0/8` or `fd00::/8`",
    );
}

#[test]
fn a_mistake_in_skip_is_reported() {
    let check = |element: &str, expected: &str| {
        check(&format!("skip: [{element}], descriptors: [[path]]"), &[expected]);
    };
    let none = "8: this would skip every request, expected `method`, `path` or `host`";
    check("{}", none);
    check("{ method: }", none);
    check(
        "{ method: GET, host: '' }",
        "29: `host` is the quoted string ``, expected a string, with a `*` at most at its end",
    );
    check("{ metod: GET }", "10: the key `metod` is unknown (did you mean `method`?)");
    check(
        "OPTIONS",
        "8: an element of `skip` is `OPTIONS`, expected a map with `method`, `path` or `host`",
    );
    check("{ method: get }", "18: the method `get` is not in upper case (write `GET`)");
    check("{ path: health }", "16: the path `health` matches no path (begin it with `/`)");
    check("{ path: /a//b }", "16: the path `/a//b` matches no normalized path (write `/a/b`)");
    check(
        "{ path: '/*/b' }",
        "16: `path` is the quoted string `/*/b`, expected a string, with a `*` at most at its end",
    );
    check(
        "{ path: /a?b }",
        "16: the path `/a?b` matches no normalized path (write `/a`, as the query is not part of \
         the path)",
    );
    check(
        "{ host: A.example }",
        "16: the host `A.example` is not in lower case (write `a.example`)",
    );
}

#[test]
fn a_domain_has_one_http_block() {
    let files = [
        source("a.yaml", "domain: d\nhttp: { descriptors: [[{ key: a, value: b }]] }\n"),
        source("b.yaml", "domain: d\ndescriptors:\n- key: a\n  rate_limit: { unlimited: true }\n"),
        source("c.yaml", "domain: d\nhttp: { descriptors: [[path]] }\n"),
    ];
    let options = CompileOptions { merge_domains: true, ..CompileOptions::default() };
    let errors = compile(&files, options).unwrap_err();
    assert_eq!(
        lines(errors.iter()),
        "c.yaml:2:1: the domain `d` already has `http` at a.yaml:2 (put both into one file: a \
         domain has one `http`)\n"
    );
    let compiled = compile(&files[..2], options).unwrap();
    assert_eq!(lines(&compiled.warnings), "");
    assert!(compiled.rules.mapping(b"d").is_ok());
    assert_eq!(compiled.rules.rules().len(), 1);
}
