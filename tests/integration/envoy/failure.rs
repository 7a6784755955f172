//! Envoy without the service, and after the service returns.

use serde_json::json;
use testkit::{
    envoy::{self, Envoy, header, route},
    http,
    tollgate::Tollgate,
    unique_value, upstream,
    wait::eventually,
};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 1 }
";

#[test]
fn envoy_follows_its_failure_mode_without_the_service_and_reconnects() {
    let mut service = Tollgate::start(RULES, &[("DRAIN_DELAY", "0s")]);
    let listeners = [
        ("open", json!({})),
        ("closed", json!({ "failure_mode_deny": true })),
        ("busy", json!({ "failure_mode_deny": true, "status_on_error": { "code": "ServiceUnavailable" } })),
    ]
    .map(|(name, more)| {
        let filter = envoy::rate_limit_filter("tollgate", &more);
        let user = route("/user", json!({ "rate_limits": [{ "actions": [header("user")] }] }));
        envoy::listener(name, &[envoy::http_filter_chain(&[filter], &[user])])
    });
    let clusters = [
        envoy::cluster("upstream", &[upstream::address()]),
        envoy::grpc_cluster("tollgate", &[service.grpc]),
    ];
    let envoy = Envoy::start(&listeners, &clusters);
    let get = |listener: &str, user: &str| {
        http::get(envoy.listener(listener), "/user", &[("x-user", user.as_bytes())]).status
    };
    let all = |user: &str| ["open", "closed", "busy"].map(|it| get(it, user));

    assert_eq!(all(&unique_value()), [200, 429, 429], "with the service");
    service.stop();
    assert_eq!(all(&unique_value()), [200, 500, 503], "without it");

    let _restarted = Tollgate::start_at(service.host(), RULES, &[]);
    eventually("Envoy to reach the service", || get("closed", &unique_value()) == 200);
    assert_eq!(all(&unique_value()), [200, 429, 429], "with the service again");
}
