//! The container image as others run it: with the sample of Istio, and under the name and
//! with the permissions that Envoy Gateway and Istio give the process.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use tempfile::TempDir;
use testkit::{
    current_minute, http,
    network::{free_port, unused_address},
    process::Process,
    redis::RedisServer,
    tollgate::Tollgate,
    wait::eventually,
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

/// Publishes a version of a config map in `directory`, as the kubelet does.
fn publish(directory: &Path, version: &str, rules: &str) {
    let files = directory.join(version);
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("config.yaml"), rules).unwrap();
    symlink(version, directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
}

/// The HTTP status of a decision about `path`.
fn decide(to: SocketAddr, path: &str) -> u16 {
    let body = http::json_request("ratelimit", &[("PATH", path)]);
    http::send(to, "POST", "/json", &[], body.as_bytes()).status
}

#[test]
fn the_sample_of_istio_works_without_changes() {
    let data = tempfile::tempdir().unwrap();
    let config_map = data.path().join("ratelimit/config");
    publish(&config_map, "..1", &rules(1));
    symlink("..data/config.yaml", config_map.join("config.yaml")).unwrap();
    let redis = RedisServer::start();
    let url = redis.address();
    let root = data.path().to_str().unwrap();
    let ports = [free_port().to_string(), free_port().to_string()];
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
            ("PORT", &ports[0]),
            ("GRPC_HOST", "::"),
            ("GRPC_PORT", &ports[1]),
        ],
    );
    let port = service.http.port();
    let [ipv4, ipv6] = ["127.0.0.1", "[::1]"].map(|host| format!("{host}:{port}").parse().unwrap());
    for address in [ipv4, ipv6] {
        eventually("health", || http::get(address, "/healthcheck", &[]).status == 200);
    }
    loop {
        // An attempt before may have left a hit in this minute.
        redis::cmd("FLUSHALL").exec(&mut redis.client()).unwrap();
        let begin = current_minute();
        let answers = [decide(ipv4, "/productpage"), decide(ipv6, "/productpage")];
        let other = decide(ipv6, "/ratings");
        if begin == current_minute() {
            assert_eq!((answers, other), ([200, 429], 200));
            break;
        }
    }
    publish(&config_map, "..2", &rules(3));
    eventually("the new rules", || {
        http::get(ipv4, "/rlconfig", &[]).text().contains("requests_per_unit=3,")
    });
    assert_eq!(decide(ipv4, "/productpage"), 200, "the limit is higher now");
    assert!(!service.log().contains("WARN"), "{}", service.log());
}

#[test]
fn it_runs_under_the_name_of_the_reference_service_in_a_read_only_directory() {
    let files = tempfile::tempdir().unwrap();
    let image = files.path().join("image");
    fs::create_dir_all(image.join("config")).unwrap();
    fs::write(image.join("config/rules.yaml"), rules(1)).unwrap();
    symlink(Tollgate::binary(), image.join("ratelimit")).unwrap();
    let set_mode = |mode| fs::set_permissions(&image, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o555);
    let mut command = Command::new(image.join("ratelimit"));
    command.env_clear().env("LOG_FORMAT", "json").current_dir(&image);
    let address = unused_address();
    for host in ["HOST", "GRPC_HOST", "DEBUG_HOST"] {
        command.env(host, address.ip().to_string());
    }
    command.env("PORT", address.port().to_string());
    // Another service of this machine may have the default ports of all addresses.
    for port in ["GRPC_PORT", "DEBUG_PORT"] {
        command.env(port, free_port().to_string());
    }
    let mut process = Process::start("ratelimit", &mut command, TempDir::new().unwrap());
    process.wait_until("is ready", || {
        http::try_send(address, "GET", "/ready", &[], b"").is_ok_and(|reply| reply.status == 200)
    });
    assert_eq!(decide(address, "/ratings"), 200);
    process.send_signal("TERM");
    process.send_signal("TERM");
    assert!(process.wait_for_exit().success());
    assert_eq!(fs::read_dir(&image).unwrap().count(), 2, "the process wrote a file");
    set_mode(0o755);
}
