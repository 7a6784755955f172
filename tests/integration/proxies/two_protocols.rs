//! Envoy asks over gRPC, nginx asks over HTTP, and both share counters.

use serde_json::json;
use testkit::{
    envoy::{self, Envoy, route},
    http,
    redis::RedisServer,
    tollgate::Tollgate,
    unique_value, upstream,
};

use super::{
    client::Request,
    front::{Front, Kind, Timeouts, Undecided, rules},
};

#[test]
fn envoy_and_nginx_share_a_counter() {
    let redis = RedisServer::start();
    let settings = [("REDIS_URL", &*redis.url())];
    let of_envoy = Tollgate::start_ready(&rules(), &settings);
    let of_nginx = Tollgate::start_ready(&rules(), &settings);
    let header = json!({ "header_name": "x-api-key", "descriptor_key": "api_key" });
    let limits = json!({ "rate_limits": [{ "actions": [{ "request_headers": header }] }] });
    let filter = envoy::rate_limit_filter(
        "tollgate",
        &json!({ "domain": "web", "failure_mode_deny": true }),
    );
    let chain = envoy::http_filter_chain(&[filter], &[route("/", limits)]);
    let envoy = Envoy::start(
        &[envoy::listener("web", &[chain])],
        &[
            envoy::cluster("upstream", &[upstream::address()]),
            envoy::grpc_cluster("tollgate", &[of_envoy.grpc]),
        ],
    );
    let address = envoy.listener("web");
    let front = Front::start(Kind::Nginx, &of_nginx, Undecided::Refuse, Timeouts::Long);

    let key = format!("key-{}", unique_value());
    let by_envoy = || http::get(address, "/", &[("x-api-key", key.as_bytes())]).status;
    let by_nginx = || front.status(&Request::get("/").key(&key));
    assert_eq!([by_envoy(), by_nginx(), by_envoy(), by_nginx(), by_envoy()], [200; 5]);
    assert_eq!([by_nginx(), by_envoy()], [429; 2]);
}
