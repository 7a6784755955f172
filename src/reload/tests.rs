use std::{
    fs::{self, File},
    path::Path,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::{Duration, UNIX_EPOCH},
};

use super::*;
use crate::time::ManualClock;

const VALID: &str = "domain: shop\ndescriptors: [{ key: user, rate_limit: { unlimited: true } }]\n";

fn reloader(path: &Path) -> Reloader {
    let metrics = Arc::new(Metrics::new(0.8));
    let (rules, health, rejection) = Default::default();
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_000)));
    let active = ActiveRules { rules, metrics, health, rejection, clock, live: None };
    let source = RuleSource::Path(path.to_owned());
    Reloader::new(source, LinkPolicy::Inside, CompileOptions::default(), active)
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

/// Files whose reads do not end while `hangs` is true.
#[derive(Clone)]
struct HungSource {
    hangs: Arc<AtomicBool>,
    source: LinkedSource,
}

impl Source for HungSource {
    fn fingerprint(&self) -> u64 {
        self.source.fingerprint()
    }

    fn read(&self) -> Result<Vec<SourceFile>, ReadError> {
        while self.hangs.load(SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        self.source.read()
    }
}

/// Waits until `holds`.
async fn until(event: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            time::sleep(Duration::from_millis(10)).await;
        }
    };
    let limit = Duration::from_secs(60);
    time::timeout(limit, wait).await.unwrap_or_else(|_| panic!("no {event}"));
}

#[tokio::test]
async fn a_read_that_never_ends_is_reported_and_later_edits_are_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yaml");
    fs::write(&file, VALID).unwrap();
    let mut reloader = reloader(directory.path());
    reloader.load().unwrap();
    reloader.reads = Reads::new(Duration::from_millis(200));
    let active = reloader.active.clone();
    let source = LinkedSource { source: reloader.source.clone(), links: reloader.links };
    let hangs = Arc::new(AtomicBool::new(true));
    let source = HungSource { hangs: Arc::clone(&hangs), source };
    let (_trigger, messages) = mpsc::channel(1);
    let watch = tokio::spawn(reloader.watch_source(source, ReloadTrigger::Channel(messages)));

    until("report", || active.rejection.load().is_some()).await;
    let reason = active.rejection.load().as_ref().unwrap().to_string();
    assert!(reason.contains("a read did not end within 200ms"), "{reason}");
    let page: String = active.metrics.prometheus().collect();
    assert!(page.contains("tollgate_rules_rejected 1\n"), "{page}");
    assert!(!page.contains("tollgate_rule_reads_hung_total 0\n"), "{page}");

    fs::write(&file, VALID.replace("user", "users")).unwrap();
    hangs.store(false, SeqCst);
    until("new rules", || active.rejection.load().is_none()).await;
    let rules = active.rules.load_full();
    assert_eq!(rules.rules()[0].stat_name().to_string(), "shop.users");
    watch.abort();
}
