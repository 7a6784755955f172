//! Requests that a client makes large or odd. None of them passes beyond its limit, also if
//! Envoy lets pass the requests whose checks fail.

use serde_json::json;
use testkit::{
    envoy::{self, Envoy},
    http, unique_value, upstream,
};

use super::Front;

/// The listeners that fail open.
const OPEN: [&str; 2] = ["grpc-open", "http-open"];

#[test]
fn bytes_that_are_not_utf8_are_limited_like_any_others() {
    let front = Front::shared();
    for listener in OPEN {
        let mut key = unique_value().into_bytes();
        key.extend_from_slice(b"\xe9\xff\tx");
        let address = front.address(listener);
        for expected in [200, 200, 200, 200, 200, 429] {
            let reply = http::get(address, "/caf%E9", &[("x-api-key", &key)]);
            assert_eq!(reply.status, expected, "{listener}");
        }
    }
}

#[test]
fn odd_and_large_requests_stay_refused_once_the_limit_is_used_up() {
    let front = Front::shared();
    for listener in OPEN {
        let key = unique_value();
        assert_eq!(front.statuses(6, listener, "/a", &[("x-api-key", &key)])[5], 429);
        let refused = |path: &str, more: &[(&str, &[u8])]| {
            let headers = [&[("x-api-key", key.as_bytes())], more].concat();
            let reply = http::get(front.address(listener), path, &headers);
            assert!((400..500).contains(&reply.status), "{listener}{path}: {}", reply.status);
        };
        refused("/a", &[("x-a", b"\x01")]);
        refused("/a", &[("x-a", &[b'x'; 40_000])]);
        refused("/a", &vec![("x-forwarded-for", &b"10.0.0.1"[..]); 60]);
        refused("/a", &vec![("x-a", &b"1"[..]); 120]);
        for path in ["/%00", "/%0d%0a", "/a?%ff=%zz", "/\"<>{}|", "/../../x", "*"] {
            refused(path, &[]);
        }
        refused(&format!("/{}", "x".repeat(40_000)), &[]);
    }
}

#[test]
fn a_check_that_is_too_large_to_read_does_not_pass() {
    let front = Front::shared();
    let filter = json!({
        "failure_mode_allow": true,
        "grpc_service": { "timeout": "10s", "envoy_grpc": { "cluster_name": "grpc" } },
    });
    let route = envoy::checked_route("/", &json!({ "domain": "edge" }));
    let mut chain = envoy::http_filter_chain(&[envoy::ext_authz_filter(&filter)], &[route]);
    let manager = &mut chain["typed_config"];
    manager["max_request_headers_kb"] = 8192.into();
    manager["common_http_protocol_options"] = json!({ "max_headers_count": 10_000 });
    let clusters = [
        envoy::cluster("upstream", &[upstream::address()]),
        envoy::grpc_cluster("grpc", &[front.service.grpc]),
    ];
    let envoy = Envoy::start(&[envoy::listener("wide", &[chain])], &clusters);
    let address = envoy.listener("wide");
    let mut many = Vec::new();
    for number in 0..2_000 {
        many.push(format!("x-{number}"));
    }
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), &b"1"[..])).collect();
    let long = vec![b'x'; 5 << 20];
    for headers in [&many[..], &[("x-long", &long)]] {
        let reply = http::get(address, "/a", headers);
        assert_eq!(reply.status, 413, "{}", reply.text());
    }
    assert_eq!(http::get(address, "/a", &[]).status, 200);
}
