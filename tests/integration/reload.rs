//! Rule reloads on a real file system.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use testkit::{
    http::json_request,
    tollgate::Tollgate,
    wait::{eventually, eventually_async},
};
use tokio::time::Instant;

use crate::in_process::{InProcess, pass};

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

/// The number of successful and failed loads of rules.
async fn loads(service: &InProcess) -> (f64, f64) {
    let metrics = service.metrics().await;
    let success = metrics.value("ratelimit_service_config_load_success", &[]);
    (success, metrics.value("ratelimit_service_config_load_error", &[]))
}

async fn rejected(service: &InProcess) -> f64 {
    service.metric("tollgate_rules_rejected").await
}

/// The page with exactly these rules.
fn page_of(rules: &[(&str, u32)]) -> String {
    let mut page = String::new();
    for (name, requests) in rules {
        page += &format!("{name}: unit=YEAR requests_per_unit={requests}, ");
        page += "shadow_mode: false, quota_mode: false\n";
    }
    page
}

/// Waits until exactly these rules are active, which takes a second and two polls.
async fn in_force(service: &InProcess, event: &str, expected: &[(&str, u32)]) {
    let begin = Instant::now();
    let expected = page_of(expected);
    eventually_async(event, async || service.rules_page().await == expected).await;
    assert!(begin.elapsed() < Duration::from_secs(2), "{event}: {:?}", begin.elapsed());
}

/// Waits until newer rules are rejected. Returns the reason on `/rlconfig`.
async fn rejection(service: &InProcess) -> String {
    eventually_async("the rules to be rejected", async || {
        let page = service.rules_page().await;
        let (_, reason) = page.split_once("# newer rules were rejected:\n")?;
        Some(reason.to_owned())
    })
    .await
}

/// Whether a limit applies to `user`.
async fn limited(service: &InProcess, user: &str) -> bool {
    let reply = service.post_json(&json_request("shop", &[("user", user)])).await;
    reply.text().contains("currentLimit")
}

#[tokio::test(start_paused = true)]
async fn every_way_to_change_files_is_detected() {
    let service = InProcess::start(&rules("ann", 1), &[]).await;
    let directory = service.rules();
    let file = directory.join("rules.yaml");
    in_force(&service, "the start", &[("shop.user_ann", 1)]).await;
    assert!(limited(&service, "ann").await && !limited(&service, "ben").await);

    // The test is faster than the clock of the file system, so the size has to change.
    fs::write(&file, rules("ann", 22)).unwrap();
    in_force(&service, "an edit in place", &[("shop.user_ann", 22)]).await;

    service.edit("rules.yaml", &rules("ben", 3));
    in_force(&service, "a rename over the file", &[("shop.user_ben", 3)]).await;
    assert!(limited(&service, "ben").await && !limited(&service, "ann").await);

    fs::remove_file(&file).unwrap();
    fs::write(&file, rules("ann", 44)).unwrap();
    in_force(&service, "delete and create", &[("shop.user_ann", 44)]).await;

    fs::create_dir(directory.join("below")).unwrap();
    fs::write(directory.join("below/more.yml"), domain("files")).unwrap();
    in_force(&service, "a new file", &[("files.user_ann", 1), ("shop.user_ann", 44)]).await;

    fs::rename(directory.join("below/more.yml"), directory.join("zz.yaml")).unwrap();
    in_force(&service, "another order", &[("shop.user_ann", 44), ("files.user_ann", 1)]).await;

    fs::remove_file(directory.join("zz.yaml")).unwrap();
    in_force(&service, "a file less", &[("shop.user_ann", 44)]).await;

    // The same size as before, and the modification time of an old archive.
    fs::write(&file, rules("ann", 55)).unwrap();
    let old = UNIX_EPOCH + Duration::from_secs(1);
    fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
    in_force(&service, "an old file", &[("shop.user_ann", 55)]).await;
    assert_eq!(loads(&service).await, (8.0, 0.0));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_being_written_is_not_active_in_part() {
    let mut text = "domain: shop\ndescriptors:\n".to_owned();
    let mut expected = Vec::new();
    for number in 0..40 {
        let name = format!("key{number}");
        writeln!(text, "- {{key: {name}, rate_limit: {{unit: year, requests_per_unit: 1}}}}")
            .unwrap();
        expected.push((format!("shop.{name}"), 1));
    }
    let expected: Vec<_> = expected.iter().map(|(name, limit)| (name.as_str(), *limit)).collect();
    let service = InProcess::start(&rules("ann", 1), &[]).await;
    let old = page_of(&[("shop.user_ann", 1)]);
    in_force(&service, "the start", &[("shop.user_ann", 1)]).await;
    let mut file = fs::File::create(service.rules().join("rules.yaml")).unwrap();
    for line in text.lines() {
        writeln!(file, "{line}").unwrap();
        service.remote.reload();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(service.rules_page().await, old, "{line}");
        }
    }
    in_force(&service, "the whole file", &expected).await;
    assert_eq!(loads(&service).await, (2.0, 0.0));
}

/// Writes a version of a volume as the kubelet does: the files are links into `..data`,
/// which is a link to a directory and is replaced by a rename.
fn mount(volume: &Path, version: &str, files: &[(&str, String)]) {
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
    for entry in fs::read_dir(volume).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !name.starts_with("..") && !files.iter().any(|(file, _)| *file == name) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    if let Ok(old) = old {
        fs::remove_dir_all(volume.join(old)).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn each_version_of_a_config_map_is_loaded() {
    let volume = tempfile::tempdir().unwrap();
    mount(volume.path(), "..2026_01_01_1", &[("rules.yaml", rules("ann", 1))]);
    let path = volume.path().to_str().unwrap();
    let service = InProcess::start("", &[("TOLLGATE_CONFIG", path)]).await;
    in_force(&service, "the first volume", &[("shop.user_ann", 1)]).await;
    for version in 2..5 {
        let name = format!("..2026_01_01_{version}");
        mount(volume.path(), &name, &[("rules.yaml", rules("ann", version))]);
        in_force(&service, "an exchange", &[("shop.user_ann", version)]).await;
    }
    let files = [("a.yaml", domain("files")), ("rules.yaml", rules("ben", 7))];
    mount(volume.path(), "..2026_01_02", &files);
    in_force(&service, "a file more", &[("files.user_ann", 1), ("shop.user_ben", 7)]).await;
    mount(volume.path(), "..2026_01_03", &[("a.yaml", domain("files"))]);
    in_force(&service, "a file less", &[("files.user_ann", 1)]).await;
    // A file that was also read as `..data/…` would define its domain twice.
    assert_eq!(loads(&service).await, (6.0, 0.0));
}

#[tokio::test(start_paused = true)]
async fn invalid_rules_keep_the_active_ones() {
    let service = InProcess::start(&rules("ann", 1), &[]).await;
    assert_eq!(rejected(&service).await, 0.0);
    service.edit("rules.yaml", &rules("ben", 2).replace("unit:", "unt:"));
    let reason = rejection(&service).await;
    let place = format!("{}:5:", service.rules().join("rules.yaml").display());
    assert!(reason.contains(&place) && reason.contains("did you mean `unit`?"), "{reason}");
    assert!(!reason.contains("unt"), "the page shows no text of the files: {reason}");
    assert!(reason.lines().all(|it| it.starts_with("# ")), "{reason}");
    assert!(limited(&service, "ann").await && !limited(&service, "ben").await);
    assert_eq!(rejected(&service).await, 1.0);
    assert_eq!(loads(&service).await, (1.0, 1.0));
    // Another reload does not report it again.
    service.remote.reload();
    pass(Duration::from_secs(20)).await;
    assert_eq!(loads(&service).await, (1.0, 1.0));
    fs::write(service.rules().join("notes.txt"), "").unwrap();
    service.edit("zz.yaml", &rules("ben", 2).replace("shop", "other"));
    eventually_async("the next refusal", async || loads(&service).await == (1.0, 2.0)).await;
    fs::remove_file(service.rules().join("zz.yaml")).unwrap();
    eventually_async("the first again", async || loads(&service).await == (1.0, 3.0)).await;

    service.edit("rules.yaml", &rules("ben", 2));
    in_force(&service, "a correction", &[("shop.user_ben", 2)]).await;
    assert_eq!(rejected(&service).await, 0.0);
    assert_eq!(loads(&service).await, (2.0, 3.0));
}

#[tokio::test(start_paused = true)]
async fn the_page_does_not_show_the_text_of_files_that_are_not_rules() {
    let service = InProcess::start(&rules("ann", 1), &[]).await;
    for text in [
        "REDIS_AUTH=s3cret\0GRPC_HOST=0.0.0.0\0",
        "s3cret",
        "s3cret: {",
        "\"s3cret\": s3cret\n",
        "- s3cret: s3cret",
        "domain: !s3cret a\n",
        "domain: shop\ndescriptors: s3cret\n",
        "root:s3cret:0:0\ndaemon:s3cret:1:1\n",
        "-----BEGIN PRIVATE KEY-----\ns3cret\n-----END PRIVATE KEY-----\n",
        "domain: shop\ndescriptors: [{key: s3cret, rate_limit: {unit: s3cret, \
         requests_per_unit: s3cret, calendar: {time_zone: s3cret}}}, {key: s3cret}, {key: s3cret}]",
    ] {
        let failed = loads(&service).await.1;
        service.edit("b.yaml", text);
        eventually_async(text, async || failed < loads(&service).await.1).await;
        let page = service.rules_page().await;
        assert!(page.contains("# newer rules were rejected:\n"), "{page}");
        assert!(page.contains("b.yaml:") && !page.contains("s3cret"), "{text}: {page}");
    }
    fs::remove_file(service.rules().join("b.yaml")).unwrap();
    let secret = service.rules().parent().unwrap().join("secret");
    fs::write(&secret, "s3cret").unwrap();
    symlink(&secret, service.rules().join("c.yaml")).unwrap();
    eventually_async("the refusal of the link", async || {
        rejection(&service).await.contains("c.yaml: this link leads out of the rules, to /")
    })
    .await;
    assert!(limited(&service, "ann").await);
}

#[tokio::test(start_paused = true)]
async fn names_of_files_and_keys_cannot_add_lines_to_the_page() {
    let service = InProcess::start(&rules("ann", 1), &[]).await;
    let rule = rules(r#""evil\n# fake\e[31m""#, 2).replace("shop", r#""d\nomain""#);
    service.edit("b.yaml", &rule);
    let page = eventually_async("two rules", async || {
        let page = service.rules_page().await;
        if page.contains("evil") { Some(page) } else { None }
    })
    .await;
    assert!(!page.contains("\n#") && !page.contains('\x1b'), "{page:?}");
    service.edit("a\n# fake\x1b.yaml", "no: rules");
    let reason = rejection(&service).await;
    assert!(reason.contains("fake") && !reason.contains("\n# fake"), "{reason:?}");
    assert!(!reason.contains('\x1b'), "{reason:?}");
}

#[tokio::test(start_paused = true)]
async fn deleted_rules_stay_active() {
    let service = InProcess::start(&rules("ann", 1), &[]).await;
    fs::remove_file(service.rules().join("rules.yaml")).unwrap();
    assert!(rejection(&service).await.contains("no rule file is in this directory"));
    assert!(limited(&service, "ann").await);
    fs::remove_dir(service.rules()).unwrap();
    eventually_async("a loss", async || loads(&service).await == (1.0, 2.0)).await;
    let reason = rejection(&service).await;
    assert!(reason.contains("cannot read this: No such file or directory"), "{reason}");
    assert!(limited(&service, "ann").await);
    fs::create_dir(service.rules()).unwrap();
    service.edit("rules.yaml", &rules("ben", 2));
    in_force(&service, "their return", &[("shop.user_ben", 2)]).await;
}

#[tokio::test(start_paused = true)]
async fn unchanged_rules_are_not_loaded_again() {
    let service = InProcess::start(&rules("ann", 1), &[]).await;
    let file = service.rules().join("rules.yaml");
    fs::write(&file, rules("ann", 1)).unwrap();
    fs::File::open(&file).unwrap().set_modified(UNIX_EPOCH).unwrap();
    pass(Duration::from_secs(20)).await;
    service.edit("rules.yaml", &rules("ann", 1));
    pass(Duration::from_secs(20)).await;
    service.remote.reload();
    pass(Duration::from_secs(20)).await;
    assert_eq!(loads(&service).await, (1.0, 0.0));
    service.edit("rules.yaml", &rules("ann", 2));
    in_force(&service, "a change", &[("shop.user_ann", 2)]).await;
    assert_eq!(loads(&service).await, (2.0, 0.0));
}

#[test]
fn each_rejection_is_logged_once_with_its_reason() {
    let service = Tollgate::start(&rules("ann", 1), &[]);
    let rejections = |number: f64| {
        eventually("a rejection", || {
            service.metric("ratelimit_service_config_load_error") == number
        });
    };
    service.replace_rules("rules.yaml", &rules("ben", 2).replace("unit:", "unt:"));
    rejections(1.0);
    service.reload();
    service.wait_for_log("read the rule files again: they are unchanged");
    service.replace_rules("zz.yaml", &domain("other"));
    rejections(2.0);
    fs::remove_file(service.rules_directory().join("zz.yaml")).unwrap();
    rejections(3.0);
    // One line of JSON for each rejection.
    let place = format!("{}:5:", service.rules_directory().join("rules.yaml").display());
    eventually("the log", || service.log().matches("new rules rejected").count() == 3);
    for line in service.log().lines() {
        assert!(!line.contains("new rules rejected") || line.contains(&place), "{line}");
    }
    fs::remove_dir_all(service.rules_directory()).unwrap();
    service.wait_for_log("No such file or directory");
}

#[test]
fn sighup_reloads_and_does_not_end_the_process() {
    let mut service = Tollgate::start(&rules("ann", 1), &[("DRAIN_DELAY", "0s")]);
    for requests in 2..6 {
        service.replace_rules("rules.yaml", &rules("ann", requests));
        service.reload();
        let expected = page_of(&[("shop.user_ann", requests)]);
        eventually("SIGHUP", || service.rules_page() == expected);
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
    for (path, reasons) in [
        (None, &["rules.yaml:4:", "rules.yaml:5:", "eon", "kei"][..]),
        (Some(empty.path()), &["no rule file is in this directory"]),
        (Some(&missing), &["No such file or directory"]),
        (Some(&link), &["No such file or directory"]),
        (Some(Path::new("/dev/null")), &["neither a file nor a directory"]),
        (Some(Path::new("/proc/self/mem")), &["cannot read this", "error"]),
    ] {
        let ports = free_ports();
        let texts = ports.map(|it| it.to_string());
        let mut settings = vec![("PORT", &*texts[0]), ("GRPC_PORT", &*texts[1])];
        settings.push(("DEBUG_PORT", &*texts[2]));
        if let Some(path) = path {
            settings.push(("TOLLGATE_CONFIG", path.to_str().unwrap()));
        }
        let mut process = Tollgate::launch(bad, &settings);
        let status = process.wait_for_exit();
        let log = process.log();
        assert!(!status.success() && status.code().is_some(), "{status:?}: {log}");
        for reason in reasons.iter().chain(&["cannot load the rules of"]) {
            assert!(log.contains(reason), "{path:?}: {reason}: {log}");
        }
        assert!(!log.contains("listening"), "{log}");
        for port in ports {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap_err();
        }
    }
}
