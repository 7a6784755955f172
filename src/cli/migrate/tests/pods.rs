use super::*;
use crate::settings::table;

/// The findings for a manifest with its mounted rules.
pub(super) fn found_in(text: &str) -> Vec<Finding> {
    let source = SourceFile { name: "a.yaml".into(), bytes: text.as_bytes().to_vec() };
    let documents = documents::read(&source);
    assert!(documents.diagnostics.is_none(), "{:?}", documents.diagnostics);
    let pod = Pod::find(&source.name, &documents, None).unwrap();
    let mut findings = Vec::new();
    compare_pod(&Migration::default(), &pod, &mut findings).unwrap();
    findings
}

/// A manifest of a pod without differences. `container` and `spec` are added to
/// the pod, and `others` follow it. Rules are added unless `others` has some.
pub(super) fn pod(container: &str, spec: &str, others: &str) -> String {
    let env: String = SAME
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| format!("    - {{name: {name}, value: \"{value}\"}}\n"))
        .collect();
    let rules = match others.contains("metadata: {name: rules}") {
        true => "",
        false => "---\nkind: ConfigMap\nmetadata: {name: rules}\ndata: {a.yaml: \"domain: d\"}\n",
    };
    format!(
        "kind: Pod\nspec:\n  volumes:\n  - {{name: rules, configMap: {{name: rules}}}}\n{spec}  \
         containers:\n  - name: a\n    image: envoyproxy/ratelimit:master\n    volumeMounts:\n    - \
         {{name: rules, mountPath: /data/ratelimit/config}}\n{container}    env:\n{env}{others}{rules}"
    )
}

#[track_caller]
pub(super) fn check(text: &str, expected: &[&str]) {
    assert_eq!(titles(&found_in(text)), expected, "{text}");
}

#[track_caller]
fn check_container(container: &str, expected: &[&str]) {
    check(&pod(container, "", ""), expected);
}

#[test]
fn envoy_gateway_can_replace_the_image() {
    check(
        include_str!("envoy_gateway.yaml"),
        &[
            "note: the value of REDIS_URL is not known: it comes from the Secret redis, key url",
            "differs: REDIS_TIMEOUT is not set",
            "differs: COUNTER_KEYS is not set",
            "differs: EXPIRATION_JITTER_MAX_SECONDS is not set",
            "differs: RESPONSE_DYNAMIC_METADATA is not set",
            "differs: the delay between attempts to connect to the xDS server grows",
            "note: some certificates are refused",
            "note: PROMETHEUS_MAPPER_YAML is not read",
        ]
        .into_iter()
        // Without the setting USE_PROMETHEUS its port would be closed.
        .chain(
            table::find("USE_PROMETHEUS")
                .is_none()
                .then_some("note: nothing listens on containerPort 19001"),
        )
        .collect::<Vec<_>>(),
    );
}

#[test]
fn the_sample_of_istio_can_replace_the_image() {
    check(
        include_str!("istio.yaml"),
        &[
            "differs: REDIS_TIMEOUT is not set",
            "differs: COUNTER_KEYS is not set",
            "differs: EXPIRATION_JITTER_MAX_SECONDS is not set",
            "differs: RESPONSE_DYNAMIC_METADATA is not set",
        ],
    );
}

#[test]
fn the_documented_output_is_current() {
    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/migrate.md");
    const BEGIN: &str = "$ tollgate migrate ratelimit.yaml\n";
    let (out, _) = run(include_bytes!("istio.yaml"), &Migration::default());
    let out = out.replace(" --> input", " --> ratelimit.yaml");
    let document = fs::read_to_string(PATH).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once("```\n").unwrap();
    let expected = format!("{before}{BEGIN}{out}```\n{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(PATH, &expected).unwrap();
    } else {
        assert!(
            document == expected,
            "{PATH} is out of date; `UPDATE_DOCS=1 cargo test` updates it"
        );
    }
}

#[test]
fn the_rules_of_a_mounted_config_map_are_compared() {
    let sample = include_str!("istio.yaml");
    let broken =
        sample.replace("    domain: ratelimit\n", "    domain: ratelimit\n    domain: x\n");
    let findings = found_in(&broken);
    let finding = findings.iter().find(|finding| finding.grade == Grade::WillNotStart).unwrap();
    assert_eq!(finding.place, "/data/ratelimit/config/config.yaml");
    assert!(finding.snippet.contains("config.yaml:2:1"), "{finding}");
}

#[test]
fn an_unchanged_pod_has_no_difference() {
    check_container("", &[]);
}

#[test]
fn commands_and_arguments_are_checked() {
    for good in [
        "command: [/bin/ratelimit]",
        "command: [/bin/ratelimit, serve]",
        "command: [tollgate]\n    args: [serve]",
        "args: [serve]",
        "args: []",
    ] {
        check_container(&format!("    {good}\n"), &[]);
    }
    let shell = "    command: [sh, -c, REDIS_AUTH=a /bin/ratelimit]\n";
    check_container(shell, &["note: the container runs sh"]);
    for flags in ["args: [--port=1]", "command: [/bin/ratelimit, serve, --shadow-mode]"] {
        check_container(&format!("    {flags}\n"), &["differs: the container has arguments"]);
    }
    for bad in ["args: [--debug]", "args: [/bin/ratelimit]", "command: [ratelimit, check]"] {
        check_container(&format!("    {bad}\n"), &["will not start: the container has arguments"]);
    }
}

#[test]
fn failing_probes_and_unused_ports_are_found() {
    let probe = |probe: &str| {
        format!(
            "    ports:\n    - {{name: web, containerPort: 8080}}\n    readinessProbe: {{{probe}}}\n"
        )
    };
    for good in [
        "httpGet: {path: /healthcheck, port: 8080}",
        "httpGet: {path: /healthcheck, port: \"8080\"}",
        "httpGet: {path: /ready, port: web}",
        "httpGet: {path: /anything, port: 6070}",
        "tcpSocket: {port: 8081}",
        "grpc: {port: 8081, service: ratelimit}",
    ] {
        check_container(&probe(good), &[]);
    }
    for (bad, problem) in [
        ("httpGet: {path: /healthcheck, port: 9999}", "nothing listens on port 9999"),
        ("httpGet: {path: /health, port: web}", "there is no page /health"),
        ("httpGet: {path: /json, port: web}", "/json returns 400 without a request"),
        ("httpGet: {path: /healthcheck, port: 8081}", "port 8081 is for gRPC, not for HTTP"),
        ("grpc: {port: 8080}", "port 8080 is for HTTP"),
        ("grpc: {port: 8081, service: other}", "there is no health status for a service other"),
    ] {
        let expected = format!("will not start: the readinessProbe fails: {problem}");
        check_container(&probe(bad), &[&expected]);
    }
    check_container(
        &probe("exec: {command: [/bin/ls]}"),
        &["note: the readinessProbe runs /bin/ls, which may be missing in the image"],
    );
    check_container(&probe("exec: {command: [tollgate, hit, --domain, d, a=b]}"), &[]);
    check_container(
        "    ports: [{containerPort: 1234}]\n",
        &["note: nothing listens on containerPort 1234"],
    );
}

#[test]
fn services_with_names_of_settings_are_found() {
    let service = "---\nkind: Service\nmetadata: {name: grpc}\n";
    check(&pod("", "", service), &["will not start: a Service is called grpc"]);
    check(&pod("", "  enableServiceLinks: false\n", service), &[]);
    let set = format!("    - {{name: GRPC_PORT, value: \"8081\"}}\n{service}");
    check(&pod("", "", &set), &[]);
    check(&pod("", "", "---\nkind: Service\nmetadata: {name: redis}\n"), &[]);
    for spec in ["{clusterIP: None}", "{type: ExternalName}"] {
        check(&pod("", "", &format!("{service}spec: {spec}\n")), &[]);
    }
}

#[test]
fn missing_rule_mounts_are_found() {
    let text = pod("", "", "");
    check(
        &text.replace("/data/ratelimit/config", "/etc/rules"),
        &["will not start: nothing is mounted at /data/ratelimit/config"],
    );
    let dots = text.replace("RUNTIME_IGNOREDOTFILES, value: \"true\"", "A, value: b");
    check(&dots, &["differs: RUNTIME_IGNOREDOTFILES is not true, and rules are in a ConfigMap"]);
    check(&dots.replace("/config}", "/config/a.yaml, subPath: a.yaml}"), &[]);
}

#[test]
fn a_short_termination_grace_period_differs() {
    let expected = "differs: terminationGracePeriodSeconds is 10";
    check(&pod("", "  terminationGracePeriodSeconds: 10\n", ""), &[expected]);
    let expected = "differs: terminationGracePeriodSeconds is 25";
    check(&pod("", "  terminationGracePeriodSeconds: 25\n", ""), &[expected]);
    check(&pod("", "  terminationGracePeriodSeconds: 27\n", ""), &[]);
}

#[test]
fn variables_are_read_from_config_maps_and_references() {
    let env = "    - {name: SECRET, valueFrom: {secretKeyRef: {name: s, key: k}}}
    - {name: REDIS_AUTH, value: \"a:$(SECRET)\"}
    - {name: HOST, valueFrom: {configMapKeyRef: {name: m, key: host}}}
    - {name: GRPC_HOST, value: \"$(HOST)\"}
    - {name: CACHE_KEY_PREFIX, value: \"$$(HOST)\"}
    envFrom:
    - {prefix: NEAR_, configMapRef: {name: m}}
    - {configMapRef: {name: elsewhere}}
    - {secretRef: {name: s}}
---
kind: ConfigMap
metadata: {name: m}
data: {host: \"::\", LIMIT_RATIO: \"2\"}
";
    check(
        &pod("", "", env),
        &[
            "note: the variables of the ConfigMap elsewhere are not known",
            "note: the variables of the Secret s are not known",
            "will not start: NEAR_LIMIT_RATIO=\"2\"",
            "note: the value of REDIS_AUTH is not known: it comes from the Secret s, key k",
        ],
    );
}
