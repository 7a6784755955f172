//! A separate Redis server for limits per second.

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitRequest,
    rate_limit_response::{Code, rate_limit::Unit},
};
use testkit::{
    grpc::{self, Client, descriptor, is_degraded, request_for},
    http,
    redis::RedisServer,
    redis_certificates::{ClientCertificates, RedisCertificates},
    redis_node::{Node, ServerSetup, command_calls},
    tollgate::Tollgate,
    wait::eventually_async,
};

/// A second may end between two hits, so their remaining hits are not checked.
const RULES: &str = "
domain: shop
descriptors:
- key: second
  rate_limit: { unit: second, requests_per_unit: 100000, on_error: allow }
- key: second_bucket
  rate_limit: { unit: second, requests_per_unit: 100000, algorithm: token_bucket, on_error: allow }
- key: seconds
  rate_limit: { unit: second, unit_multiplier: 2, requests_per_unit: 100000, on_error: allow }
- key: minutes
  rate_limit: { unit: minute, unit_multiplier: 600000, requests_per_unit: 1000, on_error: allow }
- key: bucket
  rate_limit: { unit: year, requests_per_unit: 1000, algorithm: token_bucket, on_error: allow }
";

fn start(settings: &[(&str, &str)]) -> Tollgate {
    let patient = [
        ("REDIS_PERSECOND", "true"),
        ("REDIS_PERSECOND_TIMEOUT", "10s"),
        ("STORE_DEADLINE", "10s"),
        ("RESPONSE_DYNAMIC_METADATA", "always"),
    ];
    let service = Tollgate::start(RULES, &[&patient[..], settings].concat());
    service.wait_until_ready();
    service
}

/// The limit and the remaining hits of a descriptor.
struct Status {
    unit: Unit,
    remaining: u32,
}

struct Answer {
    statuses: Vec<Status>,
    /// Whether policies decided.
    degraded: bool,
}

/// A request with a descriptor for each key.
fn request(keys: &[&str]) -> RateLimitRequest {
    let mut request = request_for("shop", &[]);
    request.descriptors.clear();
    for key in keys {
        request.descriptors.push(descriptor(&[(key, "ann")]));
    }
    request
}

/// Sends one request for `keys`.
async fn hit(client: &mut Client, keys: &[&str]) -> Answer {
    let response = grpc::decide(client, request(keys)).await;
    assert_eq!(response.overall_code(), Code::Ok, "{keys:?}");
    let mut statuses = Vec::new();
    for status in &response.statuses {
        let unit = status.current_limit.as_ref().unwrap().unit();
        statuses.push(Status { unit, remaining: status.limit_remaining });
    }
    Answer { statuses, degraded: is_degraded(&response) }
}

/// The number of calls that charged counters of a server.
fn decision_calls(client: &mut redis::Connection) -> u32 {
    // An unknown script is sent again as a whole.
    command_calls(client, "evalsha") + command_calls(client, "incrby")
}

/// The number of calls to each server for one request about `keys`.
async fn cost(
    service: &mut Client,
    [main, second]: [&mut redis::Connection; 2],
    keys: &[&str],
) -> [u32; 2] {
    let before = [decision_calls(main), decision_calls(second)];
    let answer = hit(service, keys).await;
    assert!(!answer.degraded, "{keys:?}");
    for (key, status) in keys.iter().zip(answer.statuses) {
        assert_eq!(status.unit == Unit::Second, key.starts_with("second"), "{keys:?}");
    }
    [decision_calls(main) - before[0], decision_calls(second) - before[1]]
}

fn connect_to(url: &str) -> redis::Connection {
    redis::Client::open(url).unwrap().get_connection().unwrap()
}

type Settings<'a> = &'a [(&'a str, &'a str)];

#[tokio::test]
async fn only_limits_per_second_use_the_separate_redis() {
    let authority = RedisCertificates::new();
    let main = RedisServer::with_password("main secret");
    let (plain, locked) = (RedisServer::start(), RedisServer::with_password("other:secret"));
    let tls = ServerSetup {
        tls: Some(authority.server_arguments("localhost", ClientCertificates::NotRequested)),
        ..ServerSetup::default()
    };
    let encrypted = Node::with_setup(tls.with_arguments(&["--save", ""]));
    let encrypted_url = format!("redis://127.0.0.1:{}", encrypted.port);
    let (open, socket) = (plain.address(), plain.unix_socket().display().to_string());
    let (guarded, within) = (locked.address(), format!("localhost:{}", encrypted.client_port));
    let own = authority.ca_certificate().display().to_string();
    let cases: [(&str, &str, Settings<'_>); 4] = [
        (&plain.url(), &open, &[("REDIS_PERSECOND_SOCKET_TYPE", "tcp")]),
        (&plain.url(), &socket, &[("REDIS_PERSECOND_SOCKET_TYPE", "unix")]),
        (
            &locked.url().replace("other:", "other%3a"),
            &guarded,
            &[("REDIS_PERSECOND_AUTH", ":other:secret")],
        ),
        (&encrypted_url, &within, &[("REDIS_PERSECOND_TLS", "true"), ("REDIS_TLS_CACERT", &own)]),
    ];
    for (other, url, settings) in cases {
        let ours = [
            ("REDIS_URL", &main.address()[..]),
            ("REDIS_AUTH", "main secret"),
            ("REDIS_PERSECOND_URL", url),
        ];
        let service = start(&[&ours[..], settings].concat());
        let mut client = grpc::connect(service.grpc).await;
        let mut main_client = connect_to(&main.url().replace(' ', "%20"));
        let mut other_client = connect_to(other);
        // Unknown scripts need a second call.
        hit(&mut client, &["second", "second_bucket", "minutes", "bucket"]).await;
        hit(&mut client, &["second", "minutes"]).await;
        for (keys, expected) in [
            (&["second"][..], [0, 1]),
            (&["second_bucket"], [0, 1]),
            (&["minutes"], [1, 0]),
            (&["bucket"], [1, 0]),
            // A window of several seconds is not a limit per second.
            (&["seconds"], [1, 0]),
            (&["minutes", "second"], [1, 1]),
            (&["second", "bucket", "second_bucket"], [1, 1]),
        ] {
            let clients = [&mut main_client, &mut other_client];
            assert_eq!(cost(&mut client, clients, keys).await, expected, "{url}: {keys:?}");
        }
    }
}

#[tokio::test]
async fn limits_of_the_other_server_stay_exact_while_one_is_down() {
    let (mut main, mut second) = (RedisServer::start(), RedisServer::start());
    let urls = [main.url(), second.url()];
    let service = start(&[("REDIS_URL", &urls[0]), ("REDIS_PERSECOND_URL", &urls[1])]);
    let mut client = grpc::connect(service.grpc).await;
    let mut expected = 1_000;
    second.stop();
    for _ in 0..5 {
        assert!(hit(&mut client, &["second"]).await.degraded);
        expected -= 1;
        for keys in [["minutes", "second"], ["second_bucket", "bucket"]] {
            let answer = hit(&mut client, &keys).await;
            for (key, status) in keys.iter().zip(answer.statuses) {
                assert_eq!(status.unit == Unit::Second, key.starts_with("second"), "{keys:?}");
                if status.unit != Unit::Second {
                    assert_eq!(status.remaining, expected);
                }
            }
            assert!(answer.degraded);
        }
    }
    // A limit that is known to be exceeded refuses, whatever policies decide for others.
    let mut refused = request(&["second", "minutes"]);
    refused.hits_addend = 2_000;
    let response = grpc::decide(&mut client, refused).await;
    assert_eq!(response.overall_code(), Code::OverLimit);
    assert_eq!(response.statuses.len(), 2);
    assert_eq!(response.statuses[0].code(), Code::Ok);
    assert_eq!(response.statuses[1].code(), Code::OverLimit);
    let answer = hit(&mut client, &["bucket"]).await;
    assert_eq!((answer.statuses[0].remaining, answer.degraded), (expected - 1, false));
    assert_eq!(http::get(service.http, "/ready", &[]).status, 200);
    second.restart();
    eventually_async("Redis to decide again", async || {
        !hit(&mut client, &["bucket", "second"]).await.degraded
    })
    .await;
    main.stop();
    let mut direct = second.client();
    for _ in 0..5 {
        assert!(hit(&mut client, &["bucket"]).await.degraded);
        assert!(hit(&mut client, &["bucket", "second"]).await.degraded);
        let before = decision_calls(&mut direct);
        assert!(!hit(&mut client, &["second"]).await.degraded);
        assert_eq!(decision_calls(&mut direct), before + 1);
    }
}

#[tokio::test]
async fn a_request_over_one_limit_is_refused_without_an_error() {
    let rules = "
domain: shop
descriptors:
- key: user
  rate_limits:
  - { unit: second, requests_per_unit: 100000 }
  - { unit: day, requests_per_unit: 5 }
- key: hour
  rate_limit: { unit: day, requests_per_unit: 5, consume: all_or_nothing, count_denied: false }
- key: second
  rate_limit: { unit: second, requests_per_unit: 100000, consume: all_or_nothing }
";
    let (main, second) = (RedisServer::start(), RedisServer::start());
    let urls = [main.url(), second.url()];
    let settings = [
        ("REDIS_URL", urls[0].as_str()),
        ("REDIS_PERSECOND", "true"),
        ("REDIS_PERSECOND_URL", &urls[1]),
        ("REDIS_PERSECOND_TIMEOUT", "10s"),
    ];
    let stop = [("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", "true")];
    for (settings, keys) in [
        (&[&settings[..], &stop].concat(), &["user"][..]),
        (&settings.to_vec(), &["hour", "second"]),
    ] {
        let service = Tollgate::start(rules, settings);
        service.wait_until_ready();
        let mut client = grpc::connect(service.grpc).await;
        for call in 0..20 {
            let response = grpc::decide(&mut client, request(keys)).await;
            let expected = if call < 5 { Code::Ok } else { Code::OverLimit };
            assert_eq!(response.overall_code(), expected, "{keys:?}, call {call}");
        }
    }
}
