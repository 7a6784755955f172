//! tollgate as the rate-limit service of a real Envoy Gateway in standalone mode. It needs
//! the sandbox of `make test-gateway`.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "these are tests"
)]

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use testkit::{
    network, process::Process, redis::RedisServer, tollgate::Tollgate, upstream, wait::eventually,
};

const RESOURCES: &str = include_str!("resources.yaml");

/// Has a `SecurityPolicy`, which the test applies.
const PAGE: &str = include_str!("../../docs/ext_authz.md");

/// A policy for both routes, without its rules.
const POLICY: &str = "
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: policy, namespace: default}
spec:
  targetRefs:
  - {group: gateway.networking.k8s.io, kind: HTTPRoute, name: one}
  - {group: gateway.networking.k8s.io, kind: HTTPRoute, name: two}
  rateLimit:
    type: Global
    global:
      rules:
";

/// Envoy Gateway, which starts an Envoy.
struct Gateway {
    _process: Process,
    resources: PathBuf,
}

impl Gateway {
    /// Starts the control plane with the resources in `directory`.
    fn start(directory: &Path) -> Self {
        let home = env::var("ENVOY_GATEWAY_HOME").expect("run this with `make test-gateway`");
        let resources = directory.join("resources.yaml");
        let config = format!(
            "
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyGateway
gateway: {{controllerName: gateway.envoyproxy.io/gatewayclass-controller}}
provider:
  type: Custom
  custom:
    resource: {{type: File, file: {{paths: [{home}/secret.yaml, {}]}}}}
    infrastructure:
      type: Host
      host: {{configHome: {home}, dataHome: {home}, stateHome: {home}, runtimeDir: {home}/run}}
rateLimit: {{timeout: 10s, backend: {{type: Redis, redis: {{url: 'redis://127.0.0.1:6379'}}}}}}
extensionApis: {{enableBackend: true}}
",
            resources.display()
        );
        let files = TempDir::new().unwrap();
        let config_file = files.path().join("config.yaml");
        fs::write(&config_file, config).unwrap();
        let mut command = Command::new(env::var_os("ENVOY_GATEWAY").unwrap());
        command.args(["server", "--config-path"]).arg(config_file);
        Self { _process: Process::start("Envoy Gateway", &mut command, files), resources }
    }

    /// Replaces the policy by one with these rules; without any rule, removes it.
    fn set_rules(&self, rules: &[&str]) {
        write_resources(&self.resources, rules);
    }
}

fn write_resources(path: &Path, rules: &[&str]) {
    let mut text = String::new();
    if !rules.is_empty() {
        text += POLICY;
    }
    for rule in rules {
        text += &format!("      - {rule}\n");
    }
    write_with(path, &text);
}

/// Writes the resources without policies, and `more`.
fn write_with(path: &Path, more: &str) {
    let mut text = RESOURCES.replace("UPSTREAM_PORT", &upstream::address().port().to_string());
    text += more;
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// A service with the settings that Envoy Gateway gives to its rate-limit service, except
/// for the ports that its control plane takes here.
fn start_tollgate(redis: &RedisServer) -> Tollgate {
    Tollgate::start_at(
        network::unused_host(),
        "",
        &[
            ("TOLLGATE_CONFIG", ""),
            ("GRPC_HOST", "127.0.0.1"),
            ("GRPC_PORT", "8081"),
            ("LOG_LEVEL", "info"),
            ("USE_STATSD", "false"),
            ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
            ("CONFIG_GRPC_XDS_SERVER_URL", "envoy-gateway:18001"),
            ("CONFIG_GRPC_XDS_NODE_ID", "envoy-ratelimit"),
            ("GRPC_SERVER_USE_TLS", "true"),
            ("GRPC_SERVER_TLS_CERT", "/certs/tls.crt"),
            ("GRPC_SERVER_TLS_KEY", "/certs/tls.key"),
            ("GRPC_SERVER_TLS_CA_CERT", "/certs/ca.crt"),
            ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", "/certs/tls.crt"),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", "/certs/tls.key"),
            ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", "/certs/ca.crt"),
            ("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", "1s"),
            ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true"),
            ("REDIS_SOCKET_TYPE", "tcp"),
            ("REDIS_URL", &redis.address()),
            ("USE_PROMETHEUS", "true"),
        ],
    )
}

/// The status of a request through Envoy, from a loopback address and with a header
/// `x-user`; 0 if there is no answer.
fn status(path: &str, user: &str, from: Ipv4Addr) -> u16 {
    let mut command = Command::new("curl");
    command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--interface", &from.to_string()]);
    command.args(["-H", &format!("x-user: {user}"), &format!("http://127.0.0.1:8888{path}")]);
    String::from_utf8(command.output().unwrap().stdout).unwrap().parse().unwrap()
}

fn ask(path: &str, user: &str) -> u16 {
    status(path, user, Ipv4Addr::LOCALHOST)
}

/// Waits until new users on both routes get exactly `passing` answers of 200 and then 429.
fn wait_for_limit(event: &str, passing: usize) {
    let mut attempt = 0;
    eventually(event, || {
        attempt += 1;
        let user = format!("{event}-{attempt}");
        let mut found = Vec::new();
        for _ in 0..=passing {
            found.push(ask("/one", &user));
        }
        let mut expected = vec![200; passing];
        expected.push(429);
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

fn per_user(requests: u32, more: &str) -> String {
    format!(
        "{{clientSelectors: [{{headers: [{{name: x-user, type: Distinct}}]}}], \
         limit: {{requests: {requests}, unit: Day}}{more}}}"
    )
}

/// The block of [`PAGE`] that contains `text`.
fn block(text: &str) -> &'static str {
    let blocks = PAGE.split("```").skip(1).step_by(2);
    let found = blocks.filter(|block| block.contains(text)).collect::<Vec<_>>();
    let [block] = found[..] else { panic!("{} blocks have {text}", found.len()) };
    block.split_once('\n').unwrap().1
}

/// The policy of [`PAGE`] for the route `one`, with `ext_auth` in place of its part for gRPC.
fn security_policy(ext_auth: &str, tollgate: SocketAddr) -> String {
    let policy = block("kind: SecurityPolicy")
        .replace("{ name: limits }", "{ name: limits, namespace: default }")
        .replace("name: shop", "name: one")
        .replace(EXT_AUTH_OF_GRPC, ext_auth)
        .replace("timeout: 250ms", "timeout: 10s");
    let policy = ["8080", "8081"].iter().fold(policy, |policy, port| {
        let page = format!("{{ name: tollgate, port: {port} }}");
        policy.replace(&page, "{ group: gateway.envoyproxy.io, kind: Backend, name: tollgate }")
    });
    let (ip, port) = (tollgate.ip(), tollgate.port());
    format!(
        "---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{name: tollgate, namespace: default}}
spec:
  endpoints:
  - ip: {{address: {ip}, port: {port}}}
---
{policy}"
    )
}

const EXT_AUTH_OF_GRPC: &str = "    grpc:
      backendRefs: [{ name: tollgate, port: 8081 }]
    contextExtensions: [{ name: domain, type: Value, value: example }]
";

/// The examples of the documentation for `ext_authz`, by gRPC and by HTTP.
fn check_external_authorization(resources: &Path) {
    let rules = block("domain: example\nhttp:").replace("minute", "year");
    let service = Tollgate::start(&rules.replace("100,", "1000000,"), &[]);
    let policy = block("kind: SecurityPolicy");
    assert!(policy.contains(EXT_AUTH_OF_GRPC), "{policy}");
    for (name, ext_auth, address) in [
        ("by-grpc", EXT_AUTH_OF_GRPC, service.grpc),
        ("by-http", block("backendRefs: [{ name: tollgate, port: 8080 }]"), service.http),
    ] {
        write_with(resources, &security_policy(ext_auth, address));
        wait_for_limit(name, 3);
        assert_eq!([(); 5].map(|()| ask("/two", "free")), [200; 5], "{name}");
    }
}

#[test]
fn a_real_envoy_gateway_uses_tollgate() {
    let redis = RedisServer::start();
    // Before the gateway, which otherwise takes port 8081.
    let service = start_tollgate(&redis);
    let directory = TempDir::new().unwrap();
    write_resources(&directory.path().join("resources.yaml"), &[&per_user(3, "")]);
    let gateway = Gateway::start(directory.path());
    eventually("an answer of Envoy", || ask("/one", "nobody") == 200);

    wait_for_limit("basic", 3);
    // Each route has counters of its own.
    assert_eq!([ask("/one", "ann"), ask("/two", "ann")], [200, 200]);
    gateway.set_rules(&[&per_user(5, "")]);
    wait_for_limit("edited", 5);

    let by_address = "{clientSelectors: [{sourceCIDR: {value: 127.0.0.0/24, type: Distinct}}], \
                      limit: {requests: 2, unit: Day}}";
    gateway.set_rules(&[by_address]);
    let mut last = 0;
    eventually("a limit per address", || {
        last += 1;
        let from = Ipv4Addr::new(127, 0, 0, last);
        // Other users, so that the previous limit does not apply.
        ["a", "b", "c"].map(|user| status("/one", &format!("{user}-{last}"), from))
            == [200, 200, 429]
    });
    let outside = Ipv4Addr::new(127, 0, 9, 9);
    assert_eq!(["a", "b", "c"].map(|user| status("/one", user, outside)), [200; 3]);

    gateway.set_rules(&[&per_user(2, ", shared: true")]);
    let mut attempt = 0;
    eventually("a limit shared by the routes", || {
        attempt += 1;
        let user = format!("shared-{attempt}");
        ["/one", "/two", "/one", "/two"].map(|path| ask(path, &user)) == [200, 200, 429, 429]
    });

    gateway.set_rules(&[&per_user(1, ", shadowMode: true")]);
    eventually("a rule in shadow mode", || service.rules_page().contains("shadow_mode: true"));
    assert_eq!([(); 3].map(|()| ask("/one", "shadow")), [200; 3]);

    gateway.set_rules(&[]);
    eventually("no rules", || service.rules_page().is_empty());
    assert_eq!([(); 9].map(|()| ask("/one", "free")), [200; 9]);

    gateway.set_rules(&[&per_user(4, "")]);
    wait_for_limit("again", 4);
    let rules = service.rules_page();
    let losses = service.log().matches("no connection to the xDS server").count();
    drop(gateway);
    eventually("the loss of the control plane", || {
        service.log().matches("no connection to the xDS server").count() > losses
    });
    assert!(service.is_ready());
    assert_eq!(service.rules_page(), rules);
    write_resources(&directory.path().join("resources.yaml"), &[&per_user(2, "")]);
    let _gateway = Gateway::start(directory.path());
    wait_for_limit("after the restart", 2);

    check_external_authorization(&directory.path().join("resources.yaml"));
}
