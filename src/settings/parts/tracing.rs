use crate::{
    settings::{reader::SettingReader, value},
    spans::{OtlpProtocol, TracingSettings},
};

pub(super) fn tracing(reader: &mut SettingReader<'_>) -> Option<TracingSettings> {
    let protocols = [("http", OtlpProtocol::Http), ("grpc", OtlpProtocol::Grpc)];
    let is_on = reader.value("TRACING_ENABLED", value::boolean);
    let settings = TracingSettings {
        service_name: reader.value("TRACING_SERVICE_NAME", value::text),
        namespace: reader.optional("TRACING_SERVICE_NAMESPACE", value::text),
        instance: reader.optional("TRACING_SERVICE_INSTANCE_ID", value::text),
        protocol: reader.choice("TRACING_EXPORTER_PROTOCOL", &protocols),
        rate: reader.value("TRACING_SAMPLING_RATE", value::fraction),
    };
    if is_on { Some(settings) } else { None }
}
