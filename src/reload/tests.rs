use std::{
    fs::{self, File},
    path::Path,
    time::UNIX_EPOCH,
};

use super::*;

const VALID: &str = "domain: shop\ndescriptors: [{ key: user, rate_limit: { unlimited: true } }]\n";

fn reloader(path: &Path) -> Reloader {
    let metrics = Arc::new(Metrics::new(0.8));
    let (rules, health, rejection) = Default::default();
    let active = ActiveRules { rules, metrics, health, rejection };
    Reloader::new(RuleSource::Path(path.to_owned()), CompileOptions::default(), active)
}

/// The number of successful loads, and of failed loads.
fn loads(reloader: &Reloader) -> (u64, u64) {
    let text: String = reloader.active.metrics.prometheus().collect();
    let value = |name: &str| {
        let name = format!("ratelimit_service_config_load_{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&*name)).expect("line is there");
        value.parse().expect("a number")
    };
    (value("success"), value("error"))
}

#[test]
fn the_same_contents_are_loaded_or_rejected_only_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yaml");
    let mut reloader = reloader(directory.path());
    fs::write(&file, VALID).unwrap();
    assert_eq!(reloader.load().unwrap(), Loaded::New);
    let rules = reloader.active.rules.load_full();
    File::options().write(true).open(&file).unwrap().set_modified(UNIX_EPOCH).unwrap();
    assert_eq!(reloader.load().unwrap(), Loaded::Unchanged);
    fs::remove_file(&file).unwrap();
    fs::write(&file, VALID).unwrap();
    reloader.load().unwrap();
    assert!(Arc::ptr_eq(&rules, &reloader.active.rules.load_full()));
    assert_eq!(loads(&reloader), (1, 0));

    fs::write(&file, "domain: shop\nrules: []\n").unwrap();
    reloader.load().unwrap_err();
    reloader.load().unwrap();
    assert!(Arc::ptr_eq(&rules, &reloader.active.rules.load_full()));
    assert!(reloader.active.rejection.load().as_ref().unwrap().contains("rules.yaml:2:1"));
    assert_eq!(loads(&reloader), (1, 1));

    fs::write(&file, VALID).unwrap();
    reloader.load().unwrap();
    assert!(reloader.active.rejection.load().is_none());
    assert_eq!(loads(&reloader), (2, 1));
}

#[test]
fn another_read_error_is_another_rejection() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yaml");
    let mut reloader = reloader(&file);
    let missing = reloader.load().unwrap_err().to_string();
    assert!(missing.ends_with("cannot read this: No such file or directory (os error 2)"));
    std::os::unix::fs::symlink("rules.yaml", &file).unwrap();
    let circle = reloader.load().unwrap_err().to_string();
    assert!(circle.contains("symbolic links"), "{circle}");
    assert_eq!(loads(&reloader), (0, 2));
}
