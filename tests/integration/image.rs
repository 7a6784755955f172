//! How the image is run by others: Istio's sample, and the name and the rights
//! that Envoy Gateway and Istio give the process.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use crate::support::{
    eventually, http, minute, process::Process, redis::RedisServer, tollgate::Tollgate,
};

/// The rules of the sample, with this limit for `/productpage`.
fn rules(requests: u32) -> String {
    format!(
        "domain: ratelimit
descriptors:
  - key: PATH
    value: \"/productpage\"
    rate_limit:
      unit: minute
      requests_per_unit: {requests}
  - key: PATH
    rate_limit:
      unit: minute
      requests_per_unit: 100
"
    )
}

/// Brings a new version of a config map to `directory`, as the kubelet does.
fn exchange(directory: &Path, version: &str, rules: &str) {
    let at = |it: &str| directory.join(it);
    fs::create_dir_all(at(version)).unwrap();
    fs::write(at(version).join("config.yaml"), rules).unwrap();
    symlink(version, at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
}

fn status(to: SocketAddr, path: &str) -> u16 {
    let body = serde_json::json!({
        "domain": "ratelimit",
        "descriptors": [{ "entries": [{ "key": "PATH", "value": path }] }],
    });
    http::send(to, "POST", "/json", &[], body.to_string().as_bytes()).status
}

#[test]
fn the_sample_of_istio_works_as_it_is() {
    let data = tempfile::tempdir().unwrap();
    let map = data.path().join("ratelimit/config");
    exchange(&map, "..1", &rules(1));
    symlink("..data/config.yaml", map.join("config.yaml")).unwrap();
    let redis = RedisServer::start();
    let url = format!("127.0.0.1:{}", redis.port());
    let root = data.path().to_str().unwrap();
    let service = Tollgate::start(
        "",
        &[
            ("TOLLGATE_CONFIG", ""),
            ("LOG_LEVEL", "debug"),
            ("REDIS_SOCKET_TYPE", "tcp"),
            ("REDIS_URL", &url),
            ("USE_STATSD", "false"),
            ("RUNTIME_ROOT", root),
            ("RUNTIME_SUBDIRECTORY", "ratelimit"),
            ("RUNTIME_WATCH_ROOT", "false"),
            ("RUNTIME_IGNOREDOTFILES", "true"),
            ("HOST", "::"),
            ("GRPC_HOST", "::"),
        ],
    );
    let port = service.http.port();
    let [four, six] = ["127.0.0.1", "[::1]"].map(|it| format!("{it}:{port}").parse().unwrap());
    for address in [four, six] {
        eventually("health", || {
            (http::get(address, "/healthcheck", &[]).status == 200).then_some(())
        });
    }
    loop {
        // A minute that has just ended may have left a hit in the next.
        redis::cmd("FLUSHALL").exec(&mut redis.client()).unwrap();
        let begin = minute();
        let answers = [status(four, "/productpage"), status(six, "/productpage")];
        let other = status(six, "/ratings");
        if begin == minute() {
            assert_eq!((answers, other), ([200, 429], 200));
            break;
        }
    }
    exchange(&map, "..2", &rules(3));
    eventually("the new rules", || {
        let rules = http::get(four, "/rlconfig", &[]).text();
        rules.contains("requests_per_unit=3,").then_some(())
    });
    assert_eq!(status(four, "/productpage"), 200, "it has room again");
    assert!(service.log().lines().all(|it| !it.contains("WARN")), "{}", service.log());
}

#[test]
fn it_runs_under_the_name_of_the_reference_where_nothing_can_be_written() {
    let files = tempfile::tempdir().unwrap();
    let at = |it: &str| files.path().join(it);
    fs::create_dir_all(at("image/config")).unwrap();
    fs::write(at("image/config/rules.yaml"), rules(1)).unwrap();
    symlink(env!("CARGO_BIN_EXE_tollgate"), at("image/ratelimit")).unwrap();
    let of_image = |mode| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(at("image"), permissions).unwrap();
    };
    of_image(0o555);
    let mut command = Command::new(at("image/ratelimit"));
    command.env_clear().env("LOG_FORMAT", "json").current_dir(at("image"));
    for (host, port) in [("HOST", "PORT"), ("GRPC_HOST", "GRPC_PORT"), ("DEBUG_HOST", "DEBUG_PORT")]
    {
        command.env(host, "127.0.0.1").env(port, "0");
    }
    let mut process = Process::start("ratelimit", &mut command, at("log"));
    let address = process.until("listens", |log| Tollgate::address(log, "http"));
    assert_eq!(http::get(address, "/ready", &[]).status, 200);
    assert_eq!(status(address, "/ratings"), 200);
    process.signal("TERM");
    process.signal("TERM");
    assert!(process.ended(crate::support::SOON).success());
    let left: Vec<_> =
        fs::read_dir(at("image")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    of_image(0o755);
}
