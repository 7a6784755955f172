//! The choice of the container and of other objects in a manifest.

use super::{
    pods::{check, pod},
    *,
};
use crate::cli::manifest;

fn find(text: &str, wanted: Option<&str>) -> Result<String, String> {
    let source = SourceFile { name: "a.yaml".into(), bytes: text.as_bytes().to_vec() };
    let documents = documents::read(&source);
    let pod = Pod::find(&source.name, &documents, wanted)?;
    Ok(manifest::text(pod.container, "name").to_owned())
}

#[test]
fn the_container_that_runs_the_service_is_chosen() {
    let of = |images: &[&str]| {
        let container =
            |(index, image): (usize, &&str)| format!("  - {{name: c{index}, {image}}}\n");
        let list: String = images.iter().enumerate().map(container).collect();
        format!("kind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n{list}")
    };
    let side = "image: prom/statsd-exporter";
    let two = of(&[side, "image: \"a.example:5000/x/ratelimit@sha256:0\""]);
    assert_eq!(find(&two, None).as_deref(), Ok("c1"));
    assert_eq!(find(&two, Some("c0")).as_deref(), Ok("c0"));
    assert_eq!(
        find(&of(&[side, "image: x, command: [/bin/ratelimit]"]), None).as_deref(),
        Ok("c1")
    );
    assert_eq!(find(&of(&["image: mine"]), None).as_deref(), Ok("c0"));
    let list = format!("kind: List\nitems:\n- {}", of(&["image: mine"]).replace('\n', "\n  "));
    assert_eq!(find(&list, None).as_deref(), Ok("c0"));
    let json = "{\"kind\": \"Pod\", \"spec\": {\"containers\": [{\"name\": \"j\"}]}}";
    assert_eq!(find(json, None).as_deref(), Ok("j"));

    let error = find(&of(&[side, side]), None).unwrap_err();
    assert!(error.ends_with("--container NAME:\n  pod/p/c0\n  pod/p/c1"), "{error}");
    let both = of(&["image: ratelimit", "image: ratelimit:1"]);
    assert!(find(&both, None).unwrap_err().starts_with("more than one container runs ratelimit"));
    assert!(find(&two, Some("c9")).unwrap_err().starts_with("no container has this name"));
    assert!(find("kind: Service\n", None).unwrap_err().starts_with("there is no pod"));
}

#[test]
fn containers_with_the_same_name_are_chosen_by_workload() {
    let deployment = |namespace: &str, name: &str, image: &str| {
        format!(
            "kind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
             template:\n    spec:\n      containers:\n      - {{name: ratelimit, image: {image}}}\n"
        )
    };
    let two = [deployment("\"\"", "a", "a"), deployment("x", "b", "b")].join("---\n");
    let error = find(&two, Some("ratelimit")).unwrap_err();
    assert!(
        error.ends_with("--container NAME:\n  deployment/a/ratelimit\n  x/deployment/b/ratelimit"),
        "{error}"
    );
    let image = |wanted: &str| {
        let source = SourceFile { name: "a".into(), bytes: two.as_bytes().to_vec() };
        let documents = documents::read(&source);
        let pod = Pod::find(&source.name, &documents, Some(wanted));
        pod.map(|pod| manifest::text(pod.container, "image").to_owned())
    };
    for wanted in ["b/ratelimit", "Deployment/b/ratelimit", "x/deployment/b/ratelimit"] {
        assert_eq!(image(wanted).as_deref(), Ok("b"), "{wanted}");
    }
    assert_eq!(image("a/ratelimit").as_deref(), Ok("a"));
    assert!(image("limit").is_err() && image("").is_err());
}

/// An object that keeps `pod` from adding its own rules.
const NO_RULES: &str = "---\nkind: A\nmetadata: {name: rules}\n";

#[test]
fn objects_in_other_namespaces_are_ignored() {
    let within = |namespace: &str, others: &str| {
        let metadata = format!("kind: Pod\nmetadata: {{name: p, namespace: {namespace}}}\n");
        pod("", "", others).replace("kind: Pod\n", &metadata)
    };
    let map = |namespace: &str, rules: &str| {
        format!(
            "---\nkind: ConfigMap\nmetadata: {{name: rules, namespace: {namespace}}}\n\
             data: {{a.yaml: \"{rules}\"}}\n"
        )
    };
    let (good, bad) = ("domain: d", "domain: [d]");
    let mistake = "will not start: `domain` is a list, expected a string";
    let both = [map("y", bad), map("x", good)].concat();
    let text = format!("{}{both}", within("x", NO_RULES));
    check(&text, &[]);
    let elsewhere = format!("{}{both}", within("z", NO_RULES));
    check(&elsewhere, &["note: some rules were not compared: they may be in the ConfigMap rules"]);
    // An object without a namespace may be in the namespace of the pod.
    let text = format!("{}{}", within("\"\"", NO_RULES), map("y", bad));
    check(&text, &[mistake]);

    let service = |namespace: &str| {
        format!("---\nkind: Service\nmetadata: {{name: grpc, namespace: {namespace}}}\n")
    };
    check(&within("x", &service("y")), &[]);
    check(&within("x", &service("x")), &["will not start: a Service is called grpc"]);
}

#[test]
fn a_byte_order_mark_and_a_compose_file_are_recognized() {
    let mark = format!("\u{feff}{SAME}");
    let (out, status) = run(mark.as_bytes(), &Migration::default());
    assert!(matches!(status, Ok(CommandStatus::Positive)), "{out} {status:?}");
    let compose = "version: '3'\nservices:\n  ratelimit:\n    image: envoyproxy/ratelimit\n";
    let (_, status) = run(compose.as_bytes(), &Migration::default());
    let error = status.unwrap_err().to_string();
    let expected = "this is a file of Docker Compose, expected the variables of its service";
    assert!(error.contains(expected) && error.lines().count() == 1, "{error}");
}

#[test]
fn the_container_of_tollgate_is_chosen_beside_others_and_is_already_migrated() {
    let manifest = concat!(
        include_str!("../../../../k8s/redis.yaml"),
        "---\n",
        include_str!("../../../../k8s/tollgate.yaml")
    );
    let (out, status) = run(manifest.as_bytes(), &Migration::default());
    assert!(matches!(status, Ok(CommandStatus::Positive)), "{status:?}");
    assert_eq!(
        out,
        "input: the container deployment/tollgate/tollgate already runs tollgate: nothing to \
         migrate\n"
    );
    for (container, chosen) in [
        ("image: a, command: [/usr/local/bin/tollgate]", true),
        ("image: \"registry:5000/tollgate:1\"", true),
        ("image: ratelimit, command: [tollgate]", false),
        ("image: a, command: [sh, -c, tollgate]", false),
    ] {
        let text = format!("kind: Pod\nspec:\n  containers:\n  - {{name: c, {container}}}\n");
        let (out, _) = run(text.as_bytes(), &Migration::default());
        assert_eq!(out.contains("already runs tollgate"), chosen, "{container}");
    }
}
