//! The HTTP client of the collector.

use std::time::Duration;

use axum::body::{self, Body};
use bytes::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use rustls::ClientConfig;
use tokio::time;

/// The most bytes of a response that are read. An answer of a collector has some dozens.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// Sends requests over HTTP/1.1. The client of the OpenTelemetry library reads responses
/// of any length.
#[derive(Debug)]
pub(super) struct CollectorClient {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    timeout: Duration,
}

impl CollectorClient {
    /// `tls` applies to `https` URLs.
    pub(super) fn new(tls: ClientConfig, timeout: Duration) -> Self {
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new()).build(connector.build());
        Self { client, timeout }
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.client.request(request.map(Body::from)).await?;
        let (head, body) = response.into_parts();
        let body = body::to_bytes(Body::new(body), MAX_RESPONSE_BYTES).await?;
        Ok(Response::from_parts(head, body))
    }
}

#[tonic::async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        time::timeout(self.timeout, self.send(request)).await?
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Sends a request to a server whose response has a body of this length.
    async fn exchange(bytes: usize) -> Result<usize, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1_000]).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
            // The client may leave early.
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&vec![0; bytes]).await;
        });
        let tls = super::super::collector::plaintext_config().unwrap();
        let client = CollectorClient::new(tls, Duration::from_secs(60));
        let request = Request::post(url).body(Bytes::new()).unwrap();
        let response = client.send_bytes(request).await;
        server.abort();
        response.map(|response| response.body().len()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_long_response_is_an_error() {
        assert_eq!(exchange(MAX_RESPONSE_BYTES).await, Ok(MAX_RESPONSE_BYTES));
        let error = exchange(MAX_RESPONSE_BYTES + 1).await.unwrap_err();
        assert!(error.contains("length limit"), "{error}");
    }
}
