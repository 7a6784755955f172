//! Where variables may be set that cannot be seen.

use super::{
    pods::{check, found_in, pod},
    *,
};

/// A pod whose variables are these and those of the Secret `s`.
fn with_secret(from: &str, names: &[&str], others: &str) -> String {
    let text = pod("", "", &format!("    envFrom:\n    - {from}\n{others}"));
    let left_out = |it: &&str| names.iter().any(|name| it.contains(&format!("{{name: {name},")));
    text.lines().filter(|it| !left_out(it)).map(|it| format!("{it}\n")).collect()
}

const SECRET: &str = "{secretRef: {name: s}}";
const NOTE: &str = "note: the variables of the Secret s are not known";

#[test]
fn what_an_unknown_source_may_set_is_neither_a_mistake_nor_a_difference() {
    check(&with_secret(SECRET, &[], ""), &[NOTE]);
    let backend = pod(
        "",
        "",
        "    - {name: BACKEND_TYPE, value: redis}\n    envFrom:\n    - {secretRef: {name: s}}\n",
    )
    .replace("{name: REDIS_URL,", "{name: A,");
    check(&backend, &[NOTE]);
    let unless = |it: &str| format!("note: {it}, unless the Secret s says otherwise");
    for name in ["LOG_LEVEL", "RESPONSE_DYNAMIC_METADATA"] {
        let expected = unless(&format!("{name} is not set"));
        check(&with_secret(SECRET, &[name], ""), &[NOTE, &expected]);
    }
    check(
        &with_secret(SECRET, &["RUNTIME_ROOT", "RUNTIME_SUBDIRECTORY"], ""),
        &[
            NOTE,
            &unless("neither RUNTIME_ROOT nor RUNTIME_SUBDIRECTORY is set"),
            &unless("nothing is mounted at /srv/runtime_data/current/config"),
        ],
    );
    check(
        &with_secret(SECRET, &["RUNTIME_IGNOREDOTFILES"], ""),
        &[NOTE, &unless("RUNTIME_IGNOREDOTFILES is not true, and rules are in a ConfigMap")],
    );
}

#[test]
fn hits_are_most_likely_counted_in_redis_where_a_secret_may_say_so() {
    let names = ["REDIS_URL", "REDIS_SOCKET_TYPE", "REDIS_TIMEOUT", "COUNTER_KEYS"];
    let expected = ["REDIS_URL", "REDIS_TIMEOUT", "COUNTER_KEYS"]
        .map(|it| format!("note: {it} is not set, unless the Secret s says otherwise"));
    let expected: Vec<_> = [NOTE].into_iter().chain(expected.iter().map(String::as_str)).collect();
    let findings = found_in(&with_secret(SECRET, &names, ""));
    assert_eq!(titles(&findings), expected);
    assert_eq!(answer(&findings), Status::Yes);
}

#[test]
fn a_source_with_a_prefix_sets_nothing_else() {
    let from = "{prefix: LOG_, secretRef: {name: s}}";
    check(
        &with_secret(from, &["LOG_LEVEL", "RESPONSE_DYNAMIC_METADATA"], ""),
        &[
            NOTE,
            "differs: RESPONSE_DYNAMIC_METADATA is not set",
            "note: LOG_LEVEL is not set, unless the Secret s says otherwise",
        ],
    );
}

#[test]
fn what_is_wrong_whatever_a_secret_says_is_a_mistake() {
    let port = "    - {name: PORT, value: x}\n";
    let text = pod("", "", port)
        .replace("    env:\n", "    envFrom: [{secretRef: {name: s}}]\n    env:\n");
    check(&text, &[NOTE, "will not start: PORT=\"x\""]);
}

#[test]
fn ports_that_cannot_be_seen_are_not_missed() {
    let probe = "    readinessProbe: {tcpSocket: {port: 9999}}\n";
    let text = pod(probe, "", "    envFrom:\n    - {secretRef: {name: s}}\n");
    let fails = "the readinessProbe fails: nothing listens on port 9999";
    check(&text, &[NOTE, &format!("note: {fails}, unless the Secret s says otherwise")]);
    let from = "{name: s, key: k}";
    let text =
        pod(probe, "", &format!("    - {{name: PORT, valueFrom: {{secretKeyRef: {from}}}}}\n"));
    check(
        &text,
        &[
            "note: the value of PORT is not known: it comes from the Secret s, key k",
            &format!("note: {fails}, unless the Secret s, key k says otherwise"),
        ],
    );
}

#[test]
fn rules_that_need_to_be_merged_are_noted_where_a_secret_may_say_so() {
    let rules = "---\nkind: ConfigMap\nmetadata: {name: rules}\ndata: {a: \"domain: d\", b: \"domain: d\"}\n";
    let text = pod("", "", rules);
    let found = titles(&found_in(&text));
    assert!(found.len() == 1 && found[0].starts_with("will not start: "), "{found:?}");
    check(
        &with_secret(SECRET, &[], rules),
        &[NOTE, "note: rule files are right only if MERGE_DOMAIN_CONFIG is true"],
    );
}
