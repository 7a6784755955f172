//! Holds `src/` to the map in `lib.rs`.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "this is all tests"
)]

mod names;
mod plants;
mod rules;

use std::{
    fs,
    path::{Path, PathBuf},
};

use self::names::{ModulePath, Names};

/// A file that is longer does more than one thing.
const MAX_LINES: usize = 500;

/// A source file.
struct Source {
    path: PathBuf,
    text: String,
    module: ModulePath,
    names: Names,
}

impl Source {
    fn read(path: PathBuf, text: String) -> Self {
        let module = module_path(&path);
        let names = Names::read(&module, &syn::parse_file(&text).unwrap());
        Self { path, text, module, names }
    }

    fn top(&self) -> &str {
        self.module.first().map_or("", String::as_str)
    }
}

#[test]
fn all_files_follow_the_rules() {
    let complaints = rules::complaints(&sources());
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn files_stay_short() {
    for source in sources() {
        let lines = source.text.lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines", source.path.display());
    }
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    collect(Path::new("src"), &mut found);
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && stem != "tests" {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && stem != "tests" {
            let text = fs::read_to_string(&path).unwrap();
            found.push(Source::read(path, text));
        }
    }
}

/// `src/store/memory.rs` is `store::memory`, and `src/lib.rs` is the root.
fn module_path(file: &Path) -> ModulePath {
    let module = file.strip_prefix("src").unwrap().with_extension("");
    if module == Path::new("lib") {
        return Vec::new();
    }
    module.iter().map(|part| part.to_str().unwrap().to_owned()).collect()
}
