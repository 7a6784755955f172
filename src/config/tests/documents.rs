//! The documentation of rule files agrees with the code.

use std::{env, fmt::Write as _, fs, path::Path};

use super::{
    keys::{self, KeyContext},
    *,
};

const REFERENCE: &str = include_str!("../../../docs/rules.md");
const PATH: &str = "docs/rules.md";
const TABLE_HEAD: &str = "| key | value | meaning |\n|---|---|---|\n";

/// The contexts in the order of their tables in the documentation.
const CONTEXTS: [KeyContext; 10] = [
    KeyContext::File,
    KeyContext::Descriptor,
    KeyContext::RateLimit,
    KeyContext::Calendar,
    KeyContext::Accuracy,
    KeyContext::Replaces,
    KeyContext::Http,
    KeyContext::HttpEntry,
    KeyContext::AddressMask,
    KeyContext::Skip,
];

fn rows(context: KeyContext) -> String {
    let mut rows = String::new();
    for key in keys::all() {
        if key.context == context {
            writeln!(rows, "| `{}` | {} | {} |", key.name, key.expects, key.help).unwrap();
        }
    }
    rows
}

#[test]
fn the_reference_describes_every_key() {
    let mut sections = REFERENCE.split(TABLE_HEAD);
    let mut updated = sections.next().unwrap().to_owned();
    for context in CONTEXTS {
        let section = sections.next().expect("a table for each context");
        let (_, after_table) = section.split_once("\n\n").expect("text after the table");
        updated += &format!("{TABLE_HEAD}{}\n{after_table}", rows(context));
    }
    assert_eq!(sections.next(), None);
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(PATH), updated).unwrap();
    } else {
        assert!(
            updated == REFERENCE,
            "{PATH} is out of date; `UPDATE_DOCS=1 cargo test` updates it"
        );
    }
}

#[test]
fn the_examples_of_the_reference_are_rules() {
    let mut blocks = REFERENCE.split("```yaml\n");
    blocks.next().expect("text before the first example");
    let mut examples = 0;
    for block in blocks {
        let (example, _) = block.split_once("```").expect("the end of the example");
        assert!(!rules(example).is_empty(), "{example}");
        examples += 1;
    }
    assert!(examples > 3, "{examples}");
}

#[test]
fn the_example_files_are_rules() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("a file").path();
        let bytes = fs::read(&path).expect("a file");
        files.push(SourceFile { name: path.display().to_string(), bytes });
    }
    let compiled =
        compile(&files, CompileOptions::default()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(lines(&compiled.warnings), "");
    assert!(!compiled.rules.rules().is_empty());
}
