//! One Envoy for most tests. It applies the same limits to the same routes twice: with
//! counters in memory and with counters in Redis.
//!
//! Limits are per year and per month, so that no window ends during a test.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use serde_json::{Value, json};
use testkit::{
    envoy::{self, Envoy, header, route},
    http::{self, Reply},
    redis::RedisServer,
    tollgate::Tollgate,
    upstream,
};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 3, name: per_user }
  metadata: { tier: basic }
- key: team
  rate_limit: { unit: month, requests_per_unit: 2, name: per_team }
- key: region
  rate_limit: { unit: week, requests_per_unit: 1000 }
- key: budget
  rate_limit: { unit: year, requests_per_unit: 10 }
- key: peer
  value: 127.0.0.1
  rate_limit: { unit: year, requests_per_unit: 2 }
";

#[derive(Debug)]
pub struct Fronts {
    pub envoy: Envoy,
    services: [Tollgate; 2],
    _redis: RedisServer,
}

/// The listeners and the service for one store.
#[derive(Clone, Copy, Debug)]
pub struct Front<'a> {
    pub envoy: &'a Envoy,
    pub service: &'a Tollgate,
    pub store: &'static str,
    pub http: SocketAddr,
    pub tcp: SocketAddr,
}

impl Front<'_> {
    /// Sends a GET request through Envoy.
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut byte_headers = Vec::new();
        for (name, value) in headers {
            byte_headers.push((*name, value.as_bytes()));
        }
        http::get(self.http, path, &byte_headers)
    }

    /// The statuses of `times` equal requests.
    pub fn statuses(&self, times: usize, path: &str, headers: &[(&str, &str)]) -> Vec<u16> {
        (0..times).map(|_| self.get(path, headers).status).collect()
    }

    /// The number of calls to the service that failed, since the start of Envoy.
    pub fn errors(&self) -> u64 {
        self.envoy.stat("cluster.upstream.ratelimit.error")
    }
}

impl Fronts {
    /// The front with counters in memory, and then the one with counters in Redis.
    pub fn each_store(&self) -> impl Iterator<Item = Front<'_>> {
        ["memory", "redis"].into_iter().zip(&self.services).map(|(store, service)| {
            println!("--- counters in {store}");
            let http = self.envoy.listener(&format!("http-{store}"));
            let tcp = self.envoy.listener(&format!("tcp-{store}"));
            Front { envoy: &self.envoy, service, store, http, tcp }
        })
    }

    /// The instance that other tests use at the moment, or a new one.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Fronts>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let fronts = Arc::new(Self::start());
            *shared = Arc::downgrade(&fronts);
            fronts
        })
    }

    fn start() -> Self {
        let redis = RedisServer::start();
        let settings =
            [("RESPONSE_DYNAMIC_METADATA", "always"), ("LIMIT_RESPONSE_HEADERS_ENABLED", "true")];
        let memory = Tollgate::start(RULES, &settings);
        let url = redis.url();
        let redis_settings = [&settings[..], &[("REDIS_URL", &url)]].concat();
        let shared = Tollgate::start(RULES, &redis_settings);
        let envoy = Envoy::start(
            &[
                http_listener("memory"),
                http_listener("redis"),
                tcp_listener("memory"),
                tcp_listener("redis"),
            ],
            &[
                envoy::cluster("upstream", &[upstream::address()]),
                envoy::grpc_cluster("memory", &[memory.grpc]),
                envoy::grpc_cluster("redis", &[shared.grpc]),
            ],
        );
        Self { envoy, services: [memory, shared], _redis: redis }
    }
}

fn http_listener(service: &str) -> Value {
    let limits = json!({
        "two": { "requests_per_unit": 2, "unit": "YEAR" },
        "none": { "requests_per_unit": 0, "unit": "YEAR" },
    });
    let metadata = json!({ "metadata": [{ "metadata_namespace": "brought", "value": limits }] });
    let metadata = envoy::typed("extensions.filters.http.set_metadata.v3.Config", metadata);
    let filters = [
        json!({ "name": "envoy.filters.http.set_metadata", "typed_config": metadata }),
        envoy::rate_limit_filter(
            service,
            &json!({
                "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
                "enable_retry_after_header": true,
            }),
        ),
    ];
    let chain = envoy::http_filter_chain(&filters, &routes());
    envoy::listener(&format!("http-{service}"), &[chain])
}

fn tcp_listener(service: &str) -> Value {
    let limit = json!({
        "stat_prefix": service,
        "domain": "shop",
        "timeout": "10s",
        "descriptors": [{ "entries": [
            { "key": "peer", "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%" },
        ] }],
        "rate_limit_service": {
            "transport_api_version": "V3",
            "grpc_service": { "envoy_grpc": { "cluster_name": service } },
        },
    });
    let limit = envoy::typed("extensions.filters.network.ratelimit.v3.RateLimit", limit);
    let proxy = json!({ "stat_prefix": "tcp", "cluster": "upstream" });
    let proxy = envoy::typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy);
    envoy::listener(
        &format!("tcp-{service}"),
        &[
            json!({ "name": "envoy.filters.network.ratelimit", "typed_config": limit }),
            json!({ "name": "envoy.filters.network.tcp_proxy", "typed_config": proxy }),
        ],
    )
}

fn routes() -> Vec<Value> {
    let brought = |name: &str| {
        let path = json!([{ "key": name }]);
        json!({ "dynamic_metadata": { "metadata_key": { "key": "brought", "path": path } } })
    };
    let optional_user = json!({ "request_headers": {
        "header_name": "x-user", "descriptor_key": "user", "skip_if_absent": true,
    } });
    vec![
        json!({
            "match": { "path": "/classic" },
            "route": { "cluster": "upstream", "rate_limits": [{ "actions": [header("user")] }] },
        }),
        limited("/user", &[json!({ "actions": [header("user")] })]),
        limited("/team", &[json!({ "actions": [header("team")] })]),
        limited(
            "/all",
            &[
                json!({ "actions": [header("region")] }),
                json!({ "actions": [header("user")] }),
                json!({ "actions": [header("team")] }),
            ],
        ),
        limited("/user-or-not", &[json!({ "actions": [optional_user] })]),
        limited(
            "/user-or-not-and-team",
            &[json!({ "actions": [optional_user] }), json!({ "actions": [header("team")] })],
        ),
        of_domain("/nobody", "nobody"),
        of_domain("/market", "market"),
        limited(
            "/brought-static",
            &[json!({
                "actions": [header("user")],
                "limit": { "rate_limit": { "requests_per_unit": 1, "unit": "YEAR" } },
            })],
        ),
        limited(
            "/brought-two",
            &[json!({ "actions": [header("visitor")], "limit": brought("two") })],
        ),
        limited(
            "/brought-none",
            &[json!({ "actions": [header("visitor")], "limit": brought("none") })],
        ),
        limited("/hits-4", &[budget(&json!({ "number": 4 }))]),
        limited("/hits-of-header", &[budget(&json!({ "format": "%REQ(x-hits)%" }))]),
        limited("/look", &[budget(&json!({ "number": 0 }))]),
        limited("/refund-3", &[budget(&json!({ "number": 3, "is_negative_hits": true }))]),
        limited(
            "/charge-reply",
            &[budget(&json!({ "number": 0 })), {
                let mut charge = budget(&json!({ "format": "%RESP(x-cost)%" }));
                charge["apply_on_stream_done"] = true.into();
                charge
            }],
        ),
    ]
}

fn of_domain(path: &str, domain: &str) -> Value {
    let rate_limits = json!([{ "actions": [header("user")] }]);
    route(path, json!({ "domain": domain, "rate_limits": rate_limits }))
}

fn limited(path: &str, rate_limits: &[Value]) -> Value {
    route(path, json!({ "rate_limits": rate_limits }))
}

fn budget(hits: &Value) -> Value {
    json!({ "actions": [header("budget")], "hits_addend": hits })
}
