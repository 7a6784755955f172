//! The first flow of the tests of the reference service, with its settings, on every
//! Redis that it supports: with passwords, TLS, clusters and Sentinels, with and without
//! a separate server for limits per second.

use std::fs;

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitResponse,
    rate_limit_response::{Code, rate_limit::Unit},
};
use testkit::{
    current_minute,
    grpc::{self, Client, request_for},
    redis::RedisServer,
    redis_certificates::{CertificateFiles, ClientCertificates, RedisCertificates},
    redis_cluster::{Cluster, Sentinels},
    redis_node::{Node, ServerSetup},
    tollgate::Tollgate,
    unique_value,
    wait::eventually,
};

const FILES: [(&str, &str); 2] = [
    (
        "basic.yaml",
        "domain: basic\ndescriptors:\n  - key: key1\n    rate_limit:\n      unit: second\n      \
         requests_per_unit: 50\n",
    ),
    (
        "another.yaml",
        "domain: another\ndescriptors:\n  - key: key2\n    rate_limit:\n      unit: minute\n      \
         requests_per_unit: 20\n",
    ),
];

/// Starts a service with the rule layout of the reference service, and waits until it is
/// healthy.
fn start(settings: &[(&str, &str)]) -> (Tollgate, tempfile::TempDir) {
    let files = tempfile::tempdir().unwrap();
    let config = files.path().join("current/ratelimit/config");
    fs::create_dir_all(&config).unwrap();
    for (name, text) in FILES {
        fs::write(config.join(name), text).unwrap();
    }
    let root = files.path().join("current").display().to_string();
    let always = [
        ("TOLLGATE_CONFIG", ""),
        ("USE_STATSD", "false"),
        ("RUNTIME_ROOT", &root),
        ("RUNTIME_SUBDIRECTORY", "ratelimit"),
        ("RUNTIME_APPDIRECTORY", "config"),
        ("BACKEND_TYPE", "redis"),
        ("REDIS_SOCKET_TYPE", "tcp"),
        ("REDIS_PERSECOND_SOCKET_TYPE", "tcp"),
        ("REDIS_PERSECOND_TIMEOUT", "10s"),
    ];
    let service = Tollgate::start("", &[&always[..], settings].concat());
    eventually("health", || service.is_healthy());
    (service, files)
}

/// A response with one descriptor.
#[derive(Debug, PartialEq)]
struct Answer {
    overall_code: Code,
    code: Code,
    limit: Option<(u32, Unit)>,
    remaining: u32,
}

impl Answer {
    fn new(response: &RateLimitResponse) -> Self {
        let [status] = &response.statuses[..] else { panic!("expected one status: {response:?}") };
        let limit = status.current_limit.as_ref();
        let limit = limit.map(|limit| (limit.requests_per_unit, limit.unit()));
        let (overall_code, code) = (response.overall_code(), status.code());
        Self { overall_code, code, limit, remaining: status.limit_remaining }
    }
}

async fn call(client: &mut Client, domain: &str, key: &str, value: &str) -> Answer {
    Answer::new(&grpc::decide(client, request_for(domain, &[(key, value)])).await)
}

/// An unknown domain, one hit, and 25 hits with a limit of 20.
async fn basic_flow(settings: &[(&str, &str)]) {
    let (service, _files) = start(settings);
    let mut client = grpc::connect(service.grpc).await;
    let (overall_code, code) = (Code::Ok, Code::Ok);
    let unlimited = Answer { overall_code, code, limit: None, remaining: 0 };
    assert_eq!(call(&mut client, "foo", "hello", "world").await, unlimited);
    let limit = Some((50, Unit::Second));
    let first = Answer { overall_code, code, limit, remaining: 49 };
    let answer = call(&mut client, "basic", "key1", &unique_value()).await;
    assert_eq!(answer, first, "{settings:?}");
    loop {
        let (begin, value, mut answers) = (current_minute(), unique_value(), Vec::new());
        for _ in 0..25 {
            answers.push(call(&mut client, "another", "key2", &value).await);
        }
        // Repeated if a window ended.
        if begin != current_minute() {
            continue;
        }
        for (number, answer) in (1..).zip(answers) {
            let code = if number <= 20 { Code::Ok } else { Code::OverLimit };
            let (limit, remaining) = (Some((20, Unit::Minute)), 20_u32.saturating_sub(number));
            let expected = Answer { overall_code: code, code, limit, remaining };
            assert_eq!(answer, expected, "{number}, {settings:?}");
        }
        break;
    }
}

#[tokio::test]
async fn on_one_server() {
    let (main, second) = (RedisServer::start(), RedisServer::start());
    let (main, second) =
        (format!("localhost:{}", main.port()), format!("localhost:{}", second.port()));
    basic_flow(&[("REDIS_URL", &main)]).await;
    let both = [("REDIS_PERSECOND", "true"), ("REDIS_PERSECOND_URL", &second)];
    basic_flow(&[&both[..], &[("REDIS_URL", &main)]].concat()).await;
}

#[tokio::test]
async fn with_passwords() {
    let (main, second) = (RedisServer::with_password("one"), RedisServer::with_password("two"));
    let (main, second) =
        (format!("localhost:{}", main.port()), format!("localhost:{}", second.port()));
    let main_url = format!("redis://default:one@{main}");
    for first in
        [&[("REDIS_URL", &main[..]), ("REDIS_AUTH", "one")][..], &[("REDIS_URL", &main_url)]]
    {
        basic_flow(first).await;
        let both = [
            ("REDIS_PERSECOND", "true"),
            ("REDIS_PERSECOND_URL", &second),
            ("REDIS_PERSECOND_AUTH", "default:two"),
        ];
        basic_flow(&[&both[..], first].concat()).await;
    }
}

#[tokio::test]
async fn with_tls() {
    let authority = RedisCertificates::new();
    let server = |name| {
        let setup = ServerSetup {
            tls: Some(authority.server_arguments(name, ClientCertificates::Required)),
            ..ServerSetup::default()
        };
        Node::with_setup(setup.with_arguments(&["--save", ""]))
    };
    let (main, second, elsewhere) = (server("localhost"), server("localhost"), server("elsewhere"));
    let [main, second, elsewhere] =
        [&main, &second, &elsewhere].map(|it| format!("localhost:{}", it.client_port));
    let CertificateFiles { certificate, key } = authority.issue("client", "tollgate");
    let [certificate, key, own] =
        [certificate, key, authority.ca_certificate()].map(|it| it.display().to_string());
    let tls = [
        ("REDIS_TLS", "true"),
        ("REDIS_TLS_CLIENT_CERT", &certificate[..]),
        ("REDIS_TLS_CLIENT_KEY", &key),
        ("REDIS_TLS_CACERT", &own),
    ];
    basic_flow(&[&tls[..], &[("REDIS_URL", &main)]].concat()).await;
    let any = [("REDIS_URL", &elsewhere[..]), ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "true")];
    basic_flow(&[&tls[..], &any].concat()).await;
    let both = [
        ("REDIS_URL", &main[..]),
        ("REDIS_PERSECOND", "true"),
        ("REDIS_PERSECOND_URL", &second),
        ("REDIS_PERSECOND_TLS", "true"),
    ];
    basic_flow(&[&tls[..], &both].concat()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_clusters() {
    let (open, locked) = (
        ServerSetup::default(),
        ServerSetup::default().with_arguments(&["--requirepass", "secret"]),
    );
    let (main, second) = (Cluster::with_setup(&open, 3), Cluster::with_setup(&locked, 3));
    // Nothing listens at the first seed.
    let (main, second) = (format!("127.0.0.1:1,{}", main.url()), second.url());
    basic_flow(&[("REDIS_TYPE", "CLUSTER"), ("REDIS_URL", &main)]).await;
    basic_flow(&[("REDIS_TYPE", "cluster"), ("REDIS_URL", &second), ("REDIS_AUTH", "secret")])
        .await;
    basic_flow(&[
        ("REDIS_TYPE", "cluster"),
        ("REDIS_URL", &main),
        ("REDIS_PERSECOND", "true"),
        ("REDIS_PERSECOND_TYPE", "cluster"),
        ("REDIS_PERSECOND_URL", &second),
        ("REDIS_PERSECOND_AUTH", "secret"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_sentinels() {
    let guarded = ServerSetup { sentinel_password: "guard".into(), ..ServerSetup::default() };
    let (main, second) = (Sentinels::start(), Sentinels::with_setup(&guarded));
    let (main, second) = (main.url(), second.url());
    basic_flow(&[("REDIS_TYPE", "sentinel"), ("REDIS_URL", &main)]).await;
    basic_flow(&[
        ("REDIS_TYPE", "SENTINEL"),
        ("REDIS_URL", &second),
        ("REDIS_SENTINEL_AUTH", "guard"),
    ])
    .await;
    basic_flow(&[
        ("REDIS_TYPE", "sentinel"),
        ("REDIS_URL", &main),
        ("REDIS_PERSECOND", "true"),
        ("REDIS_PERSECOND_TYPE", "sentinel"),
        ("REDIS_PERSECOND_URL", &second),
        ("REDIS_PERSECOND_SENTINEL_AUTH", "guard"),
    ])
    .await;
}
