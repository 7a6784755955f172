//! A separate Redis server for limits per second.

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{Code, rate_limit::Unit};
use testkit::{
    grpc::{self, Client, descriptor, request_for},
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

/// Sends one request for `keys`. Returns the unit and the remaining hits of each, and
/// whether policies decided.
async fn hit(client: &mut Client, keys: &[&str]) -> (Vec<(Unit, u32)>, bool) {
    let mut request = request_for("shop", &[]);
    request.descriptors = keys.iter().map(|it| descriptor(&[(it, "ann")])).collect();
    let answer = client.should_rate_limit(request).await.unwrap().into_inner();
    assert_eq!(answer.overall_code(), Code::Ok, "{keys:?}");
    let status = answer
        .statuses
        .iter()
        .map(|it| (it.current_limit.as_ref().unwrap().unit(), it.limit_remaining));
    let degraded = answer.dynamic_metadata.as_ref().unwrap().fields.contains_key("degraded");
    (status.collect(), degraded)
}

/// The number of calls that charged counters of a server.
fn times_asked(client: &mut redis::Connection) -> u32 {
    // An unknown script is sent again as a whole.
    command_calls(client, "evalsha") + command_calls(client, "incrby")
}

/// The number of calls to each server for one request about `keys`.
async fn cost(
    service: &mut Client,
    [main, second]: [&mut redis::Connection; 2],
    keys: &[&str],
) -> [u32; 2] {
    let before = [times_asked(main), times_asked(second)];
    let (units, degraded) = hit(service, keys).await;
    assert!(!degraded, "{keys:?}");
    for (key, (unit, _)) in keys.iter().zip(units) {
        assert_eq!(unit == Unit::Second, key.starts_with("second"), "{keys:?}");
    }
    [times_asked(main) - before[0], times_asked(second) - before[1]]
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
    let address = |server: &RedisServer| format!("127.0.0.1:{}", server.port());
    let (open, socket) = (address(&plain), plain.unix_socket().display().to_string());
    let (guarded, within) = (address(&locked), format!("localhost:{}", encrypted.client_port));
    let own = authority.ca_certificate().display().to_string();
    let ways: [(&str, &str, Settings<'_>); 4] = [
        (&plain.url(), &open, &[("REDIS_PERSECOND_SOCKET_TYPE", "tcp")]),
        (&plain.url(), &socket, &[("REDIS_PERSECOND_SOCKET_TYPE", "unix")]),
        (
            &locked.url().replace("other:", "other%3a"),
            &guarded,
            &[("REDIS_PERSECOND_AUTH", ":other:secret")],
        ),
        (&encrypted_url, &within, &[("REDIS_PERSECOND_TLS", "true"), ("REDIS_TLS_CACERT", &own)]),
    ];
    for (other, url, settings) in ways {
        let ours = [
            ("REDIS_URL", &address(&main)[..]),
            ("REDIS_AUTH", "main secret"),
            ("REDIS_PERSECOND_URL", url),
        ];
        let service = start(&[&ours[..], settings].concat());
        let mut client = grpc::connect(service.grpc).await;
        let mut both = [main.url().replace(' ', "%20"), other.to_owned()]
            .map(|it| redis::Client::open(it).unwrap().get_connection().unwrap());
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
            let [main, other] = &mut both;
            assert_eq!(cost(&mut client, [main, other], keys).await, expected, "{url}: {keys:?}");
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
        assert!(hit(&mut client, &["second"]).await.1);
        expected -= 1;
        for keys in [["minutes", "second"], ["second_bucket", "bucket"]] {
            let (status, degraded) = hit(&mut client, &keys).await;
            let exact = status.iter().filter(|(unit, _)| *unit != Unit::Second);
            assert_eq!(exact.map(|it| it.1).collect::<Vec<_>>(), [expected]);
            assert!(degraded);
        }
    }
    // A limit that is known to be exceeded refuses, whatever policies decide for others.
    let mut request = request_for("shop", &[]);
    request.descriptors = ["second", "minutes"].map(|it| descriptor(&[(it, "ann")])).into();
    request.hits_addend = 2_000;
    let answer = client.should_rate_limit(request).await.unwrap().into_inner();
    let codes: Vec<_> = answer.statuses.iter().map(|it| it.code()).collect();
    assert_eq!(
        (answer.overall_code(), &codes[..]),
        (Code::OverLimit, &[Code::Ok, Code::OverLimit][..])
    );
    let (status, degraded) = hit(&mut client, &["bucket"]).await;
    assert_eq!((status[0].1, degraded), (expected - 1, false));
    assert_eq!(http::get(service.http, "/ready", &[]).status, 200);
    second.restart();
    eventually_async("Redis to decide again", async || {
        let (_, degraded) = hit(&mut client, &["bucket", "second"]).await;
        !degraded
    })
    .await;
    main.stop();
    let mut direct = second.client();
    for _ in 0..5 {
        assert!(hit(&mut client, &["bucket"]).await.1);
        assert!(hit(&mut client, &["bucket", "second"]).await.1);
        let before = times_asked(&mut direct);
        assert!(!hit(&mut client, &["second"]).await.1);
        assert_eq!(times_asked(&mut direct), before + 1);
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
        let mut codes = Vec::new();
        for _ in 0..20 {
            let mut request = request_for("shop", &[]);
            request.descriptors = keys.iter().map(|it| descriptor(&[(it, "ann")])).collect();
            let answer = client.should_rate_limit(request).await;
            codes.push(answer.map(|it| it.into_inner().overall_code()).map_err(|it| it.code()));
        }
        let over = |it: usize| Ok(if it < 5 { Code::Ok } else { Code::OverLimit });
        assert_eq!(codes, (0..20).map(over).collect::<Vec<_>>(), "{keys:?}");
    }
}
