//! The settings of traces.

/// The settings of traces, without those of the collector.
#[derive(Clone, Debug, PartialEq)]
pub struct TracingSettings {
    /// The resource attribute `service.name`.
    pub service_name: String,
    /// The resource attribute `service.namespace`. If it is not set, the one in
    /// `OTEL_RESOURCE_ATTRIBUTES`.
    pub namespace: Option<String>,
    /// The resource attribute `service.instance.id`. If it is not set, the one in
    /// `OTEL_RESOURCE_ATTRIBUTES`, else a random UUID.
    pub instance: Option<String>,
    /// The protocol to the collector.
    pub protocol: OtlpProtocol,
    /// The share of calls to record, from 0 to 1. Applies to calls whose client does not
    /// decide.
    pub rate: f64,
}

/// The protocol to the collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// OTLP with protobuf over HTTP/1.1.
    #[default]
    Http,
    /// OTLP over gRPC.
    Grpc,
}

/// Looks up an environment variable.
pub type VariableLookup<'a> = &'a dyn Fn(&str) -> Option<String>;
