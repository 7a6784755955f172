//! Flows of the tests of Envoy's reference service, with its settings: those that change
//! rules.

use std::{fs, time::Duration};

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitResponse,
    rate_limit_response::{Code, DescriptorStatus, RateLimit, rate_limit::Unit},
};
use tempfile::TempDir;
use testkit::{
    grpc::{self, Client, decide, request_for},
    tollgate::{Tollgate, write_old},
    wait::eventually_async,
    xds::{XdsServer, domain_config, rule, with_children, with_limit},
};
use tokio::time::advance;

use crate::in_process::InProcess;

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

/// The settings of all tests of the reference service, and more.
fn settings<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut settings = vec![
        ("TOLLGATE_CONFIG", ""),
        ("USE_STATSD", "false"),
        ("RUNTIME_SUBDIRECTORY", "ratelimit"),
        ("RUNTIME_APPDIRECTORY", "config"),
        ("REDIS_SOCKET_TYPE", "tcp"),
        ("REDIS_PERSECOND_SOCKET_TYPE", "tcp"),
    ];
    settings.extend(more);
    settings
}

/// A rule directory with the layout of the reference service and one file.
fn runtime() -> TempDir {
    let files = tempfile::tempdir().unwrap();
    let rules = files.path().join("current/ratelimit/config");
    fs::create_dir_all(&rules).unwrap();
    write_old(&rules.join("basic.yaml"), BASIC);
    files
}

/// The response to a request with one descriptor.
async fn one(client: &mut Client, domain: &str, key: &str) -> RateLimitResponse {
    decide(client, request_for(domain, &[(key, "foo")])).await
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

async fn loads(service: &InProcess) -> f64 {
    service.metric("ratelimit_service_config_load_success").await
}

/// Waits until rules have been loaded `number` times.
async fn loaded(service: &InProcess, number: f64) {
    eventually_async("a load", async || loads(service).await == number).await;
}

#[tokio::test(start_paused = true)]
async fn rules_follow_their_files() {
    for watch_root in ["false", "true"] {
        let files = runtime();
        let root = files.path().join("current");
        let more = [("RUNTIME_ROOT", root.to_str().unwrap()), ("RUNTIME_WATCH_ROOT", watch_root)];
        let service = InProcess::start("", &settings(&more)).await;
        let mut client = service.grpc().await;
        assert_eq!(one(&mut client, "reload", "key1").await, bare());
        assert_eq!(one(&mut client, "basic", "key1").await, first_of_50());

        assert_eq!(loads(&service).await, 1.0, "the first load counts");
        let file = root.join("ratelimit/config/reload.yaml");
        fs::write(&file, RELOADED).unwrap();
        loaded(&service, 2.0).await;
        assert_eq!(one(&mut client, "reload", "key1").await, first_of_50());
        let blocked = one(&mut client, "reload", "block").await;
        assert_eq!(blocked.overall_code(), Code::OverLimit);

        fs::remove_file(file).unwrap();
        loaded(&service, 3.0).await;
        assert_eq!(one(&mut client, "reload", "block").await, bare());
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_until_the_reset_decreases() {
    let files = runtime();
    let rules = "domain: another\ndescriptors:\n- key: key4\n  \
                 rate_limit: { unit: day, requests_per_unit: 20 }\n";
    write_old(&files.path().join("current/ratelimit/config/another.yaml"), rules);
    let root = files.path().join("current");
    let service =
        InProcess::start("", &settings(&[("RUNTIME_ROOT", root.to_str().unwrap())])).await;
    let mut client = service.grpc().await;
    for seconds in [86_400, 86_399, 86_398] {
        let answer = one(&mut client, "another", "key4").await;
        assert_eq!(answer.statuses[0].duration_until_reset.as_ref().unwrap().seconds, seconds);
        advance(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_follow_the_xds_server() {
    let mut server = XdsServer::start().await;
    let server_url = server.address.to_string();
    let more = [
        ("RUNTIME_ROOT", "/nowhere"),
        ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
        ("CONFIG_GRPC_XDS_NODE_ID", "init-test-node"),
        ("CONFIG_GRPC_XDS_SERVER_URL", &server_url),
    ];
    let service = Tollgate::start("", &settings(&more));
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
