//! Variables that may be set in a Secret.

use super::{
    pods::{check, found_in, pod},
    *,
};

/// A pod with an element `from` of `envFrom`, and without the variables
/// `names`.
fn with_secret(from: &str, names: &[&str], others: &str) -> String {
    let text = pod("", "", &format!("    envFrom:\n    - {from}\n{others}"));
    let left_out =
        |line: &&str| names.iter().any(|name| line.contains(&format!("{{name: {name},")));
    text.lines().filter(|line| !left_out(line)).map(|line| format!("{line}\n")).collect()
}

const SECRET: &str = "{secretRef: {name: s}}";
const NOTE: &str = "note: the variables of the Secret s are not known";

#[test]
fn findings_that_a_secret_may_change_are_notes() {
    check(&with_secret(SECRET, &[], ""), &[NOTE]);
    let backend = pod(
        "",
        "",
        "    - {name: BACKEND_TYPE, value: redis}\n    envFrom:\n    - {secretRef: {name: s}}\n",
    )
    .replace("{name: REDIS_URL,", "{name: A,");
    check(&backend, &[NOTE]);
    let unless = |title: &str| format!("note: {title}, unless the Secret s changes that");
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
fn a_secret_is_assumed_to_set_the_redis_url() {
    let names = ["REDIS_URL", "REDIS_SOCKET_TYPE", "REDIS_TIMEOUT", "COUNTER_KEYS"];
    let expected = ["REDIS_URL", "REDIS_TIMEOUT", "COUNTER_KEYS"]
        .map(|name| format!("note: {name} is not set, unless the Secret s changes that"));
    let expected: Vec<_> = [NOTE].into_iter().chain(expected.iter().map(String::as_str)).collect();
    let findings = found_in(&with_secret(SECRET, &names, ""));
    assert_eq!(titles(&findings), expected);
    assert_eq!(status(&findings), CommandStatus::Positive);
}

#[test]
fn a_source_sets_only_variables_with_its_prefix() {
    let from = "{prefix: LOG_, secretRef: {name: s}}";
    check(
        &with_secret(from, &["LOG_LEVEL", "RESPONSE_DYNAMIC_METADATA"], ""),
        &[
            NOTE,
            "differs: RESPONSE_DYNAMIC_METADATA is not set",
            "note: LOG_LEVEL is not set, unless the Secret s changes that",
        ],
    );
}

#[test]
fn a_mistake_in_a_known_variable_stays_a_mistake() {
    let port = "    - {name: PORT, value: x}\n";
    let text = pod("", "", port)
        .replace("    env:\n", "    envFrom: [{secretRef: {name: s}}]\n    env:\n");
    check(&text, &[NOTE, "will not start: PORT=\"x\""]);
}

#[test]
fn closed_ports_are_notes_if_a_secret_may_open_them() {
    let probe = "    readinessProbe: {tcpSocket: {port: 9999}}\n";
    let text = pod(probe, "", "    envFrom:\n    - {secretRef: {name: s}}\n");
    let fails = "the readinessProbe fails: nothing listens on port 9999";
    check(&text, &[NOTE, &format!("note: {fails}, unless the Secret s changes that")]);
    let from = "{name: s, key: k}";
    let text =
        pod(probe, "", &format!("    - {{name: PORT, valueFrom: {{secretKeyRef: {from}}}}}\n"));
    check(
        &text,
        &[
            "note: the value of PORT is not known: it comes from the Secret s, key k",
            &format!("note: {fails}, unless the Secret s, key k changes that"),
        ],
    );
}

#[test]
fn duplicate_domains_are_notes_if_a_secret_may_merge_them() {
    let rules = "---\nkind: ConfigMap\nmetadata: {name: rules}\ndata: {a: \"domain: d\", b: \"domain: d\"}\n";
    let text = pod("", "", rules);
    let found = titles(&found_in(&text));
    assert!(found.len() == 1 && found[0].starts_with("will not start: "), "{found:?}");
    check(
        &with_secret(SECRET, &[], rules),
        &[NOTE, "note: the rule files are valid only if MERGE_DOMAIN_CONFIG is true"],
    );
}
