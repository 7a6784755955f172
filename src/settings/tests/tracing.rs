//! Legal and illegal values of the settings of tracing.

use super::{Pairs, Settings};

pub(super) fn show(settings: &Settings, name: &str) -> String {
    let Some(tracing) = &settings.tracing else { return "off".to_owned() };
    match name {
        "TRACING_ENABLED" => "on".to_owned(),
        "TRACING_SERVICE_NAME" => tracing.service_name.clone(),
        "TRACING_SERVICE_NAMESPACE" => format!("{:?}", tracing.namespace),
        "TRACING_SERVICE_INSTANCE_ID" => format!("{:?}", tracing.instance),
        "TRACING_EXPORTER_PROTOCOL" => format!("{:?}", tracing.protocol),
        _ => tracing.rate.to_string(),
    }
}

pub(super) const LEGAL: &[(&str, Pairs<'_>)] = &[
    ("TRACING_ENABLED", &[("", "off"), ("false", "off"), ("TRUE", "on")]),
    ("TRACING_EXPORTER_PROTOCOL", &[("", "Http"), ("HTTP", "Http"), ("grpc", "Grpc")]),
    (
        "TRACING_SAMPLING_RATE",
        &[("", "1"), ("0", "0"), ("0.01", "0.01"), ("1.0", "1"), ("1e-3", "0.001")],
    ),
    ("TRACING_SERVICE_NAME", &[("", "RateLimit"), ("limits of shop", "limits of shop")]),
    ("TRACING_SERVICE_NAMESPACE", &[("", "None"), ("edge", "Some(\"edge\")")]),
    ("TRACING_SERVICE_INSTANCE_ID", &[("", "None"), ("pod-1", "Some(\"pod-1\")")]),
];

pub(super) const ILLEGAL: &[(&str, &[&str])] = &[
    ("TRACING_ENABLED", &["otlp"]),
    ("TRACING_EXPORTER_PROTOCOL", &["http/protobuf", "zipkin"]),
    ("TRACING_SAMPLING_RATE", &["-0.1", "1.1", "1%", "nan"]),
    ("TRACING_SERVICE_NAME", &[]),
    ("TRACING_SERVICE_NAMESPACE", &[]),
    ("TRACING_SERVICE_INSTANCE_ID", &[]),
];
