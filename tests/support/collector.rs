//! An OpenTelemetry collector that accepts OTLP over gRPC and over HTTP on one port.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{body::Bytes, extract::State, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use parking_lot::Mutex;
use prost::Message;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::rustls;
use tonic::{Request, Response, Status, service::Routes, transport::Server};

use crate::{tonic_server, wait::eventually};

/// The collector. Dropping it closes all connections.
#[derive(Debug)]
pub struct Collector {
    pub address: SocketAddr,
    received: Received,
    _tasks: JoinSet<()>,
}

/// A span with its resource attributes and the headers of the export request.
#[derive(Clone, Debug)]
pub struct ReceivedSpan {
    pub span: Span,
    pub resource: Attributes,
    pub headers: HeaderMap,
}

pub type Attributes = BTreeMap<String, String>;

#[derive(Clone, Debug, Default)]
struct Received(Arc<Mutex<Vec<ReceivedSpan>>>);

impl Received {
    fn store(&self, headers: &HeaderMap, request: ExportTraceServiceRequest) {
        let mut received = self.0.lock();
        for resource_spans in request.resource_spans {
            let resource = attributes(&resource_spans.resource.unwrap().attributes);
            for scope in resource_spans.scope_spans {
                for span in scope.spans {
                    let (resource, headers) = (resource.clone(), headers.clone());
                    received.push(ReceivedSpan { span, resource, headers });
                }
            }
        }
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (headers, _, message) = request.into_parts();
        self.store(headers.as_ref(), message);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn receive(State(received): State<Received>, headers: HeaderMap, body: Bytes) -> Vec<u8> {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    received.store(&headers, ExportTraceServiceRequest::decode(body).unwrap());
    ExportTraceServiceResponse::default().encode_to_vec()
}

impl Collector {
    pub async fn start() -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").await.unwrap(), None)
    }

    /// Serves on `listener`, with TLS if `tls` is set.
    pub fn serve(listener: TcpListener, tls: Option<rustls::ServerConfig>) -> Self {
        let (address, received) = (listener.local_addr().unwrap(), Received::default());
        let routes = Routes::new(TraceServiceServer::new(received.clone())).prepare();
        let http =
            axum::Router::new().route("/v1/traces", post(receive)).with_state(received.clone());
        let routes = Routes::from(routes.into_axum_router().merge(http));
        let router = Server::builder().accept_http1(true).add_routes(routes);
        let tasks = tonic_server::serve(router, listener, tls);
        Self { address, received, _tasks: tasks }
    }

    /// All spans so far, in the order of their arrival.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.received.0.lock().clone()
    }

    /// Waits until at least `count` spans have arrived.
    #[track_caller]
    pub fn wait_for_spans(&self, count: usize) -> Vec<ReceivedSpan> {
        eventually(&format!("{count} spans"), || {
            let spans = self.spans();
            (count <= spans.len()).then_some(spans)
        })
    }
}

impl ReceivedSpan {
    /// The value of an attribute, as text.
    #[track_caller]
    pub fn attribute(&self, name: &str) -> String {
        let attributes = attributes(&self.span.attributes);
        attributes.get(name).unwrap_or_else(|| panic!("no {name} in {attributes:?}")).clone()
    }

    pub fn attribute_names(&self) -> Vec<String> {
        attributes(&self.span.attributes).into_keys().collect()
    }

    pub fn trace_id(&self) -> String {
        hex(&self.span.trace_id)
    }

    pub fn parent_id(&self) -> String {
        hex(&self.span.parent_span_id)
    }
}

/// An ID in the usual notation.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        text += &format!("{byte:02x}");
    }
    text
}

fn attributes(attributes: &[KeyValue]) -> Attributes {
    let mut texts = Attributes::new();
    for attribute in attributes {
        let value = attribute.value.as_ref().and_then(|any| any.value.as_ref());
        let text = match value {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::IntValue(number)) => number.to_string(),
            Some(Value::BoolValue(truth)) => truth.to_string(),
            other => panic!("{other:?}"),
        };
        texts.insert(attribute.key.clone(), text);
    }
    texts
}
