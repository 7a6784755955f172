//! Warnings about the `http` of a file.

use super::*;

/// Compares the warnings of `http: { descriptors: [text] }` beside `rules` with `expected`.
#[track_caller]
fn check_warnings(text: &str, rules: &str, expected: &[&str]) {
    let file = format!("domain: d\nhttp: {{ descriptors: [{text}] }}\ndescriptors:\n{rules}");
    let compiled = compile_one(&file).unwrap_or_else(|errors| panic!("{errors}"));
    let expected: String = expected.iter().map(|line| format!("r.yaml:{line}\n")).collect();
    assert_eq!(lines(&compiled.warnings), expected, "{text}");
}

const LIMIT: &str = "rate_limit: { unit: day, requests_per_unit: 3 }";

#[test]
fn a_descriptor_that_no_rule_matches_is_a_warning() {
    let rules = format!(
        "- key: a\n  descriptors: [{{ key: b, {LIMIT} }}]\n- key: c_d\n  {LIMIT}\n- key: 'e*'\n  {LIMIT}\n"
    );
    let from = |key: &str| format!("{{ header: x, key: {key} }}");
    let (a, b, c, e) = (from("a"), from("b"), from("c"), from("ef"));
    check_warnings(&format!("[{a}, {b}]"), &rules, &[]);
    // The key and the value are compared as one text.
    check_warnings(&format!("[{c}]"), &rules, &[]);
    check_warnings(&format!("[{e}]"), &rules, &[]);
    let none = "no rule matches the descriptor: none has the key";
    check_warnings(&format!("[{b}]"), &rules, &[&format!("2:24: {none} `b` here")]);
    check_warnings(&format!("[{a}, {c}]"), &rules, &[&format!("2:47: {none} `c` here")]);
    check_warnings(
        &format!("[{a}]"),
        &rules,
        &["2:23: no rule applies to the descriptor: none with these keys has a `rate_limit` (a \
           limit applies only to a descriptor that ends with its entry)"],
    );
    check_warnings("[{ key: c, value: d }]", &rules, &[]);
    check_warnings("[{ key: c, value: e }]", &rules, &[&format!("2:24: {none} `c` here")]);
}

#[test]
fn a_counter_for_each_value_that_clients_invent_is_a_warning() {
    let any = |key: &str| format!("- key: {key}\n  {LIMIT}\n");
    let help = "(give the rule the `value` that it is for; with a `*` in it, also \
                `share_threshold: true`)";
    let warning = |source: &str| {
        format!(
            "2:24: the limit at r.yaml:4 has a counter for each value of {source}, and clients can \
             invent values: a new one is not limited {help}"
        )
    };
    check_warnings("[path]", &any("path"), &[&warning("the path")]);
    check_warnings("[{ query: q }]", &any("q"), &[&warning("the query parameter `q`")]);
    check_warnings(
        "[{ header: User-Agent }]",
        &any("user-agent"),
        &[&warning("the header `user-agent`")],
    );
    let by_address = format!("- key: path\n  descriptors: [{{ key: remote_address, {LIMIT} }}]\n");
    let below = warning("the path").replace("r.yaml:4", "r.yaml:5");
    check_warnings("[path, remote_address]", &by_address, &[&below]);
    let pattern = format!("- key: path\n  value: /a/*\n  {LIMIT}\n");
    check_warnings("[path]", &pattern, &[&warning("the path")]);
    check_warnings("[path]", &(pattern + "  share_threshold: true\n"), &[]);
    check_warnings("[path]", &format!("- key: path\n  value: /a\n  {LIMIT}\n"), &[]);
    // The proxy has usually verified these.
    check_warnings("[remote_address]", &any("remote_address"), &[]);
    check_warnings("[{ header: x-api-key }]", &any("x-api-key"), &[]);
}

#[test]
fn a_limit_without_anybody_who_releases_it_is_a_warning() {
    let rules = "- key: remote_address\n  rate_limit: { algorithm: concurrency, lease: 1m, requests_per_unit: 2 }\n";
    check_warnings(
        "[remote_address]",
        rules,
        &["2:23: nobody releases the permits of the `concurrency` limit at r.yaml:4: each HTTP \
           request holds one until the end of its `lease`"],
    );
}

#[test]
fn a_value_that_no_request_has_is_a_warning() {
    let rule = |key: &str, value: &str| format!("- key: {key}\n  value: {value}\n  {LIMIT}\n");
    let check = |key: &str, value: &str, normal: &str, source: &str| {
        let warning = format!(
            "4:3: no request has the value `{value}`: {source} is normalized (write `{normal}`)"
        );
        check_warnings(&format!("[{key}]"), &rule(key, value), &[&warning]);
        check_warnings(&format!("[{key}]"), &rule(key, normal), &[]);
    };
    check("path", "/a//%6cogin", "/a/login", "the path");
    check("method", "get", "GET", "the method");
    check("host", "A.example:80", "a.example", "the host");
    check("remote_address", "2001:DB8::1", "2001:db8::1", "the address of the client");
    for (entry, value, warning) in [
        (
            "remote_address",
            "10.0.0.0/8",
            "no request has the value `10.0.0.0/8`: it is no IP address",
        ),
        (
            "{ remote_address: { ipv4: 8 } }",
            "10.0.0.1",
            "no request has the value `10.0.0.1`: it is no network, such as `10.0.0.0/8`",
        ),
        (
            "method",
            "GTE",
            "the method `GTE` is unknown, so that clients hardly send it (did you mean `GET`?)",
        ),
    ] {
        let key = if entry.starts_with('{') { "masked_remote_address" } else { entry };
        check_warnings(&format!("[{entry}]"), &rule(key, value), &[&format!("4:3: {warning}")]);
    }
    let warning = "4:3: no request has the value `/a?b`: the path is normalized (write `/a`, as the \
                   query is not part of the path)";
    check_warnings("[path]", &rule("path", "/a?b"), &[warning]);
}

/// Compares the warnings of `http: { text }` with `expected`. The columns are those of [`check`].
#[track_caller]
fn check_lint(text: &str, expected: &[&str]) {
    let file = format!(
        "domain: d\nhttp: {{ {text}, descriptors: [[{{ key: a, value: b }}]] }}\n\
         descriptors: [{{ key: a, {LIMIT} }}]\n"
    );
    let compiled = compile_one(&file).unwrap_or_else(|errors| panic!("{errors}"));
    let mut found = Vec::new();
    for warning in &compiled.warnings {
        let (line, column) = place(warning);
        assert_eq!(line, 2, "{text}");
        let help = warning.help.iter().map(|help| format!(" ({help})")).collect::<String>();
        found.push(format!("{}: {}{help}", column.saturating_sub(8), warning.message));
    }
    assert_eq!(found, expected, "{text}");
}

#[test]
fn an_element_of_skip_that_matches_nothing_is_a_warning() {
    let check = |element: &str, expected: &str| {
        check_lint(&format!("skip: [{element}]"), &[expected]);
    };
    let unknown = |method: &str| {
        format!("18: the method `{method}` is unknown, so that clients hardly send it")
    };
    check("{ method: OPTION }", &format!("{} (did you mean `OPTIONS`?)", unknown("OPTION")));
    check("{ method: '*' }", &unknown("*"));
    let port = "it is compared without port and without a dot at its end";
    check(
        "{ host: 'a.example:8080' }",
        &format!("16: no request has the host `a.example:8080`: {port} (write `a.example`)"),
    );
    check(
        "{ host: a.example. }",
        &format!("16: no request has the host `a.example.`: {port} (write `a.example`)"),
    );
    check(
        "{ host: 'a.example:*' }",
        &format!("16: no request has the host `a.example:`: {port} (write `a.example`)"),
    );
    check(
        "{ host: 'https://a.example' }",
        "16: no host is like `https://a.example`: none contains `/` (write the host alone)",
    );
    check("{ path: /a//b* }", "16: no normalized path begins with `/a//b` (write `/a/b*`)");
    check("{ path: '/a/../b*' }", "16: no normalized path begins with `/a/../b` (write `/b*`)");
    check(
        "{ path: '/%6cogin*' }",
        "16: no normalized path begins with `/%6cogin` (write `/login*`)",
    );
    check(
        "{ path: '/a?b*' }",
        "16: no normalized path begins with `/a?b` (write `/a`, as the query is not part of the \
         path)",
    );
    for correct in [
        "{ method: PURGE }",
        "{ method: VERSION-CONTROL }",
        "{ host: '[::1]' }",
        "{ host: '[fd00:*' }",
        "{ host: 'a.*' }",
        "{ path: '/a/.*' }",
        "{ path: '/a/..*' }",
        "{ path: '/a%*' }",
        "{ path: '/a%2*' }",
        "{ path: '/a/*' }",
        "{ path: '/a/*', host: a }, { path: '/a/b', host: b }, { path: '/c' }",
        "{ method: GET, path: /a }, { method: PUT, path: /a }",
    ] {
        check_lint(&format!("skip: [{correct}]"), &[]);
    }
}

#[test]
fn an_element_of_skip_that_changes_nothing_is_a_warning() {
    let check = |elements: &str, expected: &str| {
        check_lint(&format!("skip: [{elements}]"), &[expected]);
    };
    let effect = "this has no effect: r.yaml:2 skips these requests, too";
    check("{ path: '/a*' }, { path: /ab }", &format!("25: {effect}"));
    check("{ path: /ab }, { path: '/a*' }", &format!("8: {effect}"));
    check("{ path: /a }, { path: /a }", &format!("22: {effect}"));
    check("{ method: GET }, { method: GET, path: /a }", &format!("25: {effect}"));
    let everything = "8: this skips every request, so that nothing is limited";
    check("{ path: '/*' }", everything);
    check("{ host: '*' }", everything);
}

#[test]
fn an_entry_without_a_value_is_a_warning() {
    let check = |entry: &str, expected: &[&str]| {
        let rules = format!("- key: k\n  {LIMIT}\n");
        check_warnings(&format!("[{entry}]"), &rules, expected);
    };
    let remove = "so it has no effect (remove it, or write the value)";
    check("{ header: x, key: k, claim: }", &[&format!("2:45: `claim` has no value, {remove}")]);
    check(
        "{ header: x, key: k, default: '' }",
        &[&format!("2:45: `default` has no value, {remove}")],
    );
    let name = "(write the name alone, as it is in front of the `=`)";
    check("{ cookie: 'a=b', key: k }", &[&format!("2:34: no cookie has the name `a=b` {name}")]);
    check("{ cookie: ' a', key: k }", &[&format!("2:34: no cookie has the name ` a` {name}")]);
    check(
        "{ header: Host, key: k }",
        &[
            "2:34: the header `host` of a check may be the address of tollgate, and with HTTP/2 it is \
           missing (use the source `host`)",
        ],
    );
    check("{ cookie: a, key: k, default: b }", &[]);
}

#[test]
fn proxies_that_may_be_any_client_are_a_warning() {
    let reason = "this network contains every client, so that the leftmost address of \
                  `X-Forwarded-For` counts, which clients write themselves (name the networks of \
                  your proxies alone)";
    for network in ["0.0.0.0/0", "'::/0'", "10.0.0.0/0", "'::ffff:0:0/96'"] {
        check_lint(&format!("trusted_proxies: [{network}]"), &[&format!("19: {reason}")]);
    }
    check_lint("trusted_proxies: [10.0.0.0/8, 'fd00::/8']", &[]);
}
