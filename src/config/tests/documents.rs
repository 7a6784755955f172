//! What is written about rule files is true.

use super::{
    keys::{Home, Key},
    *,
};

const REFERENCE: &str = include_str!("../../../docs/rules.md");

#[test]
fn the_reference_tells_of_every_key() {
    let limits = [Home::RateLimit, Home::Calendar, Home::Accuracy, Home::Replaces];
    for home in [Home::File, Home::Descriptor].into_iter().chain(limits) {
        let mut table = "| key | value | meaning |\n|---|---|---|\n".to_owned();
        for Key { name, expects, help, .. } in keys::KEYS.iter().filter(|it| it.home == home) {
            table += &format!("| `{name}` | {expects} | {help} |\n");
        }
        assert!(REFERENCE.contains(&format!("{table}\n")), "docs/rules.md lacks this:\n{table}");
    }
}

#[test]
fn the_examples_of_the_reference_are_rules() {
    let examples: Vec<_> = REFERENCE
        .split("```yaml\n")
        .skip(1)
        .map(|it| it.split("```").next().expect("an end"))
        .collect();
    assert!(examples.len() > 3, "{}", examples.len());
    for example in examples {
        assert!(!rules(example).is_empty(), "{example}");
    }
}

#[test]
fn the_example_files_are_rules() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("a file").path();
        let bytes = std::fs::read(&path).expect("a file");
        files.push(SourceFile { name: path.display().to_string(), bytes });
    }
    let compiled = compile(&files, CompileOptions::default()).unwrap_or_else(|it| panic!("{it}"));
    assert_eq!(lines(&compiled.warnings), "");
    assert!(!compiled.rules.rules().is_empty());
}
