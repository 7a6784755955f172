//! What is recorded as traces.

use super::text;
use crate::{
    settings::{reader::SettingReader, value},
    spans::{OtlpProtocol, TracingSettings},
};

/// None if nothing is. What is set has to be right all the same.
pub(super) fn tracing(reader: &mut SettingReader<'_>) -> Option<TracingSettings> {
    let protocols = [("http", OtlpProtocol::Http), ("grpc", OtlpProtocol::Grpc)];
    let enabled = reader.value("TRACING_ENABLED", value::boolean);
    let settings = TracingSettings {
        service_name: reader.value("TRACING_SERVICE_NAME", text),
        namespace: reader.optional("TRACING_SERVICE_NAMESPACE", text),
        instance: reader.optional("TRACING_SERVICE_INSTANCE_ID", text),
        protocol: reader.value("TRACING_EXPORTER_PROTOCOL", |it| value::one_of(it, &protocols)),
        rate: reader.value("TRACING_SAMPLING_RATE", value::part),
    };
    enabled.then_some(settings)
}
