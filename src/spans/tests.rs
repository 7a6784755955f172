use bytes::Bytes;

use super::{
    text::{MAX_TEXT_BYTES, RequestText, truncated},
    *,
};
use crate::{
    descriptor::{Descriptor, Entry, Request},
    limit::Hits,
};

fn settings(rate: f64) -> TracingSettings {
    TracingSettings {
        service_name: "RateLimit".into(),
        namespace: None,
        instance: None,
        protocol: OtlpProtocol::Http,
        rate,
    }
}

async fn errors(protocol: OtlpProtocol, variables: &[(&str, &str)]) -> String {
    let settings = TracingSettings { protocol, ..settings(1.0) };
    let env = |name: &str| {
        let (_, value) = variables.iter().find(|(variable, _)| *variable == name)?;
        Some((*value).to_owned())
    };
    match Tracing::new(&settings, &env, Arc::new(Metrics::new(0.8))) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn an_error_names_every_variable_that_is_neither_valid_nor_empty() {
    for protocol in [OtlpProtocol::Http, OtlpProtocol::Grpc] {
        for (name, legal, illegal) in [
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                &["http://collector:4318", "https://[::1]/path", "HTTPS://a:1"][..],
                &["collector", "collector:4318", "ftp://a", "http://", "http://a b", "/a"][..],
            ),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &["http://a/v1/traces"], &["a:1"]),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", &[], &["Cargo.toml", "/no/such/file"]),
            ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", &[], &["Cargo.toml"]),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", &["1", "10000"], &["0", "10s", "-1"]),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", &["1"], &["soon"]),
            ("OTEL_BSP_SCHEDULE_DELAY", &["1", "5000"], &["0", "5s", "4294967296"]),
            ("OTEL_BSP_MAX_QUEUE_SIZE", &["1", "2048"], &["0", "many"]),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", &["1", "100000"], &["0", "1.5"]),
            ("OTEL_BSP_EXPORT_TIMEOUT", &["1"], &["0", "-1"]),
        ] {
            for value in legal.iter().chain(&[""]) {
                assert_eq!(errors(protocol, &[(name, value)]).await, "", "{name}={value:?}");
            }
            for value in illegal {
                let text = errors(protocol, &[(name, value)]).await;
                assert_eq!(text.lines().count(), 2, "{name}={value:?}: {text:?}");
                assert!(text.contains(&format!("\n  {name}")), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn all_errors_are_listed_without_passwords() {
    let text = errors(
        OtlpProtocol::Grpc,
        &[("OTEL_BSP_MAX_QUEUE_SIZE", "x"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "ann:hunter2@a")],
    );
    assert_eq!(
        text.await,
        "traces cannot be sent:\n  \
         OTEL_BSP_MAX_QUEUE_SIZE=\"x\": expected a whole number from 1 to 4294967295\n  \
         OTEL_EXPORTER_OTLP_ENDPOINT: expected a URL such as http://collector:4317 or \
         https://collector"
    );
}

#[tokio::test]
async fn a_variable_for_traces_overrides_the_general_one() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a/v1/traces"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "x"),
    ];
    assert_eq!(errors(OtlpProtocol::Http, &variables).await, "");
}

#[test]
fn requests_are_shown_escaped_and_truncated() {
    let entry = |key: &[u8], value: &[u8]| Entry {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
    };
    let descriptor =
        |entries| Descriptor { entries, hits: Hits::Add(1), has_own_hits: false, limit: None };
    let request = |value: &[u8]| Request {
        domain: Bytes::from_static(b"shop\xff"),
        descriptors: vec![descriptor(vec![entry(b"user", value), entry(b"", b"\"\n")])],
        hits_addend: 0,
    };
    let show = |value: &[u8]| {
        let request = request(value);
        truncated(format_args!("{}", RequestText(&request)))
    };
    assert_eq!(
        show(b"ann"),
        r#"domain:"shop\xff" descriptors:{entries:{key:"user" value:"ann"} entries:{key:"" value:"\"\n"} hits:1}"#
    );
    let long = show(&vec![b'x'; 1 << 20]);
    assert_eq!(long.len(), MAX_TEXT_BYTES + "…".len());
    assert!(long.starts_with("domain:\"shop\\xff\" descriptors:{entries:{key:\"user\" value:\"xx"));
    assert!(long.ends_with("x…"));
    // The cut is between two characters.
    let odd = truncated(format_args!("x{}", "ä".repeat(MAX_TEXT_BYTES)));
    assert!(odd.len() <= MAX_TEXT_BYTES + "…".len() && odd.ends_with("ä…"));
}

#[test]
fn a_random_uuid_has_version_4() {
    let [one, other] = [random_uuid(), random_uuid()];
    assert_ne!(one, other);
    let lengths: Vec<_> = one.split('-').map(str::len).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12]);
    assert!(one[14..].starts_with('4') && one[19..].starts_with(['8', '9', 'a', 'b']), "{one}");
}

#[tokio::test]
async fn only_recorded_calls_have_spans() {
    let metrics = Arc::new(Metrics::new(0.8));
    let (spans, _exporter) = Tracing::new(&settings(0.0), &|_| None, metrics).unwrap();
    assert!(spans.start_grpc_call(GrpcMethod::ShouldRateLimit, &HeaderMap::new()).is_none());
    assert!(spans.start_http_call(HttpRoute::Json, &Method::POST, &HeaderMap::new()).is_none());
    assert!(spans.start_decision().is_none());
    let call = Tracing::start_grpc_call(
        &spans,
        GrpcMethod::ShouldRateLimit,
        &[("b3".parse().unwrap(), "1".parse().unwrap())].into_iter().collect(),
    );
    let execution = call.unwrap().instrument(async { spans.start_decision() }).await;
    assert!(execution.is_some());
    assert!(spans.start_decision().is_none());
}
