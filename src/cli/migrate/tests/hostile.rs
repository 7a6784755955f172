use super::*;
use crate::config::MAX_BYTES;

/// Checks that the input is rejected with an error that contains `expected`.
#[track_caller]
fn check(text: &[u8], expected: &str) {
    let (out, status) = run(text, &Migration::default());
    let error = status.unwrap_err().to_string();
    assert!(error.contains(expected), "{error:.1000}");
    assert!(out.is_empty(), "{out:.1000}");
}

const POD: &str = "kind: Pod\nspec:\n  containers:\n  - name: a\n";

#[test]
fn input_that_is_not_text_is_rejected() {
    check(b"A=\xff\n", "this is not text");
    check(b"A=\0\n", "this is not text");
    check(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0], "this is not text");
    check("a".repeat(MAX_BYTES + 1).as_bytes(), "this is too long");
}

#[test]
fn too_many_variables_are_rejected() {
    let many: String = (0..20_000).map(|index| format!("A{index}=b\n")).collect();
    check(many.as_bytes(), "there are too many variables");
    let long = format!("A={}\n", "x".repeat(3 << 20));
    check(long.as_bytes(), "there are too many variables");
}

#[test]
fn the_list_of_invalid_lines_is_limited() {
    check("!\n".repeat(100_000).as_bytes(), "\n  and 99980 more");
}

#[test]
fn yaml_bombs_are_rejected() {
    let mut bomb = String::from("kind: List\na0: &a0 [x]\n");
    for index in 1..40 {
        let (alias, last) = (format!("*a{},", index - 1).repeat(9), index - 1);
        bomb += &format!("a{index}: &a{index} [{alias} *a{last}]\n");
    }
    check(bomb.as_bytes(), "add more than 1000000 nodes");
    check(b"kind: &a [*a]\n", "the alias is inside the node that it refers to");
    check(format!("kind: {}", "[".repeat(100_000)).as_bytes(), "nested deeper");
    check(b"kind: {{ .Values.kind }}\nspec: [\n", "this is not a valid manifest");
}

#[test]
fn the_length_of_expanded_values_is_limited() {
    let mut text = format!("{POD}    env:\n    - {{name: A0, value: xxxxxxxxxx}}\n");
    for index in 1..2000 {
        let last = index - 1;
        text += &format!("    - {{name: A{index}, value: \"$(A{last})$(A{last})\"}}\n");
    }
    let (out, status) = run(text.as_bytes(), &Migration::default());
    // About twenty values reach the limit for all variables.
    let refused = status.is_err_and(|error| error.to_string().contains("too many variables"));
    assert!(refused || out.contains(" the same"), "{out:.1000}");
}

#[test]
fn the_length_of_mounted_rules_is_limited() {
    let text = format!(
        "kind: ConfigMap\nmetadata: {{name: r}}\ndata:\n  a: &a {}\n{}---\n{POD}    volumeMounts:\n    \
         - {{name: v, mountPath: /data/config}}\n    env:\n    - {{name: RUNTIME_ROOT, value: \
         /data}}\n  volumes:\n  - {{name: v, configMap: {{name: r}}}}\n",
        "x".repeat(1 << 20),
        (0..20).map(|index| format!("  b{index}: *a\n")).collect::<String>(),
    );
    check(text.as_bytes(), "the mounted rules are longer than");
}

#[test]
fn a_missing_file_is_an_error() {
    for (environment, rules) in [(Some("/nowhere/a"), None), (None, Some("/nowhere/b"))] {
        let migration = Migration {
            environment: environment.map(Into::into),
            rules: rules.map(Into::into),
            ..Migration::default()
        };
        let error = migrate(&migration, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/"), "{error}");
    }
}
