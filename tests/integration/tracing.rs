//! Traces, as a collector receives them.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};
use prost::Message;
use testkit::{
    certificates::Identity,
    collector::{Collector, ReceivedSpan, hex},
    grpc::{self, Client, request_for},
    http,
    raw_grpc::{RawGrpc, frame},
    redis::RedisServer,
    tollgate::Tollgate,
    unique_value,
    wait::eventually,
};
use tokio::{net::TcpListener, time::timeout};
use tonic::{Code, Request, Status, metadata::MetadataMap};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 1 }
- key: burst
  rate_limit: { unit: second, requests_per_unit: 1000 }
- key: open
  rate_limit: { unit: year, requests_per_unit: 1, on_error: allow }
";
const SERVER: &str = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const DECISION: &str = "ShouldRateLimit Execution";
const STORE: &str = "Redis Pipeline Execution";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// Starts a service that exports its traces soon.
fn start(endpoint: &str, more: &[(&str, &str)]) -> Tollgate {
    let settings = [
        ("TRACING_ENABLED", "true"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ("DRAIN_DELAY", "0s"),
    ];
    Tollgate::start(RULES, &[&settings, more].concat())
}

fn url(collector: &Collector) -> String {
    format!("http://{}", collector.address)
}

async fn call(
    client: &mut Client,
    request: RateLimitRequest,
    headers: &[(&'static str, &str)],
) -> Result<RateLimitResponse, Status> {
    let mut request = Request::new(request);
    let metadata: &mut MetadataMap = request.metadata_mut();
    for (name, value) in headers {
        metadata.insert(*name, value.parse().unwrap());
    }
    client.should_rate_limit(request).await.map(tonic::Response::into_inner)
}

fn post(to: SocketAddr, user: &str, headers: &[(&str, &[u8])]) -> u16 {
    let body = format!(
        r#"{{"domain":"shop","descriptors":[{{"entries":[{{"key":"user","value":"{user}"}}]}}]}}"#
    );
    http::send(to, "POST", "/json", headers, body.as_bytes()).status
}

/// The only span of this name.
#[track_caller]
fn only<'a>(spans: &'a [ReceivedSpan], name: &str) -> &'a ReceivedSpan {
    let mut found = None;
    for exported in spans {
        if exported.span.name == name {
            assert!(found.is_none(), "{name} twice in {spans:?}");
            found = Some(exported);
        }
    }
    found.expect(name)
}

fn status(exported: &ReceivedSpan) -> (StatusCode, String) {
    let status = exported.span.status.clone().unwrap_or_default();
    (status.code(), status.message)
}

/// Checks the server span and its two children.
fn assert_family(spans: &[ReceivedSpan], server: &str) {
    let server = only(spans, server);
    assert_eq!(server.span.kind(), SpanKind::Server);
    for name in [DECISION, STORE] {
        let child = only(spans, name);
        assert_eq!(child.span.kind(), SpanKind::Internal, "{name}");
        assert_eq!(child.span.trace_id, server.span.trace_id, "{name}");
        assert_eq!(child.span.parent_span_id, server.span.span_id, "{name}");
        let (own, call) = (&child.span, &server.span);
        assert!(call.start_time_unix_nano <= own.start_time_unix_nano, "{name} is too early");
        assert!(own.start_time_unix_nano <= own.end_time_unix_nano, "{name} ends too early");
        assert!(own.end_time_unix_nano <= call.end_time_unix_nano, "{name} ends too late");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_call_has_a_server_span_with_two_children_over_either_protocol() {
    let redis = RedisServer::start();
    for protocol in ["http", "grpc"] {
        let collector = Collector::start().await;
        let (endpoint, redis, user) = (url(&collector), redis.url(), unique_value());
        let service = start(
            &endpoint,
            &[
                ("REDIS_URL", &redis),
                ("REDIS_PERSECOND", "true"),
                ("REDIS_PERSECOND_URL", &redis),
                ("TRACING_EXPORTER_PROTOCOL", protocol),
                ("TRACING_SERVICE_NAME", "limits"),
                ("TRACING_SERVICE_NAMESPACE", "edge"),
                ("TRACING_SERVICE_INSTANCE_ID", "pod-1"),
                ("OTEL_RESOURCE_ATTRIBUTES", "zone=b,service.name=hidden"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2"),
            ],
        );
        let mut client = grpc::connect(service.grpc).await;
        let mut request = request_for("shop", &[("user", &user)]);
        request.descriptors.push(grpc::descriptor(&[("burst", &user)]));
        request.descriptors.push(grpc::descriptor(&[("burst", "other")]));
        call(&mut client, request, &[]).await.unwrap();
        let spans = collector.wait_for_spans(3);

        assert_family(&spans, SERVER);
        let server = only(&spans, SERVER);
        let (decision, store) = (only(&spans, DECISION), only(&spans, STORE));
        assert_eq!(server.parent_id(), "");
        for (name, value) in [
            ("rpc.system", "grpc"),
            ("rpc.service", "envoy.service.ratelimit.v3.RateLimitService"),
            ("rpc.method", "ShouldRateLimit"),
            ("rpc.grpc.status_code", "0"),
            ("network.peer.address", "127.0.0.1"),
        ] {
            assert_eq!(server.attribute(name), value);
        }
        assert_eq!(decision.attribute("domain"), "shop");
        let text = format!(
            "domain:\"shop\" descriptors:{{entries:{{key:\"user\" value:\"{user}\"}} hits:1}} "
        );
        assert!(decision.attribute("request string").starts_with(&text), "{decision:?}");
        assert_eq!(decision.attribute("tollgate.code"), "OK");
        assert_eq!(decision.attribute("tollgate.rule"), "shop.user");
        assert_eq!(decision.attribute("tollgate.degraded"), "false");
        assert_eq!(store.attribute("pipeline length"), "1");
        assert_eq!(store.attribute("perSecondPipeline length"), "2");
        for exported in &spans {
            assert_eq!(status(exported).0, StatusCode::Unset);
            let resource = |name: &str| exported.resource[name].as_str();
            assert_eq!(resource("service.name"), "limits");
            assert_eq!(resource("service.namespace"), "edge");
            assert_eq!(resource("service.instance.id"), "pod-1");
            assert_eq!(resource("zone"), "b");
            assert_eq!(exported.headers["authorization"], "Bearer hunter2");
        }
        assert!(!service.log().contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_call_has_a_trace() {
    let (redis, collector) = (RedisServer::start(), Collector::start().await);
    let (endpoint, redis, user) = (url(&collector), redis.url(), unique_value());
    let service = start(&endpoint, &[("REDIS_URL", &redis)]);
    let parent = format!("{TRACE}-{SPAN}-1");
    assert_eq!(post(service.http, &user, &[("b3", parent.as_bytes())]), 200);
    let spans = collector.wait_for_spans(3);
    assert_family(&spans, "POST /json");
    let server = only(&spans, "POST /json");
    assert_eq!((server.trace_id(), server.parent_id()), (TRACE.to_owned(), SPAN.to_owned()));
    for (name, value) in [
        ("http.request.method", "POST"),
        ("url.path", "/json"),
        ("http.route", "/json"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(server.attribute(name), value);
    }
    assert_eq!(server.resource["service.name"], "RateLimit");
    let instance = &server.resource["service.instance.id"];
    assert_eq!(instance.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);

    assert_eq!(post(service.http, &user, &[]), 429);
    let spans = collector.wait_for_spans(6).split_off(3);
    assert_eq!(only(&spans, "POST /json").attribute("http.response.status_code"), "429");
    assert_eq!(only(&spans, DECISION).attribute("tollgate.code"), "OVER_LIMIT");
    // Other pages create no spans.
    http::get(service.http, "/healthcheck", &[]);
    assert_eq!(http::send(service.http, "POST", "/json", &[], b"{").status, 400);
    let spans = collector.wait_for_spans(7).split_off(6);
    assert_eq!(only(&spans, "POST /json").attribute("http.response.status_code"), "400");
    for (method, name, as_method) in [("PUT", "PUT /json", "PUT"), ("BREW", "HTTP /json", "_OTHER")]
    {
        let seen = collector.wait_for_spans(0).len();
        assert_eq!(http::send(service.http, method, "/json", &[], b"{").status, 400);
        let spans = collector.wait_for_spans(seen + 1).split_off(seen);
        assert_eq!(only(&spans, name).attribute("http.request.method"), as_method);
    }
    let seen = collector.wait_for_spans(0).len();
    let headers = [("b3", parent.as_bytes())];
    let path = "/check/envoy/edge/secret";
    assert_eq!(http::get(service.http, path, &headers).status, 404);
    let spans = collector.wait_for_spans(seen + 1).split_off(seen);
    let check = only(&spans, "GET /check");
    assert_eq!(check.trace_id(), TRACE);
    assert_eq!(check.attribute("url.path"), "/check");
    assert_eq!(check.attribute("http.response.status_code"), "404");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_select_the_trace_and_the_sampling() {
    let w3c = |flags: &str| format!("00-{TRACE}-{SPAN}-{flags}");
    let b3 = |state: &str| format!("{TRACE}-{SPAN}{state}");
    let (yes, no) = (w3c("01"), w3c("00"));
    let (asked, debug, denied, deferred) = (b3("-1"), b3("-d"), b3("-0"), b3(""));
    let ids = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)];
    let many = |more| [&ids[..], &[more]].concat();
    // Headers, whether the trace of the caller is continued, and whether the call is
    // recorded. If the headers leave that open, the sampling rate decides.
    let cases = [
        (vec![], false, None),
        (vec![("traceparent", yes.as_str())], true, Some(true)),
        (vec![("traceparent", no.as_str())], true, Some(false)),
        (vec![("traceparent", "rubbish")], false, None),
        (vec![("b3", asked.as_str())], true, Some(true)),
        (vec![("b3", debug.as_str())], true, Some(true)),
        (vec![("b3", denied.as_str())], true, Some(false)),
        (vec![("b3", deferred.as_str())], true, None),
        (vec![("b3", "0")], false, Some(false)),
        (vec![("b3", "1")], false, Some(true)),
        (many(("x-b3-sampled", "1")), true, Some(true)),
        (many(("x-b3-sampled", "0")), true, Some(false)),
        (many(("x-b3-flags", "1")), true, Some(true)),
        (ids.to_vec(), true, None),
        (vec![("x-b3-sampled", "0")], false, Some(false)),
    ];
    for (rate, open) in [("0", false), ("1", true)] {
        let collector = Collector::start().await;
        let endpoint = url(&collector);
        let service = start(&endpoint, &[("TRACING_SAMPLING_RATE", rate)]);
        let mut client = grpc::connect(service.grpc).await;
        let mut expected = Vec::new();
        for (case, (headers, own, recorded)) in cases.iter().enumerate() {
            let request = request_for("shop", &[("user", &format!("case {case}"))]);
            call(&mut client, request, headers).await.unwrap();
            if recorded.unwrap_or(open) {
                expected.push((case, *own));
            }
        }
        // Spans are exported in order, so this one is the last.
        call(&mut client, request_for("shop", &[("user", "case 99")]), &[("b3", "1")])
            .await
            .unwrap();
        let spans = collector.wait_for_spans(2 * expected.len() + 2);
        let mut servers = spans.iter().filter(|it| it.span.name == SERVER);
        for (case, own) in expected.into_iter().chain([(99, false)]) {
            let server = servers.next().unwrap();
            let decision = |it: &&ReceivedSpan| it.span.parent_span_id == server.span.span_id;
            let text = spans.iter().find(decision).unwrap().attribute("request string");
            assert!(text.contains(&format!("\"case {case}\"")), "{case} at {rate}: {text}");
            assert_eq!(server.trace_id() == TRACE, own, "{case} at {rate}");
            assert_eq!(server.parent_id(), if own { SPAN } else { "" }, "{case} at {rate}");
        }
        assert_eq!(servers.count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_recorded_in_spans() {
    let (mut redis, collector) = (RedisServer::start(), Collector::start().await);
    let (endpoint, address) = (url(&collector), redis.url());
    let service = start(&endpoint, &[("REDIS_URL", &address)]);
    let mut client = grpc::connect(service.grpc).await;
    let wrong = call(&mut client, request_for("", &[("user", "x")]), &[]).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    let spans = collector.wait_for_spans(2);
    let (server, decision) = (only(&spans, SERVER), only(&spans, DECISION));
    assert_eq!(server.attribute("rpc.grpc.status_code"), "3");
    // An error of the caller is not one of the server.
    assert_eq!(status(server).0, StatusCode::Unset);
    assert_eq!(status(decision), (StatusCode::Error, wrong.message().to_owned()));

    redis.stop();
    // Calls that are not sampled, until one fails.
    while call(&mut client, request_for("shop", &[("user", "x")]), &[("b3", "0")]).await.is_ok() {}
    let failed = call(&mut client, request_for("shop", &[("user", "x")]), &[]).await.unwrap_err();
    let spans = collector.wait_for_spans(5).split_off(2);
    assert_family(&spans, SERVER);
    let server = only(&spans, SERVER);
    assert_eq!(server.attribute("rpc.grpc.status_code"), "14");
    assert_eq!(status(server), (StatusCode::Error, failed.message().to_owned()));
    assert_eq!(status(only(&spans, DECISION)).0, StatusCode::Error);
    assert_eq!(status(only(&spans, STORE)).0, StatusCode::Error);

    call(&mut client, request_for("shop", &[("open", "x")]), &[]).await.unwrap();
    let spans = collector.wait_for_spans(8).split_off(5);
    assert_eq!(status(only(&spans, SERVER)).0, StatusCode::Unset);
    assert_eq!(only(&spans, DECISION).attribute("tollgate.degraded"), "true");
    assert_eq!(status(only(&spans, STORE)).0, StatusCode::Error);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_unless_it_is_enabled() {
    let collector = Collector::start().await;
    let endpoint = url(&collector);
    let mut service = start(&endpoint, &[("TRACING_ENABLED", "false")]);
    let mut client = grpc::connect(service.grpc).await;
    call(&mut client, request_for("shop", &[("user", "x")]), &[("b3", "1")]).await.unwrap();
    assert_eq!(post(service.http, "x", &[("b3", b"1")]), 429);
    service.stop();
    assert_eq!(collector.spans().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_spans_are_exported_at_shutdown() {
    let redis = RedisServer::start();
    for (protocol, redis, each) in [("http", String::new(), 2), ("grpc", redis.url(), 3)] {
        let collector = Collector::start().await;
        let endpoint = url(&collector);
        let mut service = Tollgate::start(
            RULES,
            &[
                ("TRACING_ENABLED", "true"),
                ("TRACING_EXPORTER_PROTOCOL", protocol),
                ("REDIS_URL", &redis),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
                ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
                ("DRAIN_DELAY", "0s"),
                ("DRAIN_TIMEOUT", "1m"),
            ],
        );
        let mut client = grpc::connect(service.grpc).await;
        for _ in 0..10 {
            call(&mut client, request_for("shop", &[("user", "x")]), &[]).await.unwrap();
        }
        assert_eq!(collector.spans().len(), 0, "they wait");
        service.stop();
        assert_eq!(collector.spans().len(), 10 * each, "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_span_of_the_last_call_is_exported() {
    let collector = Collector::start().await;
    let endpoint = url(&collector);
    let settings = [("OTEL_BSP_SCHEDULE_DELAY", "600000"), ("DRAIN_TIMEOUT", "1m")];
    let mut service = start(&endpoint, &settings);
    let raw = RawGrpc::connect(service.grpc).await;
    let last = raw.open_call().await;
    let message = request_for("shop", &[("user", "x")]).encode_to_vec();
    // The reply to a later call shows that the earlier one has arrived.
    raw.call(&message).await.decode::<RateLimitResponse>();
    service.terminate();
    eventually("the listener to close", || TcpStream::connect(service.grpc).is_err());
    last.finish(frame(&message)).await.decode::<RateLimitResponse>();
    drop(raw);
    assert!(service.wait_for_exit().success());
    assert_eq!(collector.spans().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_may_start_later() {
    for protocol in ["http", "grpc"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let endpoint = format!("http://{address}");
        let settings =
            [("TRACING_EXPORTER_PROTOCOL", protocol), ("OTEL_EXPORTER_OTLP_TIMEOUT", "100")];
        let service = start(&endpoint, &settings);
        let mut client = grpc::connect(service.grpc).await;
        let labels = [("reason", "export_failed")];
        for round in 1..=3 {
            call(&mut client, request_for("shop", &[("user", "x")]), &[]).await.unwrap();
            let all = f64::from(2 * round);
            eventually("the loss", || {
                service.metrics().value("tollgate_spans_lost_total", &labels) == all
            });
        }
        let complaints = service.log().matches("spans are lost").count();
        assert_eq!(complaints, 1, "{}", service.log());

        let collector = Collector::serve(TcpListener::bind(address).await.unwrap(), None);
        call(&mut client, request_for("shop", &[("user", "x")]), &[]).await.unwrap();
        assert_eq!(collector.wait_for_spans(2).len(), 2, "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_collector_does_not_delay_anything() {
    for protocol in ["http", "grpc"] {
        // Accepts connections and never replies.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let mut service = start(
            &endpoint,
            &[
                ("TRACING_EXPORTER_PROTOCOL", protocol),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "4"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000"),
                ("OTEL_BSP_EXPORT_TIMEOUT", "600000"),
                ("DRAIN_TIMEOUT", "10m"),
            ],
        );
        let mut client = grpc::connect(service.grpc).await;
        for _ in 0..20 {
            call(&mut client, request_for("shop", &[("user", "x")]), &[]).await.unwrap();
        }
        let labels = [("reason", "queue_full")];
        let lost = service.metrics().value("tollgate_spans_lost_total", &labels);
        // At most four are being sent, and four wait.
        assert!((32.0..40.0).contains(&lost), "{lost}");
        service.terminate();
        assert!(service.wait_for_exit().success(), "{protocol}");
        assert!(service.log().contains("4 spans are lost"), "{}", service.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_a_collector_is_verified() {
    let files = tempfile::tempdir().unwrap();
    let authority = files.path().join("tls.crt");
    let authority = authority.to_str().unwrap();
    for protocol in ["http", "grpc"] {
        let certificate = Identity::self_signed("localhost");
        certificate.write(files.path());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Collector::serve(listener, Some(certificate.server_config()));
        let endpoint = format!("https://localhost:{}", collector.address.port());
        let settings = [("TRACING_EXPORTER_PROTOCOL", protocol)];
        let trusting = [("OTEL_EXPORTER_OTLP_CERTIFICATE", authority), settings[0]];

        let service = start(&endpoint, &settings);
        let mut client = grpc::connect(service.grpc).await;
        call(&mut client, request_for("shop", &[("user", "x")]), &[]).await.unwrap();
        eventually("a refusal", || service.log().contains("spans are lost"));
        assert_eq!(collector.spans().len(), 0);

        let service = start(&endpoint, &trusting);
        let mut client = grpc::connect(service.grpc).await;
        call(&mut client, request_for("shop", &[("user", "x")]), &[]).await.unwrap();
        assert_eq!(collector.wait_for_spans(2).len(), 2, "{protocol}");
    }
}

#[test]
fn invalid_variables_end_the_process_before_a_port_opens() {
    let mut process = Tollgate::launch(
        RULES,
        &[
            ("TRACING_ENABLED", "true"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ],
    );
    assert!(!process.wait_for_exit().success());
    let log = process.log();
    for name in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_BSP_MAX_QUEUE_SIZE"] {
        assert!(log.contains(name), "{log}");
    }
    assert!(!log.contains("listening"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_call_is_recorded() {
    let (redis, collector) = (RedisServer::start(), Collector::start().await);
    let (endpoint, address) = (url(&collector), redis.url());
    let service = start(&endpoint, &[("REDIS_URL", &address), ("REDIS_TIMEOUT", "1m")]);
    let mut client = grpc::connect(service.grpc).await;
    call(&mut client, request_for("shop", &[("user", "x")]), &[("b3", "0")]).await.unwrap();
    redis.suspend();
    let answer = client.should_rate_limit(request_for("shop", &[("user", "x")]));
    // Long enough for the call to reach Redis on a busy machine.
    assert!(timeout(Duration::from_secs(2), answer).await.is_err());
    let spans = collector.wait_for_spans(3);
    redis.resume();
    assert_family(&spans, SERVER);
    assert_eq!(only(&spans, SERVER).attribute("rpc.grpc.status_code"), "1");
    assert_eq!(status(only(&spans, STORE)), (StatusCode::Error, "cancelled".to_owned()));
    assert!(!only(&spans, DECISION).attribute_names().contains(&"tollgate.code".to_owned()));
    assert_eq!(hex(&only(&spans, SERVER).span.trace_id).len(), 32);
}
