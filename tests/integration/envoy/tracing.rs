//! Traces that start before Envoy and continue in the service.

use serde_json::{Value, json};
use testkit::{
    collector::{Collector, ReceivedSpan, hex},
    envoy::{self, Envoy, header, route},
    http,
    tollgate::Tollgate,
    unique_value, upstream,
    wait::eventually,
};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 5 }
";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_continues_through_envoy_with_either_kind_of_headers() {
    let collector = Collector::start().await;
    let endpoint = format!("http://{}", collector.address);
    let service = Tollgate::start(
        RULES,
        &[
            ("TRACING_ENABLED", "true"),
            ("TRACING_SAMPLING_RATE", "0"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ],
    );
    let open_telemetry = json!({
        "grpc_service": { "envoy_grpc": { "cluster_name": "collector" } },
        "service_name": "front",
    });
    let zipkin = json!({
        "collector_cluster": "zipkin",
        "collector_endpoint": "/api/v2/spans",
        "collector_endpoint_version": "HTTP_JSON",
    });
    let envoy = Envoy::start(
        &[
            listener("w3c", &envoy::typed("config.trace.v3.OpenTelemetryConfig", open_telemetry)),
            listener("b3", &envoy::typed("config.trace.v3.ZipkinConfig", zipkin)),
        ],
        &[
            envoy::cluster("upstream", &[upstream::address()]),
            envoy::cluster("zipkin", &[collector.address]),
            envoy::grpc_cluster("collector", &[collector.address]),
            envoy::grpc_cluster("tollgate", &[service.grpc]),
        ],
    );
    let user = unique_value();
    let get = |name: &str, headers: &[(&str, &[u8])]| {
        let headers = [headers, &[("x-user", user.as_bytes())]].concat();
        assert_eq!(http::get(envoy.listener(name), "/", &headers).status, 200);
    };
    let (yes, no) = (format!("00-{TRACE}-{SPAN}-01"), format!("00-{TRACE}-{SPAN}-00"));

    get("w3c", &[("traceparent", no.as_bytes())]);
    get("w3c", &[("traceparent", yes.as_bytes())]);
    let call = last_server_span(&collector, 2);
    assert_eq!(call.trace_id(), TRACE);
    let parent = eventually("Envoy's span", || parent_of(&call, spans_of(&collector, "front")));
    assert_eq!(parent.trace_id(), TRACE);

    let ids = [("x-b3-traceid", TRACE.as_bytes()), ("x-b3-spanid", SPAN.as_bytes())];
    get("b3", &[&ids[..], &[("x-b3-sampled", b"0")]].concat());
    get("b3", &[&ids[..], &[("x-b3-sampled", b"1")]].concat());
    let call = last_server_span(&collector, 4);
    assert_eq!(call.trace_id(), TRACE);
    assert!(!["", SPAN].contains(&call.parent_id().as_str()), "Envoy's span is in between");
}

fn spans_of(collector: &Collector, service_name: &str) -> Vec<ReceivedSpan> {
    let mut spans = collector.spans();
    spans.retain(|exported| exported.resource["service.name"] == service_name);
    spans
}

/// The last server span, once `count` spans of the service have arrived.
fn last_server_span(collector: &Collector, count: usize) -> ReceivedSpan {
    eventually("the spans of the call", || spans_of(collector, "RateLimit").len() == count);
    let mut last = None;
    for exported in spans_of(collector, "RateLimit") {
        if exported.span.name.contains("RateLimitService") {
            last = Some(exported);
        }
    }
    last.expect("there is a server span")
}

fn parent_of(child: &ReceivedSpan, spans: Vec<ReceivedSpan>) -> Option<ReceivedSpan> {
    spans.into_iter().find(|exported| hex(&exported.span.span_id) == child.parent_id())
}

/// Envoy samples the requests that the caller wants to be sampled.
fn listener(name: &str, tracer: &Value) -> Value {
    let filter = envoy::rate_limit_filter("tollgate", &json!({ "failure_mode_deny": true }));
    let limits = json!({ "rate_limits": [{ "actions": [header("user")] }] });
    let mut chain = envoy::http_filter_chain(&[filter], &[route("/", limits)]);
    chain["typed_config"]["tracing"] =
        json!({ "provider": { "name": "tracer", "typed_config": tracer } });
    envoy::listener(name, &[chain])
}
