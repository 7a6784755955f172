//! An Envoy whose filter `ext_authz` asks before it serves a request.

use std::net::SocketAddr;

use serde_json::{Value, json};
use testkit::envoy::{self, Envoy};

use super::front::{Timeouts, Undecided};

/// An Envoy that asks over HTTP at `service`.
pub fn asking_by_http(
    service: SocketAddr,
    application: SocketAddr,
    undecided: Undecided,
    timeouts: Timeouts,
) -> Envoy {
    let exact = |names: &[&str]| {
        let patterns: Vec<_> = names.iter().map(|name| json!({ "exact": name })).collect();
        json!({ "patterns": patterns })
    };
    let of_refusals =
        ["retry-after", "ratelimit", "ratelimit-policy", "content-type", "cache-control"];
    let filter = json!({
        "failure_mode_allow": undecided == Undecided::Pass,
        "status_on_error": { "code": "ServiceUnavailable" },
        "allowed_headers": exact(&["x-forwarded-for", "x-api-key"]),
        "http_service": {
            "server_uri": {
                "uri": "http://tollgate", "cluster": "service", "timeout": timeout(timeouts),
            },
            "path_prefix": "/check/envoy/web",
            "authorization_response": {
                "allowed_client_headers": exact(&of_refusals),
                "allowed_client_headers_on_success": exact(&["ratelimit", "ratelimit-policy"]),
            },
        },
    });
    start(&filter, envoy::cluster("service", &[service]), application)
}

/// An Envoy that asks over gRPC at `service`.
pub fn asking_by_grpc(
    service: SocketAddr,
    application: SocketAddr,
    undecided: Undecided,
    timeouts: Timeouts,
) -> Envoy {
    let filter = json!({
        "failure_mode_allow": undecided == Undecided::Pass,
        "status_on_error": { "code": "ServiceUnavailable" },
        "grpc_service": {
            "timeout": timeout(timeouts), "envoy_grpc": { "cluster_name": "service" },
        },
    });
    start(&filter, envoy::grpc_cluster("service", &[service]), application)
}

fn start(filter: &Value, service: Value, application: SocketAddr) -> Envoy {
    let route = envoy::checked_route("/", &json!({ "domain": "web" }));
    let mut chain = envoy::http_filter_chain(&[envoy::ext_authz_filter(filter)], &[route]);
    chain["typed_config"]["use_remote_address"] = true.into();
    let clusters = [envoy::cluster("upstream", &[application]), service];
    Envoy::start(&[envoy::listener("web", &[chain])], &clusters)
}

fn timeout(timeouts: Timeouts) -> &'static str {
    match timeouts {
        Timeouts::Short => "0.2s",
        Timeouts::Long => "60s",
    }
}
