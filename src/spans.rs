//! Traces: what happens with a call, as spans of OpenTelemetry under the names of
//! Envoy's reference service. The only module that knows OpenTelemetry.
//!
//! | span                                              | what it covers              |
//! |---------------------------------------------------|-----------------------------|
//! | `envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit` | a call by gRPC  |
//! | `POST /json`                                      | a call by HTTP              |
//! | `ShouldRateLimit Execution`                       | the decision, below either  |
//! | `Redis Pipeline Execution`                        | asking Redis, below either  |
//!
//! Whether a call is recorded is decided when it comes; of one that is not, there
//! is nothing here but that decision. What sends spans to a collector makes no
//! spans of its own.

use std::{
    fmt::{self, Write},
    net::SocketAddr,
    sync::Arc,
};

use axum::http::{HeaderMap, Method};
use opentelemetry::{
    Context, InstrumentationScope, Key, KeyValue,
    context::FutureExt,
    trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_sdk::{
    Resource,
    trace::{IdGenerator, RandomIdGenerator, SdkTracer, SdkTracerProvider, Span, SpanExporter},
};

use tracing::info;

use crate::{descriptor::Request, engine::decision::Decision, metrics::Metrics};

mod client;
mod parent;
mod queue;
mod text;
pub mod redis_tracer;

pub use self::{client::VariableError, queue::SpanSender};
use self::{
    client::{Collector, Reader},
    parent::{ByCaller, Parent},
    queue::{Queue, QueueSettings},
    text::{Shown, Text},
};

const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
const GRPC: &str = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
/// gRPC's code for a call whose caller has given up.
const CANCELLED: i32 = 1;
/// The gRPC codes that are the fault of the server: UNKNOWN, DEADLINE_EXCEEDED,
/// UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const FAULTS: [i32; 6] = [2, 4, 12, 13, 14, 15];

/// What is recorded, and under which name.
#[derive(Clone, Debug, PartialEq)]
pub struct TracingSettings {
    /// `service.name`.
    pub service_name: String,
    /// `service.namespace`, unless `OTEL_RESOURCE_ATTRIBUTES` says it.
    pub namespace: Option<String>,
    /// `service.instance.id`; without it, what `OTEL_RESOURCE_ATTRIBUTES` says, or
    /// a random UUID.
    pub instance: Option<String>,
    /// How spans are sent.
    pub protocol: OtlpProtocol,
    /// Which part of the calls is recorded whose caller leaves that to us, from 0
    /// to 1.
    pub rate: f64,
}

/// How spans are sent to a collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// OTLP, protobuf over HTTP.
    #[default]
    Http,
    /// OTLP over gRPC.
    Grpc,
}

/// Looks up a variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracingError {
    /// Variables of OpenTelemetry are wrong. Never empty.
    #[error("traces cannot be sent:{}", .0.iter().map(|it| format!("\n  {it}")).collect::<String>())]
    Variables(Vec<VariableError>),
    /// The library cannot make a client of them.
    #[error("traces cannot be sent:\n  {0}")]
    Client(String),
}

/// Records spans.
#[derive(Clone, Debug)]
pub struct Tracing {
    tracer: SdkTracer,
}

/// A call that is recorded. It counts as given up unless it is told how it ends.
#[derive(Debug)]
pub struct ServerSpan {
    context: Context,
    by_grpc: bool,
    ended: bool,
}

/// A decision that is recorded.
#[derive(Debug)]
pub struct DecisionSpan(Span);

impl Tracing {
    /// What records spans, and what has to run to send them out. What concerns
    /// the collector is in the standard variables of OpenTelemetry: `env` looks up
    /// those that are read here, the library looks up others in the process's
    /// environment.
    ///
    /// # Errors
    ///
    /// All that is wrong with the variables.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn new(
        settings: &TracingSettings,
        env: Environment<'_>,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, SpanSender), TracingError> {
        let (queue, collector) = read(settings.protocol, env).map_err(TracingError::Variables)?;
        let mut client = collector.client().map_err(TracingError::Client)?;
        let resource = resource(settings);
        info!(protocol = ?settings.protocol, rate = settings.rate, "calls are recorded as traces");
        client.set_resource(&resource);
        let (queue, exporter) = Queue::new(queue, client, metrics);
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(Box::new(ByCaller::new(settings.rate)) as Box<_>)
            .with_span_processor(queue)
            .build();
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Ok((Self { tracer: provider.tracer_with_scope(scope) }, exporter))
    }

    /// A call by gRPC that has come now, if it is recorded.
    pub fn start_grpc_call(&self, headers: &HeaderMap) -> Option<ServerSpan> {
        let attributes = || {
            [("rpc.system", "grpc"), ("rpc.service", SERVICE), ("rpc.method", "ShouldRateLimit")]
        };
        let mut call = self.call(GRPC, headers, attributes)?;
        call.by_grpc = true;
        Some(call)
    }

    /// A call by HTTP that has come now, if it is recorded.
    pub fn start_http_call(&self, method: &Method, headers: &HeaderMap) -> Option<ServerSpan> {
        // Others have no names of their own: a caller could make up any number.
        let (method, name) = match method.as_str() {
            "GET" => ("GET", "GET /json"),
            "POST" => ("POST", "POST /json"),
            "PUT" => ("PUT", "PUT /json"),
            "PATCH" => ("PATCH", "PATCH /json"),
            "DELETE" => ("DELETE", "DELETE /json"),
            _ => ("_OTHER", "HTTP /json"),
        };
        let attributes =
            || [("http.request.method", method), ("url.path", "/json"), ("http.route", "/json")];
        self.call(name, headers, attributes)
    }

    fn call(
        &self,
        name: &'static str,
        headers: &HeaderMap,
        attributes: impl FnOnce() -> [(&'static str, &'static str); 3],
    ) -> Option<ServerSpan> {
        let parent = Parent::of(headers);
        if parent.record == Some(false) {
            return None;
        }
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server);
        let mut span = self.tracer.build_with_context(builder, &parent.context());
        if !span.is_recording() {
            return None;
        }
        span.set_attributes(attributes().map(|(key, value)| KeyValue::new(key, value)));
        Some(ServerSpan { context: Context::new().with_span(span), by_grpc: false, ended: false })
    }

    /// A decision that begins now, if the call is recorded that this is
    /// [within](ServerSpan::instrument).
    pub fn start_decision(&self) -> Option<DecisionSpan> {
        self.inner("ShouldRateLimit Execution").map(DecisionSpan)
    }

    fn inner(&self, name: &'static str) -> Option<Span> {
        Context::map_current(|call| {
            let builder = SpanBuilder::from_name(name);
            call.has_active_span().then(|| self.tracer.build_with_context(builder, call))
        })
    }
}

impl ServerSpan {
    /// Runs `part` as a part of this call.
    pub async fn instrument<F: Future>(&self, part: F) -> F::Output {
        part.with_context(self.context.clone()).await
    }

    /// Who has called.
    pub fn set_peer(&self, peer: SocketAddr) {
        let span = self.context.span();
        span.set_attribute(KeyValue::new("network.peer.address", peer.ip().to_string()));
        span.set_attribute(integer("network.peer.port", peer.port()));
    }

    /// The call by gRPC ends now with `code`, and with this error if it is one.
    pub fn end_grpc(mut self, code: i32, error: Option<&str>) {
        self.ended = true;
        let span = self.context.span();
        span.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(code)));
        if FAULTS.contains(&code) {
            span.set_status(Status::error(error.unwrap_or_default().to_owned()));
        }
    }

    /// The call by HTTP ends now with `status`.
    pub fn end_http(mut self, status: u16) {
        self.ended = true;
        let span = self.context.span();
        span.set_attribute(integer("http.response.status_code", status));
        if 500 <= status {
            span.set_status(Status::error(""));
        }
    }
}

impl Drop for ServerSpan {
    fn drop(&mut self) {
        let span = self.context.span();
        if !self.ended && self.by_grpc {
            span.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(CANCELLED)));
        } else if !self.ended {
            span.set_status(Status::error("given up by the caller"));
        }
        span.end();
    }
}

impl DecisionSpan {
    /// The request makes sense.
    pub fn record_request(&mut self, request: &Request) {
        let domain = Text::default().and(format_args!("{}", request.domain.escape_ascii()));
        self.0.set_attribute(KeyValue::new("domain", domain));
        let text = Text::default().and(format_args!("{}", Shown(request)));
        self.0.set_attribute(KeyValue::new("request string", text));
    }

    /// This is what was decided.
    pub fn record_decision(&mut self, decision: &Decision) {
        let code = if decision.over_limit { "OVER_LIMIT" } else { "OK" };
        self.0.set_attribute(KeyValue::new("tollgate.code", code));
        let rule = decision.binding().and_then(|(it, _)| it.matched.rule());
        if let Some(rule) = rule {
            self.0.set_attribute(KeyValue::new("tollgate.rule", rule.stat_name().to_string()));
        }
        let degraded = !decision.policies.is_empty();
        self.0.set_attribute(KeyValue::new("tollgate.degraded", degraded));
    }

    /// Nothing was.
    pub fn record_error(mut self, why: &dyn fmt::Display) {
        self.0.set_status(Status::error(Text::default().and(format_args!("{why}"))));
    }
}

fn integer(key: &'static str, number: impl TryInto<i64>) -> KeyValue {
    KeyValue::new(key, number.try_into().unwrap_or(i64::MAX))
}

/// What is wrong with the variables of OpenTelemetry that `env` looks up.
pub fn check_variables(protocol: OtlpProtocol, env: Environment<'_>) -> Vec<VariableError> {
    read(protocol, env).err().unwrap_or_default()
}

fn read(
    protocol: OtlpProtocol,
    env: Environment<'_>,
) -> Result<(QueueSettings, Collector), Vec<VariableError>> {
    let mut reader = Reader { env, mistakes: Vec::new() };
    let read = (reader.queue(), reader.collector(protocol));
    if reader.mistakes.is_empty() { Ok(read) } else { Err(reader.mistakes) }
}

/// What all spans say of this process.
fn resource(settings: &TracingSettings) -> Resource {
    const INSTANCE: &str = "service.instance.id";
    let TracingSettings { service_name, namespace, instance, .. } = settings;
    let mut resource = Resource::builder().with_service_name(service_name.clone());
    if let Some(namespace) = namespace {
        resource = resource.with_attribute(KeyValue::new("service.namespace", namespace.clone()));
    }
    let from_env = || Resource::builder().build().get(&Key::new(INSTANCE)).map(|it| it.to_string());
    let instance = instance.clone().or_else(from_env).unwrap_or_else(random_uuid);
    resource.with_attribute(KeyValue::new(INSTANCE, instance)).build()
}

/// A UUID of version 4 (RFC 9562).
fn random_uuid() -> String {
    let mut bytes = RandomIdGenerator::default().new_trace_id().to_bytes();
    bytes[6] = 0x40 | bytes[6] & 0x0f;
    bytes[8] = 0x80 | bytes[8] & 0x3f;
    let mut text = String::new();
    for (i, byte) in bytes.iter().enumerate() {
        let dash = if [4, 6, 8, 10].contains(&i) { "-" } else { "" };
        let _ = write!(text, "{dash}{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests;
