//! Flows of the tests of Envoy's reference service, with its settings: those that change
//! rules.

use std::{fs, path::Path};

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitResponse,
    rate_limit_response::{Code, DescriptorStatus, RateLimit, rate_limit::Unit},
};
use tempfile::TempDir;
use testkit::{
    grpc::{self, Client, request_for},
    tollgate::Tollgate,
    wait::eventually,
    xds::{XdsServer, domain_config, rule, with_children, with_limit},
};

const BASIC: &str = "
domain: basic
descriptors:
  - key: key1
    rate_limit:
      unit: second
      requests_per_unit: 50
";

const RELOADED: &str = "
domain: reload
descriptors:
  - key: key1
    rate_limit:
      unit: second
      requests_per_unit: 50
  - key: block
    rate_limit:
      unit: second
      requests_per_unit: 0
";

/// Starts a service with the settings of all tests of the reference service, rules in
/// `root`, and more settings.
fn start(root: &Path, more: &[(&str, &str)]) -> Tollgate {
    let root = root.display().to_string();
    let mut settings = vec![
        ("TOLLGATE_CONFIG", ""),
        ("USE_STATSD", "false"),
        ("RUNTIME_ROOT", root.as_str()),
        ("RUNTIME_SUBDIRECTORY", "ratelimit"),
        ("RUNTIME_APPDIRECTORY", "config"),
        ("REDIS_SOCKET_TYPE", "tcp"),
        ("REDIS_PERSECOND_SOCKET_TYPE", "tcp"),
    ];
    settings.extend(more);
    Tollgate::start("", &settings)
}

/// A rule directory with the layout of the reference service and one file.
fn runtime() -> TempDir {
    let files = tempfile::tempdir().unwrap();
    let rules = files.path().join("current/ratelimit/config");
    fs::create_dir_all(&rules).unwrap();
    fs::write(rules.join("basic.yaml"), BASIC).unwrap();
    files
}

/// The response to a request with one descriptor.
async fn one(client: &mut Client, domain: &str, key: &str) -> RateLimitResponse {
    let reply = client.should_rate_limit(request_for(domain, &[(key, "foo")])).await.unwrap();
    reply.into_inner()
}

/// The response if no rule applies.
fn bare() -> RateLimitResponse {
    RateLimitResponse {
        overall_code: Code::Ok.into(),
        statuses: vec![DescriptorStatus { code: Code::Ok.into(), ..Default::default() }],
        ..Default::default()
    }
}

/// The response to the first of 50 hits per second.
fn first_of_50() -> RateLimitResponse {
    let mut response = bare();
    let status = &mut response.statuses[0];
    status.limit_remaining = 49;
    status.current_limit =
        Some(RateLimit { requests_per_unit: 50, unit: Unit::Second.into(), ..Default::default() });
    status.duration_until_reset =
        Some(envoy_types::pb::google::protobuf::Duration { seconds: 1, nanos: 0 });
    response
}

fn loads(service: &Tollgate) -> f64 {
    service.metric("ratelimit_service_config_load_success")
}

/// Waits for another load of rules after the first `before`.
fn loaded(service: &Tollgate, before: f64) {
    eventually("a load", || before < loads(service));
}

#[tokio::test]
async fn rules_follow_their_files() {
    for watch_root in ["false", "true"] {
        let files = runtime();
        let root = files.path().join("current");
        let service = start(&root, &[("RUNTIME_WATCH_ROOT", watch_root)]);
        let mut client = grpc::connect(service.grpc).await;
        assert_eq!(one(&mut client, "reload", "key1").await, bare());
        assert_eq!(one(&mut client, "basic", "key1").await, first_of_50());

        let before = loads(&service);
        assert_eq!(before, 1.0, "the first load counts");
        let file = root.join("ratelimit/config/reload.yaml");
        fs::write(&file, RELOADED).unwrap();
        loaded(&service, before);
        assert_eq!(one(&mut client, "reload", "key1").await, first_of_50());
        let blocked = one(&mut client, "reload", "block").await;
        assert_eq!(blocked.overall_code(), Code::OverLimit);

        let before = loads(&service);
        fs::remove_file(file).unwrap();
        loaded(&service, before);
        assert_eq!(one(&mut client, "reload", "block").await, bare());
    }
}

#[tokio::test]
async fn the_time_until_the_reset_decreases() {
    let files = runtime();
    let rules = "domain: another\ndescriptors:\n- key: key4\n  \
                 rate_limit: { unit: day, requests_per_unit: 20 }\n";
    fs::write(files.path().join("current/ratelimit/config/another.yaml"), rules).unwrap();
    let service = start(&files.path().join("current"), &[]);
    let mut client = grpc::connect(service.grpc).await;
    let mut until_reset = async || {
        let answer = one(&mut client, "another", "key4").await;
        answer.statuses[0].duration_until_reset.as_ref().unwrap().seconds
    };
    let first = until_reset().await;
    let mut last = first;
    while first == last {
        last = until_reset().await;
    }
    // The window may end at midnight.
    assert!(last < first || first == 1, "{first} {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_follow_the_xds_server() {
    let mut server = XdsServer::start().await;
    let server_url = server.address.to_string();
    let service = start(
        Path::new("/nowhere"),
        &[
            ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
            ("CONFIG_GRPC_XDS_NODE_ID", "init-test-node"),
            ("CONFIG_GRPC_XDS_SERVER_URL", &server_url),
        ],
    );
    let mut stream = server.accept().await;
    assert_eq!(stream.next_request().await.node.unwrap().id, "init-test-node");
    let mut client = grpc::connect(service.grpc).await;
    let year = |key, requests| with_limit(rule(key, "foo"), requests);
    let foo = domain_config("foo", vec![year("k1", 3)]);
    stream.send("1", "a", std::slice::from_ref(&foo));
    assert_eq!(stream.next_request().await.version_info, "1");
    let remaining = |answer: RateLimitResponse| answer.statuses[0].limit_remaining;
    assert_eq!(remaining(one(&mut client, "foo", "k1").await), 2);

    // A new domain, and a changed limit that keeps its counter.
    let bar = domain_config("bar", vec![with_children(rule("k2", "foo"), vec![year("k3", 1)])]);
    stream.send("2", "b", &[domain_config("foo", vec![year("k1", 10)]), bar]);
    assert_eq!(stream.next_request().await.version_info, "2");
    assert_eq!(remaining(one(&mut client, "foo", "k1").await), 8);
    assert_eq!(one(&mut client, "bar", "k2").await, bare(), "the limit is one level deeper");

    // A domain that occurs twice is rejected, and nothing changes.
    stream.send("3", "c", &[foo.clone(), foo]);
    let refused = stream.next_request().await;
    assert_eq!((refused.version_info.as_str(), refused.response_nonce.as_str()), ("2", "c"));
    assert!(refused.error_detail.unwrap().message.contains("domain"));
    assert_eq!(remaining(one(&mut client, "foo", "k1").await), 7);

    stream.send("4", "d", &[]);
    assert_eq!(stream.next_request().await.version_info, "4");
    assert_eq!(one(&mut client, "foo", "k1").await, bare());
}
