//! Envoy connected by TLS with a client certificate, and over a Unix socket.

use serde_json::{Value, json};
use testkit::{
    certificates::{CertificateAuthority, MountedSecret},
    envoy::{self, Envoy, header, route},
    http,
    tollgate::Tollgate,
    unique_value, upstream,
};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 1 }
";

/// A listener that uses the cluster `service` for rate limits, and denies requests if it
/// fails.
fn listener(service: &str) -> Value {
    let filter = envoy::rate_limit_filter(service, &json!({ "failure_mode_deny": true }));
    let user = route("/", json!({ "rate_limits": [{ "actions": [header("user")] }] }));
    envoy::listener(service, &[envoy::http_filter_chain(&[filter], &[user])])
}

/// A gRPC cluster with TLS, for a server named `localhost`.
fn encrypted(
    name: &str,
    service: &Tollgate,
    authority: &CertificateAuthority,
    shown: bool,
) -> Value {
    let inline = |pem: &str| json!({ "inline_string": pem });
    let name_of_server = json!([{ "san_type": "DNS", "matcher": { "exact": "localhost" } }]);
    let mut common = json!({
        "validation_context": {
            "trusted_ca": inline(&authority.pem()),
            "match_typed_subject_alt_names": name_of_server,
        },
    });
    if shown {
        let identity = authority.sign("envoy");
        let (certificate, key) = (identity.certificate_pem(), identity.key_pem());
        common["tls_certificates"] =
            json!([{ "certificate_chain": inline(&certificate), "private_key": inline(&key) }]);
    }
    let tls = json!({ "common_tls_context": common });
    let tls = envoy::typed("extensions.transport_sockets.tls.v3.UpstreamTlsContext", tls);
    let mut cluster = envoy::grpc_cluster(name, &[service.grpc]);
    cluster["transport_socket"] =
        json!({ "name": "envoy.transport_sockets.tls", "typed_config": tls });
    cluster
}

fn get(envoy: &Envoy, listener: &str, user: &str) -> u16 {
    http::get(envoy.listener(listener), "/", &[("x-user", user.as_bytes())]).status
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_envoy_with_a_client_certificate_is_served() {
    let authority = CertificateAuthority::new();
    let (secret, _) = MountedSecret::new(|it| authority.write(it, "localhost"));
    let path = |it: &str| secret.path(it).display().to_string();
    let (certificate, key, ca) = (path("tls.crt"), path("tls.key"), path("ca.crt"));
    let service = Tollgate::start(
        RULES,
        &[
            ("GRPC_SERVER_USE_TLS", "true"),
            ("GRPC_SERVER_TLS_CERT", &certificate),
            ("GRPC_SERVER_TLS_KEY", &key),
            ("GRPC_CLIENT_TLS_CACERT", &ca),
            ("GRPC_CLIENT_TLS_SAN", "envoy"),
        ],
    );
    let envoy = Envoy::start(
        &[listener("known"), listener("unknown")],
        &[
            envoy::cluster("upstream", &[upstream::address()]),
            encrypted("known", &service, &authority, true),
            encrypted("unknown", &service, &authority, false),
        ],
    );
    let user = unique_value();
    assert_eq!([(); 2].map(|()| get(&envoy, "known", &user)), [200, 429]);
    assert_eq!(get(&envoy, "unknown", &user), 500);
    assert_eq!(envoy.stat("cluster.upstream.ratelimit.error"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_connects_over_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("tollgate.sock");
    let socket = socket.to_str().unwrap();
    let _service = Tollgate::start(RULES, &[("GRPC_UDS", socket)]);
    let mut pipe = envoy::grpc_cluster("pipe", &[]);
    let endpoint = json!({ "endpoint": { "address": { "pipe": { "path": socket } } } });
    pipe["load_assignment"]["endpoints"] = json!([{ "lb_endpoints": [endpoint] }]);
    let envoy = Envoy::start(
        &[listener("pipe")],
        &[envoy::cluster("upstream", &[upstream::address()]), pipe],
    );
    let user = unique_value();
    assert_eq!([(); 2].map(|()| get(&envoy, "pipe", &user)), [200, 429]);
}
