//! Which parts of a manifest are meant.

use super::{
    pods::{check, pod},
    *,
};

fn find(text: &str, wanted: Option<&str>) -> Result<String, String> {
    let source = SourceFile { name: "a.yaml".into(), bytes: text.as_bytes().to_vec() };
    let documents = documents::read(&source);
    let pod = Pod::find(&source.name, &documents, wanted)?;
    Ok(manifest::text(pod.container, "name").to_owned())
}

#[test]
fn the_container_is_the_one_that_runs_the_service() {
    let of = |images: &[&str]| {
        let one = |(at, it): (usize, &&str)| format!("  - {{name: c{at}, {it}}}\n");
        let list: String = images.iter().enumerate().map(one).collect();
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
    assert!(find(&both, None).unwrap_err().starts_with("more than one container may be meant"));
    assert!(find(&two, Some("c9")).unwrap_err().starts_with("none of these containers"));
    assert!(find("kind: Service\n", None).unwrap_err().starts_with("there is no pod"));
}

#[test]
fn containers_of_one_name_are_told_apart_by_their_workloads() {
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
        pod.map(|it| manifest::text(it.container, "image").to_owned())
    };
    for wanted in ["b/ratelimit", "Deployment/b/ratelimit", "x/deployment/b/ratelimit"] {
        assert_eq!(image(wanted).as_deref(), Ok("b"), "{wanted}");
    }
    assert_eq!(image("a/ratelimit").as_deref(), Ok("a"));
    assert!(image("limit").is_err() && image("").is_err());
}

/// What keeps a pod from having the usual rules behind it.
const NO_RULES: &str = "---\nkind: A\nmetadata: {name: rules}\n";

#[test]
fn objects_of_other_namespaces_are_not_looked_at() {
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
    check(&elsewhere, &["note: rules were not looked at: they may be in the ConfigMap rules"]);
    // Whoever leaves the namespace out means that of the others.
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
    assert!(matches!(status, Ok(Status::Yes)), "{out} {status:?}");
    let compose = "version: '3'\nservices:\n  ratelimit:\n    image: envoyproxy/ratelimit\n";
    let (_, status) = run(compose.as_bytes(), &Migration::default());
    let error = status.unwrap_err().to_string();
    let expected = "this is a file of Docker Compose, expected the variables of its service";
    assert!(error.contains(expected) && error.lines().count() == 1, "{error}");
}
