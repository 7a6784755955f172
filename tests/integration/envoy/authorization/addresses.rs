//! Limits by the address of the client.

use serde_json::json;
use testkit::{
    envoy::{self, Envoy},
    http,
    network::unused_host,
    upstream,
};

use super::{Front, LISTENERS};

#[test]
fn headers_of_a_client_do_not_give_it_another_address() {
    let front = Front::shared();
    for listener in LISTENERS {
        let peer = unused_host();
        for (attempt, expected) in [200, 200, 200, 429].into_iter().enumerate() {
            let forged = format!("10.0.0.{attempt}");
            let headers = [("x-forwarded-for", forged.as_str()), ("x-real-ip", &forged)];
            let reply = front.get_from(peer, listener, "/login", &headers);
            assert_eq!(reply.status, expected, "{listener}, attempt {attempt}");
        }
        assert_eq!(front.get_from(unused_host(), listener, "/login", &[]).status, 200);
    }
}

#[test]
fn other_spellings_of_a_path_are_the_same_path() {
    let front = Front::shared();
    for listener in LISTENERS {
        let peer = unused_host();
        for path in ["/login", "//login", "/a/../login?x=/../free"] {
            assert_eq!(front.get_from(peer, listener, path, &[]).status, 200, "{path}");
        }
        for path in ["/login", "/./login", "/%6Cogin", "/login?b", "/a/%2e%2e/login"] {
            let status = front.get_from(peer, listener, path, &[]).status;
            assert_eq!(status, 429, "{listener}: {path}");
        }
    }
}

/// Without `use_remote_address`, Envoy leaves `X-Forwarded-For` as the client has sent it.
#[test]
fn the_peer_of_the_proxy_counts_also_where_envoy_does_not_append_it() {
    let front = Front::shared();
    let filter = json!({
        "grpc_service": { "timeout": "10s", "envoy_grpc": { "cluster_name": "grpc" } },
    });
    let route = envoy::checked_route("/", &json!({ "domain": "edge" }));
    let chain = envoy::http_filter_chain(&[envoy::ext_authz_filter(&filter)], &[route]);
    let clusters = [
        envoy::cluster("upstream", &[upstream::address()]),
        envoy::grpc_cluster("grpc", &[front.service.grpc]),
    ];
    let envoy = Envoy::start(&[envoy::listener("trusting", &[chain])], &clusters);
    let address = envoy.listener("trusting");
    // All come from one peer, which no other test is.
    let statuses: Vec<u16> = (0..4)
        .map(|attempt| {
            let forged = format!("10.0.0.{attempt}");
            http::get(address, "/login", &[("x-forwarded-for", forged.as_bytes())]).status
        })
        .collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
}
