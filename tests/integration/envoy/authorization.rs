//! The external authorization filter of a real Envoy, over gRPC and over HTTP. All limits are
//! per year.

mod addresses;
mod failure;
mod hostile;
mod limits;
mod mistakes;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use testkit::{
    envoy::{self, Envoy, checked_route, ext_authz_filter, header, route},
    http::{self, Reply},
    tollgate::Tollgate,
    upstream,
    wait::eventually,
};

const RULES: &str = "
domain: edge
http:
  descriptors:
  - [{ header: x-api-key, key: api_key }]
  - [{ header: x-burst-key, key: burst_key }]
  - [path, remote_address]
descriptors:
- key: api_key
  rate_limit: { unit: year, requests_per_unit: 5, name: per_key }
- key: burst_key
  rate_limit: { unit: year, requests_per_unit: 50 }
- key: path
  value: /login
  descriptors:
  - key: remote_address
    rate_limit: { unit: year, requests_per_unit: 3 }
";

/// A domain that only the rate-limit service uses.
const OTHER_RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 1 }
";

/// An Envoy with a listener for each way to ask, that fails closed or open.
#[derive(Debug)]
struct Front {
    envoy: Envoy,
    service: Tollgate,
}

/// The listeners that ask by `ext_authz`.
const LISTENERS: [&str; 4] = ["grpc-closed", "grpc-open", "http-closed", "http-open"];

impl Front {
    /// The instance that other tests use at the moment, or a new one.
    fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Front>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let front = Arc::new(Self::start(&[]));
            *shared = Arc::downgrade(&front);
            front
        })
    }

    fn start(settings: &[(&str, &str)]) -> Self {
        let service = Tollgate::start(RULES, settings);
        service.replace_rules("other.yaml", OTHER_RULES);
        eventually("the rules of both domains", || service.rules_page().contains("shop.user"));
        let mut listeners = vec![limited_listener()];
        for name in LISTENERS {
            let mode = json!({
                "failure_mode_allow": name.ends_with("open"),
                "status_on_error": { "code": "ServiceUnavailable" },
            });
            listeners.push(checked_listener(name, &mode));
        }
        let clusters = [
            envoy::cluster("upstream", &[upstream::address()]),
            envoy::grpc_cluster("grpc", &[service.grpc]),
            envoy::cluster("http", &[service.http]),
        ];
        Self { envoy: Envoy::start(&listeners, &clusters), service }
    }

    fn address(&self, listener: &str) -> SocketAddr {
        self.envoy.listener(listener)
    }

    fn get(&self, listener: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        http::get(self.address(listener), path, &bytes(headers))
    }

    /// The statuses of `times` equal requests.
    fn statuses(
        &self,
        times: usize,
        listener: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Vec<u16> {
        (0..times).map(|_| self.get(listener, path, headers).status).collect()
    }

    /// Sends a GET request from another address of the loopback network.
    fn get_from(
        &self,
        peer: Ipv4Addr,
        listener: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Reply {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((peer, 0)).into()).unwrap();
        socket.connect(&self.address(listener).into()).unwrap();
        http::exchange(TcpStream::from(socket), "GET", path, &bytes(headers), b"").unwrap()
    }
}

fn bytes<'a>(headers: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a [u8])> {
    headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect()
}

/// A listener whose requests are checked. Its name begins with the protocol of the checks.
fn checked_listener(name: &str, mode: &Value) -> Value {
    let mut filter = mode.clone();
    let (protocol, _) = name.split_once('-').unwrap();
    if protocol == "grpc" {
        filter["grpc_service"] =
            json!({ "timeout": "10s", "envoy_grpc": { "cluster_name": "grpc" } });
    } else {
        filter["http_service"] = http_service("edge");
        filter["allowed_headers"] = json!({ "patterns": [
            { "exact": "x-forwarded-for" }, { "exact": "x-api-key" }, { "exact": "x-burst-key" },
        ] });
    }
    let edge = json!({ "domain": "edge" });
    let mut routes = Vec::new();
    if protocol == "grpc" {
        routes.push(checked_route("/no-domain", &json!({ "other": "edge" })));
        routes.push(checked_route("/unknown-domain", &json!({ "domain": "nobody" })));
        routes.push(checked_route("/no-http", &json!({ "domain": "shop" })));
    }
    routes.push(checked_route("/", &edge));
    let mut chain = envoy::http_filter_chain(&[ext_authz_filter(&filter)], &routes);
    chain["typed_config"]["use_remote_address"] = true.into();
    envoy::listener(name, &[chain])
}

/// The HTTP form of the service of a filter.
fn http_service(domain: &str) -> Value {
    json!({
        "server_uri": { "uri": "http://tollgate", "cluster": "http", "timeout": "10s" },
        "path_prefix": format!("/check/envoy/{domain}"),
        "authorization_response": {
            "allowed_client_headers": { "patterns": [
                { "exact": "retry-after" }, { "prefix": "ratelimit" }, { "exact": "content-type" },
                { "exact": "cache-control" },
            ] },
            "allowed_client_headers_on_success": { "patterns": [{ "prefix": "ratelimit" }] },
        },
    })
}

/// A listener with the filter of the rate-limit service, for the same domain.
fn limited_listener() -> Value {
    let filter = envoy::rate_limit_filter("grpc", &json!({ "domain": "edge" }));
    let mut key = header("api-key");
    key["request_headers"]["descriptor_key"] = "api_key".into();
    let limited = route("/limited", json!({ "rate_limits": [{ "actions": [key] }] }));
    envoy::listener("rate-limit", &[envoy::http_filter_chain(&[filter], &[limited])])
}
