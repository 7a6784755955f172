//! Kubernetes manifests and environment files: the commands `check` and `migrate`.

#![no_main]

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::LazyLock,
};

use libfuzzer_sys::fuzz_target;
use tollgate::cli::{
    check::{self, Check, CheckedRules},
    migrate::{self, Migration},
};
use tollgate_fuzz::check_printable;

/// The file that the commands read, in memory if the system has such a folder.
static INPUT: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    folder.join(format!("tollgate-fuzz-manifest-{}", process::id()))
});

fuzz_target!(|input: &[u8]| {
    fs::write(&*INPUT, input).expect("the folder for temporary files is writable");
    let output = run_check();
    assert_eq!(output, run_check(), "the second check differs from the first");
    check_printable(&output);
    check_positions(&output, input);
    let output = run_migrate();
    assert_eq!(output, run_migrate(), "the second migration differs from the first");
    check_printable(&output);
});

fn run_check() -> String {
    let rules = CheckedRules::Paths(vec![INPUT.clone()]);
    let mut output = Vec::new();
    let status = check::check(&Check { rules, merge_domains: false }, &mut output);
    let output = String::from_utf8(output).expect("the output is UTF-8");
    format!("{output}\n{status:?}")
}

fn run_migrate() -> String {
    let migration =
        Migration { environment: Some(INPUT.clone()), verbose: true, ..Migration::default() };
    let mut output = Vec::new();
    let result = match migrate::migrate(&migration, &mut output) {
        Ok(status) => format!("{status:?}"),
        Err(error) => error.to_string(),
    };
    let output = String::from_utf8(output).expect("the output is UTF-8");
    format!("{output}\n{result}")
}

/// The lines of mistakes must be lines of the manifest.
fn check_positions(output: &str, input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let lines = text.replace("\r\n", "\n").replace('\r', "\n").split('\n').count();
    let marker = format!("{}:", INPUT.display());
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
