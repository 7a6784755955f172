//! Rule reloads on a real file system.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};
use testkit::{http, tollgate::Tollgate, wait::eventually};

/// Rules of `shop` with a limit for one user.
fn rules(user: &str, requests: u32) -> String {
    format!(
        "domain: shop\ndescriptors:\n- key: user\n  value: {user}\n  \
         rate_limit: {{ unit: year, requests_per_unit: {requests} }}\n"
    )
}

/// Another domain with a single rule.
fn domain(name: &str) -> String {
    rules("ann", 1).replace("shop", name)
}

fn page(service: &Tollgate) -> String {
    service.rules_page()
}

/// The number of successful and failed loads of rules.
fn loads(service: &Tollgate) -> (f64, f64) {
    let metrics = service.metrics();
    let of = |it| metrics.value(&format!("ratelimit_service_config_load_{it}"), &[]);
    (of("success"), of("error"))
}

fn rejected(service: &Tollgate) -> f64 {
    service.metric("tollgate_rules_rejected")
}

/// Waits until exactly these rules are active.
#[track_caller]
fn in_force(service: &Tollgate, what: &str, expected: &[(&str, u32)]) {
    let begin = Instant::now();
    let line = |(name, requests): &(&str, u32)| {
        format!(
            "{name}: unit=YEAR requests_per_unit={requests}, shadow_mode: false, quota_mode: false\n"
        )
    };
    let expected: String = expected.iter().map(line).collect();
    eventually(&format!("{what} to be in force"), || page(service) == expected);
    println!("{what}: in force after {:?}", begin.elapsed());
}

/// Waits until newer rules are rejected. Returns the reason on `/rlconfig`.
fn refused(service: &Tollgate) -> String {
    let text = eventually("the rules to be refused", || {
        let text = page(service);
        text.contains("# newer rules were refused:\n").then_some(text)
    });
    text.split_once("# newer rules were refused:\n").unwrap().1.to_owned()
}

/// Whether a limit applies to `user`.
fn limited(service: &Tollgate, user: &str) -> bool {
    let body = format!(
        r#"{{"domain":"shop","descriptors":[{{"entries":[{{"key":"user","value":"{user}"}}]}}]}}"#
    );
    http::send(service.http, "POST", "/json", &[], body.as_bytes()).text().contains("currentLimit")
}

#[test]
fn every_way_to_change_files_is_detected() {
    let service = Tollgate::start(&rules("ann", 1), &[]);
    let directory = service.rules_directory();
    let file = directory.join("rules.yaml");
    in_force(&service, "the start", &[("shop.user_ann", 1)]);
    assert!(limited(&service, "ann") && !limited(&service, "ben"));

    fs::write(&file, rules("ann", 2)).unwrap();
    in_force(&service, "an edit in place", &[("shop.user_ann", 2)]);

    service.replace_rules("rules.yaml", &rules("ben", 3));
    in_force(&service, "a rename over the file", &[("shop.user_ben", 3)]);
    assert!(limited(&service, "ben") && !limited(&service, "ann"));

    fs::remove_file(&file).unwrap();
    fs::write(&file, rules("ann", 4)).unwrap();
    in_force(&service, "delete and create", &[("shop.user_ann", 4)]);

    fs::create_dir(directory.join("below")).unwrap();
    fs::write(directory.join("below/more.yml"), domain("files")).unwrap();
    in_force(&service, "a new file", &[("files.user_ann", 1), ("shop.user_ann", 4)]);

    fs::rename(directory.join("below/more.yml"), directory.join("zz.yaml")).unwrap();
    in_force(&service, "another order", &[("shop.user_ann", 4), ("files.user_ann", 1)]);

    fs::remove_file(directory.join("zz.yaml")).unwrap();
    in_force(&service, "a file less", &[("shop.user_ann", 4)]);

    // The same size as before, and the modification time of an old archive.
    fs::write(&file, rules("ann", 5)).unwrap();
    let old = std::time::UNIX_EPOCH + Duration::from_secs(1);
    fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
    in_force(&service, "an old file", &[("shop.user_ann", 5)]);
    assert_eq!(loads(&service), (8.0, 0.0));
}

/// Writes a version of a volume as the kubelet does: the files are links into `..data`,
/// which is a link to a directory and is replaced by a rename.
fn mount(volume: &Path, version: &str, files: &[(&str, &str)]) {
    let real = volume.join(version);
    fs::create_dir_all(&real).unwrap();
    for (name, text) in files {
        fs::write(real.join(name), text).unwrap();
    }
    let old = fs::read_link(volume.join("..data"));
    symlink(version, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    for (name, _) in files {
        let link = volume.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    for link in fs::read_dir(volume).unwrap().map(|it| it.unwrap().path()) {
        let name = link.file_name().unwrap().to_str().unwrap();
        if !name.starts_with("..") && !files.iter().any(|it| it.0 == name) {
            fs::remove_file(&link).unwrap();
        }
    }
    if let Ok(old) = old {
        fs::remove_dir_all(volume.join(old)).unwrap();
    }
}

#[test]
fn each_version_of_a_config_map_is_loaded() {
    let volume = tempfile::tempdir().unwrap();
    mount(volume.path(), "..2026_01_01_1", &[("rules.yaml", &rules("ann", 1))]);
    let path = volume.path().to_str().unwrap();
    let service = Tollgate::start("", &[("TOLLGATE_CONFIG", path)]);
    in_force(&service, "the first volume", &[("shop.user_ann", 1)]);
    for version in 2..5 {
        let name = format!("..2026_01_01_{version}");
        mount(volume.path(), &name, &[("rules.yaml", &rules("ann", version))]);
        in_force(&service, "an exchange", &[("shop.user_ann", version)]);
    }
    let files = [("a.yaml", &*domain("files")), ("rules.yaml", &*rules("ben", 7))];
    mount(volume.path(), "..2026_01_02", &files);
    in_force(&service, "a file more", &[("files.user_ann", 1), ("shop.user_ben", 7)]);
    mount(volume.path(), "..2026_01_03", &[("a.yaml", &domain("files"))]);
    in_force(&service, "a file less", &[("files.user_ann", 1)]);
    // A file that was also read as `..data/…` would define its domain twice.
    assert_eq!(loads(&service), (6.0, 0.0));
}

#[test]
fn invalid_rules_keep_the_active_ones() {
    let service = Tollgate::start(&rules("ann", 1), &[]);
    assert_eq!(rejected(&service), 0.0);
    service.replace_rules("rules.yaml", &rules("ben", 2).replace("unit:", "unt:"));
    let reason = refused(&service);
    let place = format!("{}:5:", service.rules_directory().join("rules.yaml").display());
    assert!(reason.contains(&place) && reason.contains("unt"), "{reason}");
    assert!(reason.lines().all(|it| it.starts_with("# ")), "{reason}");
    assert!(limited(&service, "ann") && !limited(&service, "ben"));
    assert_eq!(rejected(&service), 1.0);
    assert_eq!(loads(&service), (1.0, 1.0));
    // Another reload does not report it again.
    service.reload();
    fs::write(service.rules_directory().join("notes.txt"), "").unwrap();
    service.replace_rules("zz.yaml", &rules("ben", 2).replace("shop", "other"));
    eventually("the next refusal", || loads(&service) == (1.0, 2.0));
    fs::remove_file(service.rules_directory().join("zz.yaml")).unwrap();
    eventually("the first again", || loads(&service) == (1.0, 3.0));
    // One line of JSON for each rejection.
    eventually("the log", || {
        (service.log().matches("new rules rejected").count() == 3).then_some(())
    });
    let log = service.log();
    let mut lines = log.lines().filter(|it| it.contains("new rules rejected"));
    assert!(lines.all(|it| it.contains(&place)), "{log}");

    service.replace_rules("rules.yaml", &rules("ben", 2));
    in_force(&service, "a correction", &[("shop.user_ben", 2)]);
    assert_eq!(rejected(&service), 0.0);
    assert_eq!(loads(&service), (2.0, 3.0));
}

#[test]
fn deleted_rules_stay_active() {
    let service = Tollgate::start(&rules("ann", 1), &[]);
    fs::remove_file(service.rules_directory().join("rules.yaml")).unwrap();
    assert!(refused(&service).contains("no rule file is in this directory"));
    assert!(limited(&service, "ann"));
    fs::remove_dir(service.rules_directory()).unwrap();
    eventually("the loss of the directory", || loads(&service) == (1.0, 2.0));
    let reason = refused(&service);
    assert!(reason.contains("cannot read this: No such file or directory"), "{reason}");
    assert!(service.log().contains("No such file or directory"), "{}", service.log());
    assert!(limited(&service, "ann"));
    fs::create_dir(service.rules_directory()).unwrap();
    service.replace_rules("rules.yaml", &rules("ben", 2));
    in_force(&service, "their return", &[("shop.user_ben", 2)]);
}

#[test]
fn unchanged_rules_are_not_loaded_again() {
    let service = Tollgate::start(&rules("ann", 1), &[]);
    let file = service.rules_directory().join("rules.yaml");
    fs::write(&file, rules("ann", 1)).unwrap();
    fs::File::open(&file).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    service.replace_rules("rules.yaml", &rules("ann", 1));
    service.reload();
    // Once a later change is loaded, the earlier ones have been processed.
    service.replace_rules("rules.yaml", &rules("ann", 2));
    in_force(&service, "a change", &[("shop.user_ann", 2)]);
    assert_eq!(loads(&service), (2.0, 0.0));
}

#[test]
fn sighup_reloads_and_does_not_end_the_process() {
    let mut service = Tollgate::start(&rules("ann", 1), &[]);
    for requests in 2..6 {
        service.replace_rules("rules.yaml", &rules("ann", requests));
        service.reload();
        in_force(&service, "SIGHUP", &[("shop.user_ann", requests)]);
    }
    service.stop();
}

/// Different ports that refuse connections.
fn free_ports() -> [u16; 3] {
    let sockets = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    sockets.each_ref().map(|it| it.local_addr().unwrap().port())
}

#[test]
fn without_rules_the_start_fails_with_the_reason() {
    let bad = "domain: shop\ndescriptors:\n- key: user\n  rate_limit: { unit: eon }\n- kei: user\n";
    let files = tempfile::tempdir().unwrap();
    let missing = files.path().join("missing");
    let link = files.path().join("rules.yaml");
    symlink("nowhere", &link).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let of = |path: &Path| path.to_str().unwrap().to_owned();
    for (path, reasons) in [
        (None, &["rules.yaml:4:", "rules.yaml:5:", "eon", "kei"][..]),
        (Some(of(empty.path())), &["no rule file is in this directory"]),
        (Some(of(&missing)), &["No such file or directory"]),
        (Some(of(&link)), &["No such file or directory"]),
        (Some("/dev/null".to_owned()), &["neither a file nor a directory"]),
        (Some("/proc/self/mem".to_owned()), &["cannot read this", "error"]),
    ] {
        let ports = free_ports();
        let texts = ports.map(|it| it.to_string());
        let mut settings = vec![("PORT", &*texts[0]), ("GRPC_PORT", &*texts[1])];
        settings.push(("DEBUG_PORT", &*texts[2]));
        settings.extend(path.iter().map(|it| ("TOLLGATE_CONFIG", &**it)));
        let mut process = Tollgate::launch(bad, &settings);
        let status = process.wait_for_exit();
        let log = process.log();
        assert!(!status.success() && status.code().is_some(), "{status:?}: {log}");
        for reason in reasons.iter().chain(&["tollgate: cannot load the rules of"]) {
            assert!(log.contains(reason), "{path:?}: {reason}: {log}");
        }
        assert!(!log.contains("listening"), "{log}");
        for port in ports {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap_err();
        }
    }
}
