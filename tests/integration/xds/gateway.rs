//! The settings of Envoy Gateway, and the rules that it sends.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use envoy_types::pb::ratelimit::config::ratelimit::v3::RateLimitDescriptor;

use super::*;
use crate::tls::{reload::Load, reload::until_shown};
use testkit::{
    certificates::{CertificateAuthority, MountedSecret},
    redis::RedisServer,
};

const LISTENER: &str = "envoy-gateway/gateway-1/http";
const ROUTE: &str = "httproute/default/backend/rule/0/match/0/www_example_com";
const ANY_HOST: &str = "httproute/default/backend/rule/0/match/0/*_example_com";

const HEADER: (&str, &str) = ("rule-0-match-0", "rule-0-match-0");
const CIDR: [(&str, &str); 2] = [("masked_remote_address", "10.0.0.0/8"), ("remote_address", "")];

/// Starts a service with all settings of the gateway. Only the ports are different.
fn start(url: &str, files: &Path, redis: &RedisServer) -> Tollgate {
    let path = |it: &str| files.join(it).display().to_string();
    let (certificate, key, ca) = (path("tls.crt"), path("tls.key"), path("ca.crt"));
    let redis = format!("127.0.0.1:{}", redis.port());
    Tollgate::start(
        "",
        &[
            ("TOLLGATE_CONFIG", ""),
            ("RUNTIME_ROOT", "/data"),
            ("RUNTIME_SUBDIRECTORY", "ratelimit"),
            ("RUNTIME_IGNOREDOTFILES", "true"),
            ("RUNTIME_WATCH_ROOT", "false"),
            ("LOG_LEVEL", "info"),
            ("USE_STATSD", "false"),
            ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
            ("CONFIG_GRPC_XDS_SERVER_URL", url),
            ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "envoy-gateway"),
            ("CONFIG_GRPC_XDS_NODE_ID", "envoy-ratelimit"),
            ("GRPC_SERVER_USE_TLS", "true"),
            ("GRPC_SERVER_TLS_CERT", &certificate),
            ("GRPC_SERVER_TLS_KEY", &key),
            ("GRPC_SERVER_TLS_CA_CERT", &ca),
            ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", &certificate),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", &key),
            ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &ca),
            ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true"),
            ("REDIS_SOCKET_TYPE", "tcp"),
            ("REDIS_URL", &redis),
            ("USE_PROMETHEUS", "true"),
            ("PROMETHEUS_MAPPER_YAML", "/etc/statsd-exporter/conf.yaml"),
        ],
    )
}

/// The rules of a listener, and of a policy that several listeners share.
fn resources() -> [RateLimitConfig; 2] {
    let mut shadowed = chain(&[("rule-1-match--1", "rule-1-match--1")], 0);
    shadowed.shadow_mode = true;
    let mut on_every_link = with_children(rule("gone", "gone"), vec![shadowed]);
    on_every_link.shadow_mode = true;
    let listener = domain_config(
        LISTENER,
        vec![
            with_children(rule(ANY_HOST, ANY_HOST), vec![chain(&[HEADER], 3)]),
            with_children(rule(ROUTE, ROUTE), vec![chain(&[HEADER], 1), chain(&CIDR, 1)]),
            on_every_link,
        ],
    );
    let shared = domain_config(
        "default/policy",
        vec![chain(&[("default/policy/rule/0", "default/policy/rule/0"), HEADER], 2)],
    );
    [listener, shared]
}

/// Nested rules, with a limit on the innermost one.
fn chain(links: &[(&str, &str)], requests: u32) -> RateLimitDescriptor {
    let mut links = links.iter().rev().map(|(key, value)| rule(key, value));
    let last = with_limit(links.next().unwrap(), requests);
    links.fold(last, |below, it| with_children(it, vec![below]))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_and_resources_of_envoy_gateway_work() {
    let authority = CertificateAuthority::new();
    let files = tempfile::tempdir().unwrap();
    authority.write(files.path(), "envoy-ratelimit");
    // The certificate is for the name of the Kubernetes service.
    let tls = authority.server_config("envoy-gateway", &[&rustls::version::TLS13]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = listener.local_addr().unwrap().to_string();
    let mut server = XdsServer::serve(listener, Some(tls));
    let redis = RedisServer::start();
    let service = start(&url, files.path(), &redis);
    let mut stream = server.accept().await;
    assert_eq!(greeting(&mut stream, "").await.node.unwrap().id, "envoy-ratelimit");
    // Without any policy the gateway sends nothing; the pod must stay healthy.
    eventually("health", || healthy(&service));
    assert_eq!(ask(&service, LISTENER, &[(ROUTE, ROUTE)]).status, 503);

    stream.send("1", "1", &resources());
    assert_accepted(&stream.next_request().await, "1", "1");
    let status = |domain, entries: &[(&str, &str)]| ask(&service, domain, entries).status;
    let passes = |domain, entries: &[(&str, &str)], times| {
        (0..times).all(|_| status(domain, entries) == 200) && status(domain, entries) == 429
    };
    assert!(passes(LISTENER, &[(ROUTE, ROUTE), HEADER], 1), "the exact host, not the wildcard");
    let other = ROUTE.replace("www", "api");
    assert!(passes(LISTENER, &[(&other, &other), HEADER], 3), "the wildcard");
    let client = |ip| [(ROUTE, ROUTE), CIDR[0], ("remote_address", ip)];
    assert!(passes(LISTENER, &client("10.0.0.1"), 1));
    assert!(passes(LISTENER, &client("10.0.0.2"), 1), "each address by itself");
    let shadow = [("gone", "gone"), ("rule-1-match--1", "rule-1-match--1")];
    assert_eq!(status(LISTENER, &shadow), 200);
    let policy = [("default/policy/rule/0", "default/policy/rule/0"), HEADER];
    assert!(passes("default/policy", &policy, 2));
    assert_eq!(status(LISTENER, &policy), 200, "no limit of this listener");

    stream.send("2", "2", &[]);
    assert_accepted(&stream.next_request().await, "2", "2");
    assert_eq!(status(LISTENER, &client("10.0.0.1")), 200);
    assert!(healthy(&service));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_envoy_gateway_are_replaced_under_load() {
    let authority = CertificateAuthority::new();
    let (mut secret, old) = MountedSecret::new(|it| authority.write(it, "localhost"));
    let tls = authority.server_config("envoy-gateway", &[&rustls::version::TLS13]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = listener.local_addr().unwrap().to_string();
    let mut server = XdsServer::serve(listener, Some(tls));
    let redis = RedisServer::start();
    let service = start(&url, &secret.path("."), &redis);
    let mut stream = server.accept().await;
    greeting(&mut stream, "").await;
    let cidr = ("masked_remote_address", "0.0.0.0/0");
    let policy = domain_config("default/policy", vec![chain(&[HEADER, cidr], 2)]);
    stream.send("1", "1", &[policy, rules("shop", 1_000_000)]);
    assert_accepted(&stream.next_request().await, "1", "1");
    eventually("health", || healthy(&service));

    // Envoy presents a certificate although none is required.
    let envoy = authority.client_config(Some(authority.sign("envoy")), &[&rustls::version::TLS13]);
    until_shown(&service, &envoy, &old).await;
    // The probe stops at the first failure.
    let (over, to) = (Arc::new(AtomicBool::new(false)), service.http);
    let end = Arc::clone(&over);
    let probes = thread::spawn(move || {
        let healthy = || http::get(to, "/healthcheck", &[]).status == 200;
        (0..).take_while(|_| !end.load(Relaxed)).all(|_| healthy())
    });
    let load = Load::begin(&service, &envoy).await;
    for _ in 0..3 {
        load.more_calls().await;
        let new = secret.replace(|it| authority.write(it, "localhost"));
        until_shown(&service, &envoy, &new).await;
    }
    load.more_calls().await;
    assert_eq!(load.end().await, 0);
    over.store(true, Relaxed);
    assert!(probes.join().unwrap(), "a probe failed");

    let answers = [(); 3].map(|()| ask(&service, "default/policy", &[HEADER, cidr]).status);
    assert_eq!(answers, [200, 200, 429]);
    service.wait_for_prometheus();
    let metrics = Metrics::scrape(service.prometheus, "/metrics");
    let labels = [
        ("domain", "default/policy"),
        ("key1", "rule-0-match-0_rule-0-match-0"),
        ("key2", "masked_remote_address_0_0_0_0/0"),
    ];
    for (statistic, expected) in
        [("total_hits", 3.0), ("within_limit", 2.0), ("over_limit", 1.0), ("shadow_mode", 0.0)]
    {
        let name = format!("ratelimit_service_rate_limit_{statistic}");
        assert_eq!(metrics.value(&name, &labels), expected, "{statistic}");
    }
    let method = [("grpc_method", "ShouldRateLimit")];
    assert!(metrics.value("ratelimit_service_total_requests", &method) > 100.0);
    assert_eq!(metrics.value("ratelimit_service_config_load_success", &[]), 1.0);
    let log = service.log();
    for ignored in ["GRPC_SERVER_TLS_CA_CERT", "PROMETHEUS_MAPPER_YAML"] {
        assert_eq!(log.matches(&format!("\"{ignored} is ignored: ")).count(), 1, "{log}");
    }
}
