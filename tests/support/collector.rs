//! A collector of OpenTelemetry: OTLP by gRPC and by HTTP, on one port.

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
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_rustls::{TlsAcceptor, rustls};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, service::Routes, transport::Server};

use super::eventually;

/// The collector; gone when it is dropped, with all connections.
#[derive(Debug)]
pub struct Collector {
    pub address: SocketAddr,
    received: Received,
    _tasks: JoinSet<()>,
}

/// A span, and what came with it.
#[derive(Clone, Debug)]
pub struct Exported {
    pub span: Span,
    pub resource: Attributes,
    pub headers: HeaderMap,
}

pub type Attributes = BTreeMap<String, String>;

#[derive(Clone, Debug, Default)]
struct Received(Arc<Mutex<Vec<Exported>>>);

impl Received {
    fn take(&self, headers: &HeaderMap, request: ExportTraceServiceRequest) {
        let mut received = self.0.lock();
        for resource_spans in request.resource_spans {
            let resource = attributes(&resource_spans.resource.unwrap().attributes);
            for span in resource_spans.scope_spans.into_iter().flat_map(|it| it.spans) {
                let (resource, headers) = (resource.clone(), headers.clone());
                received.push(Exported { span, resource, headers });
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
        self.take(headers.as_ref(), message);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn take(State(received): State<Received>, headers: HeaderMap, body: Bytes) -> Vec<u8> {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    received.take(&headers, ExportTraceServiceRequest::decode(body).unwrap());
    ExportTraceServiceResponse::default().encode_to_vec()
}

impl Collector {
    pub async fn start() -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").await.unwrap(), None)
    }

    /// With TLS, if there is a configuration for it.
    pub fn serve(listener: TcpListener, tls: Option<rustls::ServerConfig>) -> Self {
        let (address, received) = (listener.local_addr().unwrap(), Received::default());
        let routes = Routes::new(TraceServiceServer::new(received.clone())).prepare();
        let http = axum::Router::new().route("/v1/traces", post(take)).with_state(received.clone());
        let routes = Routes::from(routes.into_axum_router().merge(http));
        let router = Server::builder().accept_http1(true).add_routes(routes);
        let mut tasks = JoinSet::new();
        match tls {
            None => {
                let incoming = TcpListenerStream::new(listener);
                tasks.spawn(async { router.serve_with_incoming(incoming).await.unwrap() });
            }
            Some(tls) => {
                let acceptor = TlsAcceptor::from(Arc::new(tls));
                let (accepted, incoming) = mpsc::unbounded_channel();
                tasks.spawn(async move {
                    loop {
                        let (socket, _) = listener.accept().await.unwrap();
                        if let Ok(connection) = acceptor.accept(socket).await {
                            accepted.send(Ok::<_, std::io::Error>(connection)).unwrap();
                        }
                    }
                });
                let incoming = UnboundedReceiverStream::new(incoming);
                tasks.spawn(async { router.serve_with_incoming(incoming).await.unwrap() });
            }
        }
        Self { address, received, _tasks: tasks }
    }

    /// What has come so far, in order.
    pub fn received(&self) -> Vec<Exported> {
        self.received.0.lock().clone()
    }

    /// Waits until at least so many spans have come.
    pub fn spans(&self, count: usize) -> Vec<Exported> {
        eventually(&format!("{count} spans"), || {
            let received = self.received();
            (count <= received.len()).then_some(received)
        })
    }
}

impl Exported {
    /// The value of an attribute, as text.
    #[track_caller]
    pub fn attribute(&self, name: &str) -> String {
        let attributes = attributes(&self.span.attributes);
        attributes.get(name).unwrap_or_else(|| panic!("no {name} in {attributes:?}")).clone()
    }

    /// The names of all attributes.
    pub fn attribute_names(&self) -> Vec<String> {
        attributes(&self.span.attributes).into_keys().collect()
    }

    pub fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    pub fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }
}

/// As people write IDs.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

fn attributes(attributes: &[KeyValue]) -> Attributes {
    let text = |it: &KeyValue| match it.value.as_ref().and_then(|it| it.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|it| (it.key.clone(), text(it))).collect()
}
