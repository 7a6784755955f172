//! Rules from an xDS management server.

use std::{
    net::TcpListener as Port,
    time::{Duration, Instant},
};

use envoy_types::pb::{
    envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
    google::protobuf::{Any, value::Kind},
    ratelimit::config::ratelimit::v3::RateLimitConfig,
};
use testkit::{
    http,
    prometheus::Metrics,
    tollgate::Tollgate,
    wait::eventually,
    xds::{self, TYPE_URL, XdsServer, XdsStream, domain_config, rule, with_children, with_limit},
};
use tonic::Status;

mod gateway;
mod tls;

/// Starts a service that follows this server and reconnects quickly.
fn follow(server: &str, more: &[(&str, &str)]) -> Tollgate {
    let mut settings = vec![
        ("TOLLGATE_CONFIG", ""),
        ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
        ("CONFIG_GRPC_XDS_SERVER_URL", server),
        ("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", "20ms"),
        ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "100ms"),
    ];
    settings.extend(more);
    Tollgate::start("this is not read: [", &settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_without_rule_files_is_logged() {
    let server = XdsServer::start().await;
    let service = follow(&server.address.to_string(), &[]);
    service.reload();
    eventually("the reload in the log", || {
        let log = service.log();
        if log.contains("nothing to reload: the rules come from") { Ok(()) } else { Err(log) }
    });
}

/// One domain with a limit for `user`.
fn rules(domain: &str, requests: u32) -> RateLimitConfig {
    domain_config(domain, vec![with_limit(rule("user", ""), requests)])
}

fn line(domain: &str, requests: u32) -> String {
    format!(
        "{domain}.user: unit=YEAR requests_per_unit={requests}, shadow_mode: false, quota_mode: \
         false\n"
    )
}

fn page(service: &Tollgate) -> String {
    service.rules_page()
}

fn healthy(service: &Tollgate) -> bool {
    service.is_healthy()
}

fn ask(service: &Tollgate, domain: &str, entries: &[(&str, &str)]) -> http::Reply {
    let entries: Vec<_> = entries
        .iter()
        .map(|(key, value)| serde_json::json!({ "key": key, "value": value }))
        .collect();
    let body = serde_json::json!({ "domain": domain, "descriptors": [{ "entries": entries }] });
    http::send(service.http, "POST", "/json", &[], body.to_string().as_bytes())
}

fn metric(service: &Tollgate, name: &str) -> f64 {
    service.metrics().value(name, &[])
}

/// The number of successful and failed loads of rules.
fn loads(service: &Tollgate) -> (f64, f64) {
    let of = |it| metric(service, &format!("ratelimit_service_config_load_{it}"));
    (of("success"), of("error"))
}

/// The code and the message of a rejection, after a check that it keeps `version`.
#[track_caller]
fn refusal(request: DiscoveryRequest, version: &str, nonce: &str) -> (i32, String) {
    let sent = (request.version_info.as_str(), request.response_nonce.as_str());
    assert_eq!(sent, (version, nonce));
    let detail = request.error_detail.expect("a refusal");
    (detail.code, detail.message)
}

#[track_caller]
fn assert_accepted(request: &DiscoveryRequest, version: &str, nonce: &str) {
    assert_eq!(request.error_detail, None);
    let sent = (request.version_info.as_str(), request.response_nonce.as_str());
    assert_eq!(sent, (version, nonce));
    assert_eq!(request.type_url, TYPE_URL);
}

/// The first request of a stream, from a client that has `version`.
async fn greeting(stream: &mut XdsStream, version: &str) -> DiscoveryRequest {
    let request = stream.next_request().await;
    assert_accepted(&request, version, "");
    assert!(request.node.is_some() && request.resource_names.is_empty(), "{request:?}");
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_identifies_itself_and_waits_for_rules() {
    let mut server = XdsServer::start().await;
    let service = follow(
        &format!("dns:///{}", server.address),
        &[
            ("CONFIG_GRPC_XDS_NODE_ID", "limiter"),
            ("CONFIG_GRPC_XDS_NODE_METADATA", "zone=a,rack=7"),
            ("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "Authorization:Bearer hunter2,x-a:b"),
        ],
    );
    let mut stream = server.accept().await;
    let header = |name| stream.headers.get(name).map(|it| it.to_str().unwrap());
    assert_eq!((header("authorization"), header("x-a")), (Some("Bearer hunter2"), Some("b")));
    let identity = greeting(&mut stream, "").await.node.unwrap();
    let text = |key: &str| match &identity.metadata.as_ref().unwrap().fields[key].kind {
        Some(Kind::StringValue(it)) => it.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (identity.id.as_str(), text("zone"), text("rack")),
        ("limiter", "a".into(), "7".into())
    );
    assert_eq!(metric(&service, "tollgate_xds_connected"), 1.0);

    // The server has no rules yet.
    assert!(!healthy(&service));
    let reply = ask(&service, "shop", &[("user", "ann")]);
    assert_eq!(reply.status, 503);
    assert!(reply.text().contains("no rate limit configuration loaded"), "{}", reply.text());

    stream.send("v1", "n1", &[rules("shop", 1), rules("files", 2)]);
    let accepted = stream.next_request().await;
    assert_accepted(&accepted, "v1", "n1");
    assert_eq!(accepted.node, Some(identity));
    assert_eq!(page(&service), line("files", 2) + &line("shop", 1));
    assert!(healthy(&service));
    assert_eq!(ask(&service, "shop", &[("user", "ann")]).status, 200);
    assert_eq!(ask(&service, "shop", &[("user", "ann")]).status, 429);
    assert!(!service.log().contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn valid_rules_are_accepted_and_invalid_ones_rejected_with_the_reason() {
    let mut server = XdsServer::start().await;
    let service = follow(&server.address.to_string(), &[]);
    let mut stream = server.accept().await;
    greeting(&mut stream, "").await;
    stream.send("v1", "n1", &[rules("shop", 1), rules("files", 2)]);
    assert_accepted(&stream.next_request().await, "v1", "n1");

    let mut bad = with_limit(rule("user", "ben"), 1);
    bad.rate_limit.as_mut().unwrap().unit = 0;
    let bad = domain_config("ns/gateway/http", vec![with_children(rule("a", "*"), vec![bad])]);
    stream.send("v2", "n2", &[bad, rules("shop", 5)]);
    let (code, reason) = refusal(stream.next_request().await, "v1", "n2");
    assert_eq!(code, 3);
    let place = "ns/gateway/http: descriptors[0].descriptors[0].rate_limit: ";
    assert!(reason.starts_with(place) && reason.contains("unit"), "{reason}");
    let shown = page(&service);
    assert!(shown.starts_with(&(line("files", 2) + &line("shop", 1))), "{shown}");
    assert!(shown.contains("# newer rules were rejected:\n") && shown.contains(place), "{shown}");

    stream.send("v3", "n3", &[rules("shop", 1), rules("shop", 1)]);
    let (_, reason) = refusal(stream.next_request().await, "v1", "n3");
    assert!(reason.contains("the domain `shop` is already at"), "{reason}");

    let broken = Any { type_url: TYPE_URL.into(), value: vec![0x0a, 0xff] };
    stream.send_raw("v4", "n4", vec![xds::encode(&rules("shop", 3)), broken]);
    let (_, reason) = refusal(stream.next_request().await, "v1", "n4");
    assert!(reason.starts_with("resources[1] cannot be decoded"), "{reason}");

    let type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
    let resource = Any { type_url: type_url.clone(), value: Vec::new() };
    stream.send_raw("v5", "n5", vec![resource]);
    let (_, reason) = refusal(stream.next_request().await, "v1", "n5");
    assert!(
        reason.contains("resources[0] is of the type") && reason.contains(&type_url),
        "{reason}"
    );
    let nonce = "n6".to_owned();
    stream.respond(DiscoveryResponse { type_url, nonce, ..Default::default() });
    let (_, reason) = refusal(stream.next_request().await, "v1", "n6");
    assert!(reason.contains("the response is of the type"), "{reason}");
    assert_eq!(loads(&service), (1.0, 5.0));
    assert_eq!(metric(&service, "tollgate_rules_rejected"), 1.0);

    stream.send("v7", "n7", &[rules("shop", 9)]);
    assert_accepted(&stream.next_request().await, "v7", "n7");
    assert_eq!(page(&service), line("shop", 9));
    stream.send("v8", "n8", &[]);
    assert_accepted(&stream.next_request().await, "v8", "n8");
    assert_eq!(page(&service), "");
    assert!(healthy(&service));
    assert_eq!(ask(&service, "shop", &[("user", "ann")]).status, 200);
    assert!(stream.sends_nothing().await, "there is nothing more to say");
    assert_eq!(loads(&service), (3.0, 5.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_keeps_its_rules_and_reconnects_wherever_a_stream_ends() {
    let mut server = XdsServer::start().await;
    let service = follow(&server.address.to_string(), &[]);
    // The stream ends before the first response.
    greeting(&mut server.accept().await, "").await;
    server.accept().await.fail(Status::unavailable("not yet"));
    // The stream ends after a response: the acknowledgement is lost, and the rules are
    // not.
    let stream = server.accept().await;
    stream.send("v1", "n1", &[rules("shop", 1)]);
    drop(stream);
    eventually("the rules", || page(&service) == line("shop", 1));
    // The stream ends after a rejection, and before it is received.
    let mut stream = server.accept().await;
    greeting(&mut stream, "v1").await;
    stream.send("v2", "n2", &[rules("", 1)]);
    refusal(stream.next_request().await, "v1", "n2");
    stream.fail(Status::internal("broken"));
    let mut stream = server.accept().await;
    greeting(&mut stream, "v1").await;
    stream.send("v3", "n3", &[rules("", 2)]);
    drop(stream);
    let mut stream = server.accept().await;
    greeting(&mut stream, "v1").await;
    assert!(page(&service).starts_with(&line("shop", 1)));
    assert!(healthy(&service));
    // A response that exceeds the maximum size.
    let name = "a".repeat(5 << 20);
    stream.send("v4", "n4", &[rules(&name, 1)]);
    let mut stream = server.accept().await;
    greeting(&mut stream, "v1").await;
    assert!(service.log().contains("message length too large"), "{}", service.log());
    stream.send("v5", "n5", &[rules("shop", 2)]);
    assert_accepted(&stream.next_request().await, "v5", "n5");
    assert_eq!(page(&service), line("shop", 2));

    drop((stream, server));
    eventually("the loss", || metric(&service, "tollgate_xds_connected") == 0.0);
    assert_eq!(ask(&service, "shop", &[("user", "ann")]).status, 200);
    assert!(healthy(&service));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_later_is_used() {
    let port = Port::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let service = follow(&port.to_string(), &[]);
    eventually("an attempt", || {
        service.log().contains("no connection to the xDS server").then_some(())
    });
    let mut server = XdsServer::serve(tokio::net::TcpListener::bind(port).await.unwrap(), None);
    let mut stream = server.accept().await;
    stream.send("v1", "n1", &[rules("shop", 1)]);
    greeting(&mut stream, "").await;
    assert_accepted(&stream.next_request().await, "v1", "n1");
    assert_eq!(page(&service), line("shop", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_rules_and_merged_domains_follow_their_settings() {
    let mut server = XdsServer::start().await;
    let more = [("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", "20000000"), ("MERGE_DOMAIN_CONFIG", "true")];
    let service = follow(&server.address.to_string(), &more);
    let mut stream = server.accept().await;
    greeting(&mut stream, "").await;
    let long = "x".repeat(50);
    let many = (0..100_000).map(|it| with_limit(rule("user", &format!("{long}{it}")), 1)).collect();
    let mut more = rules("more", 3);
    more.domain = "shop".into();
    stream.send("v1", "n1", &[domain_config("shop", many), more]);
    assert_accepted(&stream.next_request().await, "v1", "n1");
    assert_eq!(metric(&service, "tollgate_rules"), 100_001.0);
    assert!(page(&service).contains("shop.user: unit=YEAR requests_per_unit=3"));
    assert_eq!(ask(&service, "shop", &[("user", &format!("{long}99999"))]).status, 200);
    assert_eq!(ask(&service, "shop", &[("user", &format!("{long}99999"))]).status, 429);

    let mut deep = with_limit(rule("a", ""), 1);
    for _ in 0..40 {
        deep = with_children(rule("a", ""), vec![deep]);
    }
    stream.send("v2", "n2", &[domain_config("deep", vec![deep.clone()])]);
    let (_, reason) = refusal(stream.next_request().await, "v1", "n2");
    assert!(reason.contains("nested deeper than 64 levels"), "{reason}");
    for _ in 0..100 {
        deep = with_children(rule("a", ""), vec![deep]);
    }
    stream.send("v3", "n3", &[domain_config("deep", vec![deep])]);
    let (_, reason) = refusal(stream.next_request().await, "v1", "n3");
    assert!(reason.contains("recursion limit"), "{reason}");
}

/// A server that sends its rules again after each answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_repeats_its_rules_is_answered_ever_more_slowly() {
    let mut server = XdsServer::start().await;
    let service = follow(&server.address.to_string(), &[]);
    let mut stream = server.accept().await;
    greeting(&mut stream, "").await;
    let mut bad = rules("shop", 1);
    bad.domain.clear();
    let begin = Instant::now();
    for _ in 0..6 {
        stream.send("bad", "n", &[bad.clone()]);
        refusal(stream.next_request().await, "", "n");
    }
    // 100, 200, 400, 800 and 1600 ms.
    assert!(Duration::from_secs(3) < begin.elapsed(), "{:?}", begin.elapsed());
    let begin = Instant::now();
    for _ in 0..12 {
        stream.send("v1", "n", &[rules("shop", 1)]);
        assert_accepted(&stream.next_request().await, "v1", "n");
    }
    assert!(Duration::from_secs(1) < begin.elapsed(), "{:?}", begin.elapsed());
    let log = service.log();
    assert_eq!(log.matches("new rules rejected").count(), 1, "{log}");
    assert_eq!(log.matches("rules loaded").count(), 1, "{log}");
    assert_eq!(log.matches("sent the same rules again").count(), 1, "{log}");
}
