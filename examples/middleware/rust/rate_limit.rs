//! A tower service that asks tollgate before each request.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, Uri, request::Parts};
use axum::response::{IntoResponse, Response};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use serde_json::{Value, json};
use tower::{Service, ServiceExt, service_fn, util::BoxCloneSyncService};

const DOWN: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

/// `entries` makes the descriptor of a request, `[{"key": "…", "value": "…"}]`. Without an answer
/// within `timeout`, it passes only if `fail_open`. Clones share the connections of `client`.
#[derive(Clone, Debug)]
pub struct RateLimit {
    pub client: Client<HttpConnector, Body>,
    pub url: Uri,
    pub domain: &'static str,
    pub entries: fn(&Parts) -> Value,
    pub timeout: std::time::Duration,
    pub fail_open: bool,
}

impl RateLimit {
    /// A service that refuses requests over their limit before they reach `inner`.
    pub fn protect<S>(self, inner: S) -> BoxCloneSyncService<Request<Body>, Response, S::Error>
    where
        S: Service<Request<Body>, Response = Response, Future: Send>,
        S: Clone + Send + Sync + 'static,
    {
        BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
            let (limit, inner) = (self.clone(), inner.clone());
            async move {
                let (parts, body) = request.into_parts();
                let answer = tokio::time::timeout(limit.timeout, limit.ask(&parts)).await;
                let (status, headers) = answer.ok().flatten().unwrap_or((DOWN, HeaderMap::new()));
                // An answer 4xx means that the question was wrong. It never lets a request pass.
                if status == 200 || (status.is_server_error() && limit.fail_open) {
                    return inner.oneshot(Request::from_parts(parts, body)).await;
                }
                let mut refusal = if status == 429 { status } else { DOWN }.into_response();
                for name in ["retry-after", "ratelimit", "ratelimit-policy"] {
                    if let Some(value) = headers.get(name) {
                        refusal.headers_mut().insert(name, value.clone());
                    }
                }
                Ok(refusal)
            }
        }))
    }

    async fn ask(&self, parts: &Parts) -> Option<(StatusCode, HeaderMap)> {
        let entries = (self.entries)(parts);
        let question = json!({"domain": self.domain, "descriptors": [{"entries": entries}]});
        let request = Request::post(&self.url).body(Body::from(question.to_string())).ok()?;
        let (head, body) = self.client.request(request).await.ok()?.into_parts();
        to_bytes(Body::new(body), 1 << 20).await.ok()?; // The connection is used again.
        Some((head.status, head.headers))
    }
}
