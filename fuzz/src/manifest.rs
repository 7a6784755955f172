//! Kubernetes manifests and environment files: the commands `check` and `migrate`.

use std::{fs, path::Path};

use tempfile::NamedTempFile;
use tollgate::{
    cli::{
        RuleInput, RulePlaces, check,
        migrate::{self, Migration},
    },
    rule_files::LinkPolicy,
};

use super::properties::check_printable;

thread_local! {
    /// The file that the commands read, in memory if the system has such a folder.
    static FILE: NamedTempFile = {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        NamedTempFile::new_in(folder).expect("the folder for temporary files is writable")
    };
}

/// Runs the target.
///
/// # Panics
///
/// If a property does not hold.
pub fn check(input: &[u8]) {
    let path = FILE.with(|file| file.path().to_owned());
    fs::write(&path, input).expect("the temporary file is writable");
    let output = run_check(&path);
    assert_eq!(output, run_check(&path), "the second check differs from the first");
    check_printable(&output);
    check_positions(&output, &path, input);
    let output = run_migrate(&path);
    assert_eq!(output, run_migrate(&path), "the second migration differs from the first");
    check_printable(&output);
}

fn run_check(path: &Path) -> String {
    let rules = RulePlaces::Paths(vec![path.to_owned()]);
    let mut output = Vec::new();
    let check = RuleInput { rules, links: LinkPolicy::Inside, merge_domains: false };
    let status = check::check(&check, &mut output);
    let output = String::from_utf8(output).expect("the output is UTF-8");
    format!("{output}\n{status:?}")
}

fn run_migrate(path: &Path) -> String {
    let environment = Some(path.to_owned());
    let migration = Migration { environment, verbose: true, ..Migration::default() };
    let mut output = Vec::new();
    let result = match migrate::migrate(&migration, &mut output) {
        Ok(status) => format!("{status:?}"),
        Err(error) => error.to_string(),
    };
    let output = String::from_utf8(output).expect("the output is UTF-8");
    format!("{output}\n{result}")
}

/// The lines of mistakes must be lines of the manifest.
fn check_positions(output: &str, path: &Path, input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let lines = text.replace("\r\n", "\n").replace('\r', "\n").split('\n').count();
    let marker = format!("{}:", path.display());
    for line in output.lines() {
        if !line.trim_start().starts_with("--> ") {
            continue;
        }
        let Some((_, position)) = line.rsplit_once(&marker) else { continue };
        let Some((number, _)) = position.split_once(':') else { continue };
        let Ok(number) = number.parse::<usize>() else { continue };
        assert!((1..=lines).contains(&number), "{line}");
    }
}
