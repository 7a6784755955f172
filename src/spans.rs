//! Traces: records calls as OpenTelemetry spans, under the span names of Envoy's reference
//! service, and sends them to a collector. No other module knows OpenTelemetry.
//!
//! | span                                              | covers                                 |
//! |---------------------------------------------------|----------------------------------------|
//! | `envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit` | a gRPC call                |
//! | `envoy.service.auth.v3.Authorization/Check`       | a gRPC call                            |
//! | `POST /json`, `GET /check`                        | an HTTP call                           |
//! | `ShouldRateLimit Execution`                       | the decision, child of either          |
//! | `Redis Pipeline Execution`                        | a call to Redis, child of either       |
//!
//! Whether a call is recorded is decided when it arrives. A call that is not recorded
//! costs nothing beyond that. Export to the collector is not traced itself.

use std::{borrow::Cow, sync::Arc};

use axum::http::{HeaderMap, Method};
use opentelemetry::{
    Context, InstrumentationScope, Key, KeyValue,
    trace::{Span as _, SpanBuilder, SpanKind, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider, Span, SpanExporter as _},
};
use tracing::info;

use crate::metrics::Metrics;

mod collector;
mod http_client;
mod decision_span;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod parent;
mod queue;
pub mod redis_tracer;
mod server_span;
mod settings;
mod text;
mod variables;

pub use self::{
    decision_span::DecisionSpan,
    queue::SpanSender,
    server_span::ServerSpan,
    settings::{OtlpProtocol, TracingSettings, VariableLookup},
    variables::{VariableError, check_variables},
};
use self::{
    parent::{Parent, ParentSampler, ParentSampling},
    queue::Queue,
    server_span::CallProtocol,
};

const INSTANCE_ID: &str = "service.instance.id";

/// The method of a gRPC call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcMethod {
    /// Of Envoy's rate-limit service.
    ShouldRateLimit,
    /// Of Envoy's external authorization.
    Check,
}

/// The names of a gRPC method in its spans.
struct GrpcNames {
    service: &'static str,
    method: &'static str,
    span: &'static str,
}

impl GrpcMethod {
    const fn names(self) -> GrpcNames {
        match self {
            Self::ShouldRateLimit => GrpcNames {
                service: "envoy.service.ratelimit.v3.RateLimitService",
                method: "ShouldRateLimit",
                span: "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
            },
            Self::Check => GrpcNames {
                service: "envoy.service.auth.v3.Authorization",
                method: "Check",
                span: "envoy.service.auth.v3.Authorization/Check",
            },
        }
    }
}

/// The reason why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracingError {
    /// OpenTelemetry's environment variables are wrong. Holds at least one error.
    #[error("traces cannot be sent:{}", list(.0))]
    Variables(Vec<VariableError>),
    /// The OpenTelemetry library refused the settings.
    #[error("traces cannot be sent:\n  {0}")]
    Client(String),
}

fn list(errors: &[VariableError]) -> String {
    errors.iter().map(|error| format!("\n  {error}")).collect()
}

/// The protocol of an HTTP call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpRoute {
    /// `/json`.
    Json,
    /// `/check`. What follows in the path is not recorded: it may be a client's.
    Check,
}

impl HttpRoute {
    const fn path(self) -> &'static str {
        match self {
            Self::Json => "/json",
            Self::Check => "/check",
        }
    }
}

/// Creates the spans of calls.
#[derive(Clone, Debug)]
pub struct Tracing {
    tracer: SdkTracer,
}

impl Tracing {
    /// Creates spans as `settings` ask for, and the task that sends them. The collector is
    /// set by OpenTelemetry's standard environment variables: `env` looks up those that
    /// tollgate reads; the OpenTelemetry library reads others from the process's
    /// environment.
    ///
    /// # Errors
    ///
    /// If variables are wrong; the error lists all of them.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn new(
        settings: &TracingSettings,
        env: VariableLookup<'_>,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, SpanSender), TracingError> {
        let export = variables::read(settings.protocol, env).map_err(TracingError::Variables)?;
        let mut exporter = collector::exporter(&export.collector).map_err(TracingError::Client)?;
        let resource = resource(settings);
        info!(protocol = ?settings.protocol, rate = settings.rate, "tracing is on");
        exporter.set_resource(&resource);
        let (queue, sender) = Queue::new(export.queue, exporter, metrics);
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(Box::new(ParentSampler::new(settings.rate)) as Box<_>)
            .with_span_processor(queue)
            .build();
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Ok((Self { tracer: provider.tracer_with_scope(scope) }, sender))
    }

    /// Starts the span of a gRPC call, or returns `None` if the call is not recorded.
    pub fn start_grpc_call(&self, method: GrpcMethod, headers: &HeaderMap) -> Option<ServerSpan> {
        let GrpcNames { service, method, span } = method.names();
        let attributes = [("rpc.system", "grpc"), ("rpc.service", service), ("rpc.method", method)];
        self.start_call(CallProtocol::Grpc, || span.into(), headers, attributes)
    }

    /// Starts the span of an HTTP call, or returns `None` if the call is not recorded.
    pub fn start_http_call(
        &self,
        route: HttpRoute,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<ServerSpan> {
        // Unknown methods share a name: a client could invent any number.
        let (method, in_name) = match method.as_str() {
            "GET" => ("GET", "GET"),
            "POST" => ("POST", "POST"),
            "PUT" => ("PUT", "PUT"),
            "PATCH" => ("PATCH", "PATCH"),
            "DELETE" => ("DELETE", "DELETE"),
            _ => ("_OTHER", "HTTP"),
        };
        let route = route.path();
        let name = || format!("{in_name} {route}").into();
        let attributes =
            [("http.request.method", method), ("url.path", route), ("http.route", route)];
        self.start_call(CallProtocol::Http, name, headers, attributes)
    }

    fn start_call(
        &self,
        protocol: CallProtocol,
        name: impl FnOnce() -> Cow<'static, str>,
        headers: &HeaderMap,
        attributes: [(&'static str, &'static str); 3],
    ) -> Option<ServerSpan> {
        let parent = Parent::from_headers(headers);
        if parent.sampling == ParentSampling::Skip {
            return None;
        }
        let builder = SpanBuilder::from_name(name()).with_kind(SpanKind::Server);
        let mut span = self.tracer.build_with_context(builder, &parent.into_context());
        if !span.is_recording() {
            return None;
        }
        for (key, value) in attributes {
            span.set_attribute(KeyValue::new(key, value));
        }
        Some(ServerSpan::new(span, protocol))
    }

    /// Starts the span of a decision, if it runs inside
    /// [`instrument`](ServerSpan::instrument) of a recorded call.
    pub fn start_decision(&self) -> Option<DecisionSpan> {
        let span = self.start_child("ShouldRateLimit Execution")?;
        Some(DecisionSpan::new(span))
    }

    /// Starts a child of the current call's span, if the call is recorded.
    fn start_child(&self, name: &'static str) -> Option<Span> {
        Context::map_current(|call| {
            if !call.has_active_span() {
                return None;
            }
            Some(self.tracer.build_with_context(SpanBuilder::from_name(name), call))
        })
    }
}

/// The attributes that all spans of this process share.
fn resource(settings: &TracingSettings) -> Resource {
    let mut resource = Resource::builder().with_service_name(settings.service_name.clone());
    if let Some(namespace) = &settings.namespace {
        resource = resource.with_attribute(KeyValue::new("service.namespace", namespace.clone()));
    }
    let instance = match &settings.instance {
        Some(instance) => instance.clone(),
        None => instance_from_environment().unwrap_or_else(random_uuid),
    };
    resource.with_attribute(KeyValue::new(INSTANCE_ID, instance)).build()
}

/// The instance ID in `OTEL_RESOURCE_ATTRIBUTES`, which the OpenTelemetry library reads.
fn instance_from_environment() -> Option<String> {
    let instance = Resource::builder().build().get(&Key::new(INSTANCE_ID))?;
    Some(instance.to_string())
}

/// A UUID of version 4 (RFC 9562).
fn random_uuid() -> String {
    const VERSION_BITS: u32 = 76;
    const VARIANT_BITS: u32 = 62;
    let mut uuid = fastrand::u128(..);
    uuid = uuid & !(0xf << VERSION_BITS) | 4 << VERSION_BITS;
    uuid = uuid & !(0b11 << VARIANT_BITS) | 0b10 << VARIANT_BITS;
    let hex = format!("{uuid:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests;
