//! `envoy.service.auth.v3.Authorization`, as a gRPC client sees it.

use std::collections::HashMap;

use envoy_types::pb::{
    envoy::{
        config::core::v3::{Address, HeaderMap, HeaderValue, SocketAddress, address},
        service::auth::v3::{
            AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse,
            attribute_context::{HttpRequest, Peer, Request},
            authorization_client::AuthorizationClient,
            check_response::HttpResponse,
        },
    },
    google::protobuf::value::Kind,
};
use prost::Message;
use testkit::raw_grpc;
use tonic::{Code, transport::Channel};

use crate::in_process::InProcess;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

const RULES: &str = "
domain: edge
http:
  trusted_hops: 2
  skip: [{ method: OPTIONS }]
  descriptors:
  - [remote_address]
  - [{ header: x-user, key: user }]
  - [{ header: x-many, key: many }, { header: x-more, key: more, default: none }]
  - [host, path, method, scheme]
descriptors:
- key: remote_address
  rate_limit: { unit: year, requests_per_unit: 1, name: per_address }
- key: user
  rate_limit: { unit: year, requests_per_unit: 1, name: per_user }
- key: host
  value: a.example
  descriptors:
  - key: path
    value: /login
    descriptors:
    - key: method
      value: POST
      descriptors:
      - key: scheme
        value: https
        rate_limit: { unit: year, requests_per_unit: 0, name: logins }
";

struct Service {
    process: InProcess,
    client: AuthorizationClient<Channel>,
}

impl Service {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let process = InProcess::start(RULES, settings).await;
        let client = AuthorizationClient::new(process.channel().await);
        Self { process, client }
    }

    async fn check(&mut self, request: CheckRequest) -> CheckResponse {
        self.client.check(request).await.unwrap().into_inner()
    }

    /// The status for the client of the proxy; 200 if the request passes.
    async fn status(&mut self, http: HttpRequest, source: &str) -> i32 {
        let response = self.check(check("edge", http, source)).await;
        match response.http_response {
            Some(HttpResponse::OkResponse(_)) => 200,
            Some(HttpResponse::DeniedResponse(denied)) => denied.status.unwrap().code,
            other => panic!("{other:?}"),
        }
    }
}

fn check(domain: &str, http: HttpRequest, source: &str) -> CheckRequest {
    let socket = SocketAddress { address: source.to_owned(), ..SocketAddress::default() };
    let address = Address { address: Some(address::Address::SocketAddress(socket)) };
    let source = Peer { address: Some(address), ..Peer::default() };
    let attributes = AttributeContext {
        source: Some(source),
        request: Some(Request { http: Some(http), ..Request::default() }),
        context_extensions: [("domain".to_owned(), domain.to_owned())].into(),
        ..AttributeContext::default()
    };
    CheckRequest { attributes: Some(attributes) }
}

fn http(headers: &[(&str, &str)]) -> HttpRequest {
    let mut all = HashMap::new();
    for (name, value) in headers {
        all.insert((*name).to_owned(), (*value).to_owned());
    }
    HttpRequest {
        method: "GET".to_owned(),
        path: "/".to_owned(),
        host: "a.example".to_owned(),
        scheme: "http".to_owned(),
        headers: all,
        ..HttpRequest::default()
    }
}

/// The same headers in the form of `encode_raw_headers`, one for each line.
fn raw_http(headers: &[(&str, &[u8])]) -> HttpRequest {
    let mut lines = Vec::new();
    for (key, value) in headers {
        lines.push(HeaderValue {
            key: (*key).to_owned(),
            raw_value: value.to_vec(),
            ..HeaderValue::default()
        });
    }
    HttpRequest { header_map: Some(HeaderMap { headers: lines }), ..http(&[]) }
}

fn denied(response: CheckResponse) -> DeniedHttpResponse {
    match response.http_response {
        Some(HttpResponse::DeniedResponse(denied)) => denied,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_names_the_rule_for_the_log_of_the_proxy() {
    let mut service = Service::start(&[]).await;
    let request = check("edge", http(&[("x-user", "ann")]), "10.0.0.1");
    let passed = service.check(request.clone()).await;
    assert_eq!((passed.status.unwrap().code, passed.dynamic_metadata), (0, None));
    let refused = service.check(request).await;
    assert_eq!(refused.status.as_ref().unwrap().code, Code::ResourceExhausted as i32);
    let metadata = refused.dynamic_metadata.as_ref().unwrap();
    let Some(Kind::StructValue(rule)) = &metadata.fields["rule"].kind else {
        panic!("{metadata:?}")
    };
    let key = rule.fields["key"].kind.clone();
    assert_eq!(key, Some(Kind::StringValue("edge.remote_address".to_owned())));
    let denied = denied(refused);
    let names: Vec<_> =
        denied.headers.iter().map(|it| it.header.as_ref().unwrap().key.as_str()).collect();
    for name in ["retry-after", "ratelimit", "ratelimit-policy", "content-type", "cache-control"] {
        assert!(names.contains(&name), "{names:?}");
    }
    // It reaches end users.
    assert!(
        denied.body.contains("per_address") && !denied.body.contains("10.0"),
        "{}",
        denied.body
    );
}

#[tokio::test(start_paused = true)]
async fn each_part_of_the_request_counts() {
    let mut service = Service::start(&[]).await;
    let login = HttpRequest {
        method: "POST".to_owned(),
        path: "//x/../%6Cogin?next=/".to_owned(),
        scheme: "https".to_owned(),
        ..http(&[])
    };
    assert_eq!(service.status(login.clone(), "10.0.0.1").await, 429);
    let others = [
        HttpRequest { method: "GET".to_owned(), ..login.clone() },
        HttpRequest { path: "/login2".to_owned(), ..login.clone() },
        HttpRequest { host: "b.example".to_owned(), ..login.clone() },
        HttpRequest { scheme: "http".to_owned(), ..login.clone() },
    ];
    for (number, other) in others.into_iter().enumerate() {
        assert_eq!(service.status(other, &format!("10.0.1.{number}")).await, 200, "{number}");
    }
    let skipped = HttpRequest { method: "OPTIONS".to_owned(), ..login };
    for _ in 0..3 {
        assert_eq!(service.status(skipped.clone(), "10.0.2.1").await, 200);
    }
}

/// Two proxies are trusted: the one that asks and the one before it.
#[tokio::test(start_paused = true)]
async fn the_peer_of_the_proxy_is_the_last_forwarded_address() {
    let mut service = Service::start(&[]).await;
    // The client 203.0.113.1, in all of these.
    for (attempt, (forwarded, source)) in [
        // Envoy has appended its peer.
        ("203.0.113.1, 10.0.0.1", "10.0.0.1"),
        ("1.1.1.1,203.0.113.1,10.0.0.1", "10.0.0.1"),
        ("203.0.113.1, ::ffff:10.0.0.1", "10.0.0.1"),
        // It has not.
        ("203.0.113.1", "10.0.0.1"),
        ("2.2.2.2, 203.0.113.1", "10.0.0.1"),
        // Nobody has.
        ("", "203.0.113.1"),
    ]
    .into_iter()
    .enumerate()
    {
        let headers =
            if forwarded.is_empty() { http(&[]) } else { http(&[("x-forwarded-for", forwarded)]) };
        let expected = if attempt == 0 { 200 } else { 429 };
        assert_eq!(service.status(headers, source).await, expected, "{forwarded:?} {source}");
    }
    let lines = raw_http(&[("x-forwarded-for", b"3.3.3.3"), ("x-forwarded-for", b"203.0.113.1")]);
    assert_eq!(service.status(lines, "10.0.0.9").await, 429);
    let other = http(&[("x-forwarded-for", "203.0.113.1, 203.0.113.2, 10.0.0.1")]);
    assert_eq!(service.status(other, "10.0.0.1").await, 200);
}

#[tokio::test(start_paused = true)]
async fn raw_headers_count_as_the_others_do() {
    let mut service = Service::start(&[]).await;
    for (number, (headers, expected)) in [
        (http(&[("x-user", "ann")]), 200),
        (raw_http(&[("X-User", b"ann")]), 429),
        (raw_http(&[("x-user", b"b\xe9\xff")]), 200),
        (raw_http(&[("x-user", b"b\xe9\xff")]), 429),
        (raw_http(&[("x-user", b"b\xe9\xfe")]), 200),
        (raw_http(&[("x-user", b"c"), ("x-user", b"d")]), 200),
        (http(&[("x-user", "c,d")]), 429),
    ]
    .into_iter()
    .enumerate()
    {
        let status = service.status(headers, &format!("10.0.0.{number}")).await;
        assert_eq!(status, expected, "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_with_a_mistake_is_refused_and_no_error() {
    let mut service = Service::start(&[]).await;
    let no_request = CheckRequest { attributes: Some(AttributeContext::default()) };
    let pipe = {
        let mut request = check("edge", http(&[]), "");
        request.attributes.as_mut().unwrap().source = None;
        request
    };
    let bad_address = check("edge", http(&[("x-forwarded-for", "unknown")]), "10.0.0.1");
    for (request, status) in [
        (CheckRequest::default(), 500),
        (no_request, 500),
        (check("", http(&[]), "10.0.0.1"), 500),
        (check("nobody", http(&[]), "10.0.0.1"), 500),
        (pipe, 400),
        (bad_address, 400),
    ] {
        let response = service.check(request.clone()).await;
        assert_ne!(response.status.as_ref().unwrap().code, 0, "{request:?}");
        assert_eq!(denied(response).status.unwrap().code, status, "{request:?}");
    }
    assert_eq!(service.process.service_errors().await, 6.0);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_cannot_be_read_is_refused_and_no_error() {
    let service = Service::start(&[]).await;
    let connection = service.process.raw_grpc().await;
    let mut many = http(&[]);
    for number in 0..1_001 {
        many.headers.insert(format!("x-{number}"), String::new());
    }
    let many = check("edge", many, "10.0.0.1").encode_to_vec();
    let long = check("edge", HttpRequest { path: "x".repeat(5 << 20), ..http(&[]) }, "10.0.0.1");
    for (message, status) in [(vec![0xff; 9], 400), (many, 413), (long.encode_to_vec(), 413)] {
        let call = connection.try_open_call_of(CHECK).await.unwrap();
        let reply = call.finish(raw_grpc::frame(&message)).await;
        assert_eq!(reply.code, Code::Ok);
        let response = CheckResponse::decode(&*reply.message).unwrap();
        assert_ne!(response.status.as_ref().unwrap().code, 0);
        assert_eq!(denied(response).status.unwrap().code, status);
    }
    assert_eq!(service.process.service_errors().await, 3.0);
    let metrics = service.process.metrics().await;
    let labels = [("reason", "unreadable")];
    assert_eq!(metrics.value("tollgate_check_misconfigured_total", &labels), 3.0);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_request_is_one_error() {
    let mut service = Service::start(&[("MAX_DESCRIPTORS", "1")]).await;
    assert_eq!(service.status(http(&[("x-user", "ann")]), "10.0.0.1").await, 400);
    assert_eq!(service.process.service_errors().await, 1.0);
    let metrics = service.process.metrics().await;
    let labels = [("reason", "invalid_request")];
    assert_eq!(metrics.value("tollgate_check_misconfigured_total", &labels), 1.0);
}

#[tokio::test(start_paused = true)]
async fn without_rules_a_check_is_an_error() {
    let process =
        InProcess::start("domain: [", &[("FORCE_START_WITHOUT_INITIAL_CONFIG", "1")]).await;
    let mut client = AuthorizationClient::new(process.channel().await);
    let error = client.check(check("edge", http(&[]), "10.0.0.1")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    let reply = process.http("GET", "/check/forwarded/edge", &[], b"").await;
    assert_eq!(reply.status, 503);
    let metrics = process.metrics().await;
    for dialect in ["forwarded", "ext_authz"] {
        let labels = [("dialect", dialect), ("domain", "|other|"), ("result", "error")];
        assert_eq!(metrics.find("tollgate_checks_total", &labels), Some(1.0), "{dialect}");
    }
}
