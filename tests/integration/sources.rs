//! Sources of rules, and the service without rules.

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use testkit::{
    http::{Reply, json_request},
    tollgate::Tollgate,
    wait::eventually_async,
};
use tokio::time::Instant;

use crate::in_process::InProcess;

fn rules(domain: &str, requests: u32) -> String {
    format!(
        "domain: {domain}\ndescriptors:\n- key: user\n  \
         rate_limit: {{ unit: year, requests_per_unit: {requests} }}\n"
    )
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Waits until exactly these rules are active, which takes a second and two polls.
async fn in_force(service: &InProcess, rules: &[(&str, u32)]) {
    let begin = Instant::now();
    let mut expected = String::new();
    for (domain, requests) in rules {
        expected += &format!("{domain}.user: unit=YEAR requests_per_unit={requests}, ");
        expected += "shadow_mode: false, quota_mode: false\n";
    }
    eventually_async(&expected, async || service.rules_page().await == expected).await;
    assert!(begin.elapsed() < Duration::from_secs(2), "{expected}: {:?}", begin.elapsed());
}

async fn health(service: &InProcess) -> (u16, String) {
    let reply = service.get("/healthcheck").await;
    (reply.status, reply.text())
}

#[tokio::test(start_paused = true)]
async fn every_change_in_the_layout_of_the_reference_service_is_loaded() {
    for watch_root in ["true", "false"] {
        let files = tempfile::tempdir().unwrap();
        let at = |it: &str| files.path().join(it);
        write(&at("v1/ratelimit/config/shop.any"), &rules("shop", 1));
        write(&at("v1/ratelimit/notes"), "no: rules");
        write(&at("v2/ratelimit/config/deep/shop.yaml"), &rules("shop", 2));
        symlink("v1", at("current")).unwrap();
        let root = format!("{}/", at("current").display());
        let service = InProcess::start(
            "",
            &[
                ("TOLLGATE_CONFIG", ""),
                ("RUNTIME_ROOT", &root),
                ("RUNTIME_SUBDIRECTORY", "ratelimit"),
                ("RUNTIME_APPDIRECTORY", "config"),
                ("RUNTIME_WATCH_ROOT", watch_root),
            ],
        )
        .await;
        in_force(&service, &[("shop", 1)]).await;
        // The test is faster than the clock of the file system, so the size has to change.
        write(&at("v1/ratelimit/config/shop.any"), &rules("shop", 33));
        in_force(&service, &[("shop", 33)]).await;
        write(&at("v1/ratelimit/config/tap"), &rules("tap", 4));
        in_force(&service, &[("shop", 33), ("tap", 4)]).await;
        fs::remove_file(at("v1/ratelimit/config/tap")).unwrap();
        in_force(&service, &[("shop", 33)]).await;
        symlink("v2", at("next")).unwrap();
        fs::rename(at("next"), at("current")).unwrap();
        in_force(&service, &[("shop", 2)]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_config_map_is_read_once_with_and_without_dotfiles() {
    for ignore in ["true", "false"] {
        let files = tempfile::tempdir().unwrap();
        let at = |it: &str| files.path().join("ratelimit/config").join(it);
        write(&at("..1/rules.yaml"), &rules("shop", 1));
        symlink("..1", at("..data")).unwrap();
        symlink("..data/rules.yaml", at("rules.yaml")).unwrap();
        let root = files.path().display().to_string();
        let service = InProcess::start(
            "",
            &[
                ("TOLLGATE_CONFIG", ""),
                ("RUNTIME_ROOT", &root),
                ("RUNTIME_SUBDIRECTORY", "ratelimit"),
                ("RUNTIME_WATCH_ROOT", "false"),
                ("RUNTIME_IGNOREDOTFILES", ignore),
            ],
        )
        .await;
        in_force(&service, &[("shop", 1)]).await;
        write(&at("..2/rules.yaml"), &rules("shop", 2));
        symlink("..2", at("..tmp")).unwrap();
        fs::rename(at("..tmp"), at("..data")).unwrap();
        in_force(&service, &[("shop", 2)]).await;
    }
}

/// The layout of git-sync: a link to a worktree, which is replaced at each commit.
#[tokio::test(start_paused = true)]
async fn a_link_to_a_worktree_is_followed_at_each_commit() {
    let files = tempfile::tempdir().unwrap();
    let at = |it: &str| files.path().join(it);
    write(&at(".worktrees/1/rules/shop.yaml"), &rules("shop", 1));
    symlink(".worktrees/1", at("link")).unwrap();
    let path = at("link/rules").display().to_string();
    let service = InProcess::start("", &[("TOLLGATE_CONFIG", &path)]).await;
    in_force(&service, &[("shop", 1)]).await;
    write(&at(".worktrees/2/rules/deep/shop.yaml"), &rules("shop", 2));
    symlink(".worktrees/2", at("next")).unwrap();
    fs::rename(at("next"), at("link")).unwrap();
    in_force(&service, &[("shop", 2)]).await;
}

#[tokio::test(start_paused = true)]
async fn links_out_of_the_directory_are_followed_if_they_are_allowed() {
    let files = tempfile::tempdir().unwrap();
    let at = |it: &str| files.path().join(it);
    write(&at("shared.yaml"), &rules("shop", 1));
    fs::create_dir(at("rules")).unwrap();
    symlink("../shared.yaml", at("rules/shop.yaml")).unwrap();
    let path = at("rules").display().to_string();
    let settings = [("TOLLGATE_CONFIG", path.as_str()), ("ALLOW_OUTSIDE_LINKS", "true")];
    in_force(&InProcess::start("", &settings).await, &[("shop", 1)]).await;
}

#[test]
fn variables_without_an_effect_are_logged() {
    let settings = [
        ("RUNTIME_ROTO", "x"),
        ("REDIS_PIPELINE_LIMIT", "8"),
        ("REDIS_PORT", "tcp://10.0.0.1:6379"),
    ];
    let log = Tollgate::start(&rules("shop", 1), &settings).log();
    assert!(log.contains("did you mean RUNTIME_ROOT?"), "{log}");
    assert!(log.contains("REDIS_PIPELINE_LIMIT is ignored: "), "{log}");
    assert!(log.contains("in its own memory") && !log.contains("REDIS_PORT"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_forced_start_fails_requests_until_rules_are_loaded() {
    let service =
        InProcess::start("domain: 1: 2", &[("FORCE_START_WITHOUT_INITIAL_CONFIG", "true")]).await;
    assert!(ask(&service).await.text().contains("no rate limit configuration loaded"));
    assert_eq!(health(&service).await, (500, String::new()));
    service.edit("rules.yaml", &rules("shop", 1));
    eventually_async("health", async || health(&service).await == (200, "OK".to_owned())).await;
    assert_eq!(ask(&service).await.status, 200);
}

async fn ask(service: &InProcess) -> Reply {
    service.post_json(&json_request("shop", &[("user", "a")])).await
}

#[tokio::test(start_paused = true)]
async fn health_requires_a_domain_if_the_setting_is_active() {
    let files = tempfile::tempdir().unwrap();
    fs::create_dir(files.path().join("config")).unwrap();
    let settings = [
        ("TOLLGATE_CONFIG", ""),
        ("RUNTIME_ROOT", files.path().to_str().unwrap()),
        ("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "true"),
    ];
    let service = InProcess::start("", &settings).await;
    assert_eq!(health(&service).await.0, 500);
    let file = files.path().join("config/rules");
    write(&file, &rules("shop", 1));
    eventually_async("health", async || health(&service).await.0 == 200).await;
    write(&file, "domain: shop\nrules: []\n");
    eventually_async("the refusal", async || {
        service.rules_page().await.contains("# newer rules were rejected")
    })
    .await;
    assert_eq!(health(&service).await.0, 200, "a failed load changes nothing");
    fs::remove_file(file).unwrap();
    eventually_async("the loss of health", async || health(&service).await.0 == 500).await;
}
