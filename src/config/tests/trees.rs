use super::*;

fn map<const N: usize>(fields: [(&'static str, TreeValue); N]) -> TreeValue {
    TreeValue::Map(fields.map(|(key, value)| (key.into(), value)).into())
}

fn text(text: &str) -> TreeValue {
    TreeValue::Text(text.into())
}

fn limit(unit: &str) -> TreeValue {
    map([("unit", text(unit)), ("requests_per_unit", TreeValue::Number(1.0))])
}

fn tree<const N: usize>(name: &str, domain: &str, descriptors: [TreeValue; N]) -> SourceTree {
    let descriptors = TreeValue::List(descriptors.into());
    let root = map([("domain", text(domain)), ("descriptors", descriptors)]);
    SourceTree { name: name.into(), root }
}

#[track_caller]
fn check(trees: &[SourceTree], expected: &[&str]) {
    let errors = compile_trees(trees, CompileOptions::default()).expect_err("there are errors");
    assert_eq!(lines(errors.iter()).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn errors_name_the_tree_and_the_path_in_it() {
    let good = || map([("key", text("a")), ("rate_limit", limit("day"))]);
    let below = map([("key", text("b")), ("rate_limit", limit("eon"))]);
    let above = map([("key", text("a/*")), ("descriptors", TreeValue::List(vec![good(), below]))]);
    let nameless = map([("rate_limit", map([("requests_per_unit", TreeValue::Number(0.5))]))]);
    check(
        &[
            tree("ns/gateway/http", "one", [above, good(), good()]),
            tree("two", "", [nameless]),
            tree("three", "one", []),
        ],
        &[
            "ns/gateway/http: descriptors[0].descriptors[1].rate_limit.unit: `eon` is not a unit \
             of time (expected one of second, minute, hour, day, week, month, year)",
            "ns/gateway/http: descriptors[2]: the key and value `a` are already in this list, at \
             ns/gateway/http: descriptors[1] (remove one of them)",
            "two: domain: there is no `domain`, expected one that is not empty (add `domain: …` \
             at the top)",
            "two: descriptors[0]: the descriptor has no `key`, expected one that is not empty",
            "two: descriptors[0].rate_limit: the limit has no `unit`, expected one, a `period`, or \
             `unlimited: true` (expected one of second, minute, hour, day, week, month, year)",
            "two: descriptors[0].rate_limit.requests_per_unit: `requests_per_unit` is `0.5`, \
             expected a whole number from 0 to 4294967295",
            "three: domain: the domain `one` is already at ns/gateway/http: domain (put all of it \
             into one file, or switch on the merging of domains)",
        ],
    );
}

#[test]
fn numbers_and_texts_keep_their_types() {
    let metadata = map([
        ("yes", TreeValue::Bool(true)),
        ("1", TreeValue::Number(1e300)),
        ("half", TreeValue::Number(-0.5)),
        ("text", text("1.5")),
        ("null", TreeValue::Null),
        ("empty", text("")),
        ("list", TreeValue::List(vec![TreeValue::Number(7.0), text("~")])),
    ]);
    let descriptor = map([
        ("key", text("1.5")),
        ("value", text("null")),
        ("metadata", metadata),
        ("rate_limit", limit("day")),
    ]);
    let compiled =
        compile_trees(&[tree("t", "no", [descriptor])], CompileOptions::default()).unwrap();
    let rule = &compiled.rules.rules()[0];
    assert_eq!(rule.stat_name().to_string(), "no.1.5_null");
    assert_eq!(&*rule.spec.location, "t: descriptors[0]");
    let expected = serde_json::json!({
        "yes": true, "1": 1e300, "half": -0.5, "text": "1.5", "null": null, "empty": "",
        "list": [7, "~"],
    });
    assert_eq!(rule.spec.metadata.as_deref(), expected.as_object());
}

#[test]
fn trees_that_are_too_deep_or_too_large_are_rejected() {
    let mut deep = map([("key", text("a"))]);
    for _ in 0..40 {
        deep = map([("key", text("a")), ("descriptors", TreeValue::List(vec![deep]))]);
    }
    let error = compile_trees(&[tree("t", "d", [deep])], CompileOptions::default()).unwrap_err();
    let error = lines(error.iter());
    assert!(error.starts_with("t: descriptors[0].descriptors[0]."), "{error}");
    assert!(error.ends_with("this is nested deeper than 64 levels of lists and maps\n"), "{error}");

    let root = map([("descriptors", TreeValue::List(vec![TreeValue::Null; 1_000_000]))]);
    let large = SourceTree { name: "t".into(), root };
    let error = compile_trees(&[large], CompileOptions::default()).unwrap_err();
    let expected = "there are more than 1000000 values, expected no more";
    assert!(lines(error.iter()).contains(expected), "{error}");
}
