//! Sources of rules, and the service without rules.

use std::{fs, os::unix::fs::symlink, path::Path};
use testkit::{http, tollgate::Tollgate, wait::eventually};

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

/// Waits until exactly these rules are active.
#[track_caller]
fn in_force(service: &Tollgate, expected: &[(&str, u32)]) {
    let line = |(name, requests): &(&str, u32)| {
        format!(
            "{name}.user: unit=YEAR requests_per_unit={requests}, shadow_mode: false, quota_mode: \
             false\n"
        )
    };
    let expected: String = expected.iter().map(line).collect();
    let page = || service.rules_page();
    eventually(&expected, || page() == expected);
}

fn health(service: &Tollgate) -> (u16, String) {
    let answer = http::get(service.http, "/healthcheck", &[]);
    (answer.status, answer.text())
}

#[test]
fn every_change_in_the_layout_of_the_reference_service_is_loaded() {
    for watch_root in ["true", "false"] {
        let files = tempfile::tempdir().unwrap();
        let at = |it: &str| files.path().join(it);
        write(&at("v1/ratelimit/config/shop.any"), &rules("shop", 1));
        write(&at("v1/ratelimit/notes"), "no: rules");
        write(&at("v2/ratelimit/config/deep/shop.yaml"), &rules("shop", 2));
        symlink("v1", at("current")).unwrap();
        let root = format!("{}/", at("current").display());
        let service = Tollgate::start(
            "",
            &[
                ("TOLLGATE_CONFIG", ""),
                ("RUNTIME_ROOT", &root),
                ("RUNTIME_SUBDIRECTORY", "ratelimit"),
                ("RUNTIME_APPDIRECTORY", "config"),
                ("RUNTIME_WATCH_ROOT", watch_root),
            ],
        );
        in_force(&service, &[("shop", 1)]);
        write(&at("v1/ratelimit/config/shop.any"), &rules("shop", 3));
        in_force(&service, &[("shop", 3)]);
        write(&at("v1/ratelimit/config/tap"), &rules("tap", 4));
        in_force(&service, &[("shop", 3), ("tap", 4)]);
        fs::remove_file(at("v1/ratelimit/config/tap")).unwrap();
        in_force(&service, &[("shop", 3)]);
        symlink("v2", at("next")).unwrap();
        fs::rename(at("next"), at("current")).unwrap();
        in_force(&service, &[("shop", 2)]);
    }
}

#[test]
fn a_config_map_is_read_once_with_and_without_dotfiles() {
    for ignore in ["true", "false"] {
        let files = tempfile::tempdir().unwrap();
        let at = |it: &str| files.path().join("ratelimit/config").join(it);
        write(&at("..1/rules.yaml"), &rules("shop", 1));
        symlink("..1", at("..data")).unwrap();
        symlink("..data/rules.yaml", at("rules.yaml")).unwrap();
        let root = files.path().display().to_string();
        let service = Tollgate::start(
            "",
            &[
                ("TOLLGATE_CONFIG", ""),
                ("RUNTIME_ROOT", &root),
                ("RUNTIME_SUBDIRECTORY", "ratelimit"),
                ("RUNTIME_WATCH_ROOT", "false"),
                ("RUNTIME_IGNOREDOTFILES", ignore),
                ("RUNTIME_ROTO", "x"),
                ("REDIS_PIPELINE_LIMIT", "8"),
                ("REDIS_PORT", "tcp://10.0.0.1:6379"),
            ],
        );
        in_force(&service, &[("shop", 1)]);
        write(&at("..2/rules.yaml"), &rules("shop", 2));
        symlink("..2", at("..tmp")).unwrap();
        fs::rename(at("..tmp"), at("..data")).unwrap();
        in_force(&service, &[("shop", 2)]);
        let log = service.log();
        assert!(log.contains("did you mean RUNTIME_ROOT?"), "{log}");
        assert!(log.contains("REDIS_PIPELINE_LIMIT is ignored: "), "{log}");
        assert!(log.contains("in its own memory") && !log.contains("REDIS_PORT"), "{log}");
    }
}

#[test]
fn a_forced_start_fails_requests_until_rules_are_loaded() {
    let service =
        Tollgate::start("domain: 1: 2", &[("FORCE_START_WITHOUT_INITIAL_CONFIG", "true")]);
    let body = br#"{"domain":"shop","descriptors":[{"entries":[{"key":"user","value":"a"}]}]}"#;
    let ask = || http::send(service.http, "POST", "/json", &[], body);
    assert!(ask().text().contains("no rate limit configuration loaded"));
    assert_eq!(health(&service), (500, String::new()));
    service.replace_rules("rules.yaml", &rules("shop", 1));
    eventually("health", || (health(&service) == (200, "OK".into())).then_some(()));
    assert_eq!(ask().status, 200);
}

#[test]
fn health_requires_a_domain_if_the_setting_is_active() {
    let files = tempfile::tempdir().unwrap();
    fs::create_dir(files.path().join("config")).unwrap();
    let root = files.path().display().to_string();
    let service = Tollgate::start(
        "",
        &[
            ("TOLLGATE_CONFIG", ""),
            ("RUNTIME_ROOT", &root),
            ("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "true"),
        ],
    );
    let until = |status| {
        eventually("health", || health(&service).0 == status);
    };
    until(500);
    let file = files.path().join("config/rules");
    write(&file, &rules("shop", 1));
    until(200);
    write(&file, "domain: shop\nrules: []\n");
    eventually("the refusal", || service.log().contains("new rules rejected"));
    assert_eq!(health(&service).0, 200, "a failed load changes nothing");
    fs::remove_file(file).unwrap();
    until(500);
}
