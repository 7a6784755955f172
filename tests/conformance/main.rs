//! Plays the cases in `cases/` over gRPC, on counters in memory, in Redis, and in Redis
//! behind a deny cache. A case has rules, requests and the expected responses. The name
//! of a file is the claim that it makes.
//!
//! A request is written `domain / key=value,key=value | key=value …`, with `|` between
//! descriptors. The entries of a descriptor may be followed by `hits 3`, `refund 2` or
//! `limit 5/minute`. A response is written `OVER_LIMIT: OK 4 of 5/minute 60s | OVER_LIMIT
//! 0 of 1/hour 60s | OK`: the overall code, and for each descriptor its code, the
//! remaining hits, the limit, and the seconds until the reset or the retry (`never` if
//! the request can never pass). A step may also name the overall code only.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed")]

use std::{collections::BTreeMap, fmt::Write, fs, path::Path, sync::Arc, time::Duration};

use serde::Deserialize;
use tollgate::{
    answer::{AnswerSettings, HeaderNames, MetadataWhen},
    config::{self, SourceFile},
    counter::{KeyFormat, KeyStyle},
    engine::{
        Engine,
        decision::Mode,
        fallback::{Fallback, FallbackSettings},
    },
    grpc::{
        Grpc,
        pb::envoy::{
            extensions::common::ratelimit::v3::{
                RateLimitDescriptor,
                rate_limit_descriptor::{Entry, RateLimitOverride},
            },
            service::ratelimit::v3::{
                RateLimitRequest, RateLimitResponse,
                rate_limit_response::{Code, DescriptorStatus, rate_limit::Unit},
                rate_limit_service_client::RateLimitServiceClient,
                rate_limit_service_server::RateLimitServiceServer,
            },
        },
    },
    metrics::Metrics,
    service::Service,
    store::{
        Store,
        deny_cache::DenyCache,
        memory::Memory,
        redis::{Redis, RedisSettings},
    },
    time::{ManualClock, Timestamp},
    warnings::WarningLimiter,
};

use prost_types::value::Kind;
use tokio::net::TcpListener;
use tonic::transport::{Channel, Server, server::TcpIncoming};

mod matrix;

/// The contents of one file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Rule files, by name.
    rules: BTreeMap<String, String>,
    #[serde(default)]
    settings: CaseSettings,
    /// Seconds since the epoch.
    #[serde(default = "noon")]
    start: u64,
    play: Vec<Step>,
    /// All statistics at the end that are not zero.
    statistics: Option<BTreeMap<String, u64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CaseSettings {
    merge_domains: bool,
    shadow_mode: bool,
    quota_mode: bool,
    headers: bool,
    metadata: bool,
    reference_keys: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    ask: String,
    /// The number of times that the request is sent. All responses must be equal.
    #[serde(default = "once")]
    times: u32,
    /// Seconds by which the clock advances before the step.
    #[serde(default)]
    after: u64,
    /// Seconds by which the clock steps back before the step.
    #[serde(default)]
    back: u64,
    /// `hits_addend` of the request.
    #[serde(default)]
    hits: u32,
    says: String,
    headers: Option<Vec<String>>,
    metadata: Option<serde_json::Value>,
}

fn once() -> u32 {
    1
}

/// Noon, so that no window of a day or less is about to end.
fn noon() -> u64 {
    1_700_000_000 - 1_700_000_000 % 86_400 + 43_200
}

#[tokio::test]
async fn every_case_holds_in_memory() {
    for (name, case) in cases() {
        play(&name, case, Memory::new(10_000)).await;
    }
}

#[tokio::test]
async fn every_case_holds_in_redis() {
    let server = testkit::redis::RedisServer::start();
    let settings = RedisSettings::parse(&server.url(), None, Duration::from_secs(5)).unwrap();
    for (name, case) in cases() {
        redis::cmd("FLUSHALL").exec(&mut server.client()).unwrap();
        let store = Redis::new(&settings);
        play(&name, case, store).await;
    }
}

#[tokio::test]
async fn every_case_holds_in_redis_behind_a_cache() {
    let server = testkit::redis::RedisServer::start();
    let settings = RedisSettings::parse(&server.url(), None, Duration::from_secs(5)).unwrap();
    for (name, case) in cases() {
        redis::cmd("FLUSHALL").exec(&mut server.client()).unwrap();
        let store = Redis::new(&settings);
        play(&name, case, DenyCache::new(store, 1_000_000)).await;
    }
}

fn cases() -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/cases");
    let mut cases: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(path).unwrap();
            let case = serde_saphyr::from_str(&text).unwrap_or_else(|it| panic!("{name}: {it}"));
            (name, case)
        })
        .collect();
    assert!(!cases.is_empty());
    cases.sort_by(|(a, _), (b, _)| a.cmp(b));
    cases
}

async fn play<S: Store>(name: &str, case: Case, store: S) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(case.start)));
    let service = Arc::new(service(name, &case, store, Arc::clone(&clock)));
    let mut client = serve(Arc::clone(&service)).await;
    for (number, step) in case.play.iter().enumerate() {
        clock.advance(Duration::from_secs(step.after));
        clock.set(Timestamp::from_secs(clock_secs(&clock) - step.back));
        for time in 0..step.times {
            let place = format!("{name}, step {number}, time {time}: {}", step.ask);
            let response = client.should_rate_limit(ask(step)).await;
            let response = response.unwrap_or_else(|it| panic!("{place}: {it}")).into_inner();
            let says = if step.says.contains(':') { full(&response) } else { overall(&response) };
            assert_eq!(says, step.says, "{place}");
            if let Some(expected) = &step.headers {
                let headers = response.response_headers_to_add.iter();
                let headers: Vec<_> =
                    headers.map(|it| format!("{}: {}", it.key, it.value)).collect();
                assert_eq!(headers, *expected, "{place}");
            }
            if let Some(expected) = &step.metadata {
                let metadata = response.dynamic_metadata.clone().unwrap_or_default();
                assert_eq!(json(Kind::StructValue(metadata)), *expected, "{place}");
            }
        }
    }
    if let Some(expected) = case.statistics {
        assert_eq!(statistics(&service.metrics), expected, "{name}");
    }
}

/// Protobuf's JSON for a value.
fn json(value: Kind) -> serde_json::Value {
    let nested = |value: prost_types::Value| value.kind.map_or(serde_json::Value::Null, json);
    match value {
        Kind::NullValue(_) => serde_json::Value::Null,
        Kind::BoolValue(flag) => flag.into(),
        Kind::NumberValue(number) => serde_json::from_str(&number.to_string()).unwrap(),
        Kind::StringValue(text) => text.into(),
        Kind::ListValue(list) => list.values.into_iter().map(nested).collect(),
        Kind::StructValue(fields) => {
            fields.fields.into_iter().map(|(key, value)| (key, nested(value))).collect()
        }
    }
}

/// Serves until the end of the test, and returns a client.
async fn serve<S: Store>(service: Arc<Service<S>>) -> RateLimitServiceClient<Channel> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::builder().add_service(RateLimitServiceServer::new(Grpc(service)));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    RateLimitServiceClient::connect(address).await.unwrap()
}

fn clock_secs(clock: &ManualClock) -> u64 {
    tollgate::time::Clock::now(clock).as_secs()
}

fn service<S: Store>(name: &str, case: &Case, store: S, clock: Arc<ManualClock>) -> Service<S> {
    let files: Vec<_> = case
        .rules
        .iter()
        .map(|(name, text)| SourceFile { name: name.clone(), bytes: text.clone().into_bytes() })
        .collect();
    let settings = &case.settings;
    let options = config::CompileOptions { merge_domains: settings.merge_domains };
    let compiled = config::compile(&files, options).unwrap_or_else(|it| panic!("{name}: {it}"));
    let metrics = Arc::new(Metrics::new(0.8));
    metrics.install_rules(&compiled.rules);
    let names = |it: &str| format!("RateLimit-{it}");
    Service {
        engine: Engine {
            rules: Arc::new(Arc::new(compiled.rules).into()),
            store,
            clock,
            keys: KeyFormat {
                prefix: String::new(),
                style: match settings.reference_keys {
                    true => KeyStyle::Reference,
                    false => KeyStyle::Unambiguous,
                },
            },
            mode: Mode {
                shadow: settings.shadow_mode,
                quota: settings.quota_mode,
                ..Mode::default()
            },
            fallback: Fallback::new(FallbackSettings::default()),
        },
        metrics,
        max_descriptors: 100,
        invalid: WarningLimiter::new("", ""),
        spans: None,
        answers: AnswerSettings {
            headers: settings.headers.then(|| HeaderNames {
                limit: names("Limit"),
                remaining: names("Remaining"),
                reset: names("Reset"),
            }),
            metadata: if settings.metadata { MetadataWhen::Always } else { MetadataWhen::Refused },
        },
    }
}

/// The statistics that are not zero and do not depend on the store.
fn statistics(metrics: &Metrics) -> BTreeMap<String, u64> {
    let dotted: String = metrics.rule_stats().collect();
    let lines = dotted.lines().map(|line| line.rsplit_once(": ").unwrap());
    lines
        .map(|(name, value)| {
            let name = name.strip_prefix("ratelimit.service.rate_limit.").unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .filter(|(name, value): &(String, _)| {
            *value > 0 && !name.ends_with(".over_limit_with_local_cache")
        })
        .collect()
}

fn ask(step: &Step) -> RateLimitRequest {
    let (domain, descriptors) = step.ask.split_once(" / ").expect("domain / descriptors");
    RateLimitRequest {
        domain: domain.to_owned().into(),
        descriptors: descriptors.split(" | ").map(descriptor).collect(),
        hits_addend: step.hits,
    }
}

fn descriptor(text: &str) -> RateLimitDescriptor {
    let mut words = text.split(' ');
    let entries = words.next().unwrap_or_default();
    let entry = |it: &str| {
        let (key, value) = it.split_once('=').expect("key=value");
        Entry { key: key.to_owned().into(), value: value.to_owned().into() }
    };
    let mut message = RateLimitDescriptor {
        entries: entries.split(',').filter(|it| !it.is_empty()).map(entry).collect(),
        ..Default::default()
    };
    while let Some(word) = words.next() {
        let value = words.next().expect("a value behind hits, refund and limit");
        match word {
            "hits" => message.hits_addend = Some(value.parse().unwrap()),
            "refund" => {
                message.hits_addend = Some(value.parse().unwrap());
                message.is_negative_hits = true;
            }
            "limit" => message.limit = Some(limit(value)),
            _ => panic!("{word}: expected hits, refund or limit"),
        }
    }
    message
}

/// `5/minute` or `5/10minute`.
fn limit(text: &str) -> RateLimitOverride {
    let (requests, window) = text.split_once('/').expect("requests/unit");
    let (multiplier, unit) = window.split_at(window.find(char::is_alphabetic).expect("a unit"));
    let unit = Unit::from_str_name(&unit.to_uppercase()).expect("a unit of time");
    RateLimitOverride {
        requests_per_unit: requests.parse().unwrap(),
        unit: unit.into(),
        unit_multiplier: multiplier.parse().ok(),
    }
}

fn overall(response: &RateLimitResponse) -> String {
    response.overall_code().as_str_name().to_owned()
}

fn full(response: &RateLimitResponse) -> String {
    let statuses: Vec<_> = response.statuses.iter().map(status).collect();
    format!("{}: {}", overall(response), statuses.join(" | "))
}

fn status(status: &DescriptorStatus) -> String {
    let mut text = status.code().as_str_name().to_owned();
    let Some(limit) = &status.current_limit else {
        assert_eq!(status.duration_until_reset, None);
        assert_ne!(status.code(), Code::OverLimit);
        return match status.limit_remaining {
            0 => text,
            u32::MAX => text + " unlimited",
            other => panic!("{other} remain of no limit"),
        };
    };
    let unit = limit.unit().as_str_name().to_lowercase();
    let multiplier = limit.unit_multiplier.map(|it| it.to_string()).unwrap_or_default();
    let reset = status.duration_until_reset.map_or("never".to_owned(), |reset| {
        assert_eq!(reset.nanos, 0);
        format!("{}s", reset.seconds)
    });
    let (remaining, requests) = (status.limit_remaining, limit.requests_per_unit);
    write!(text, " {remaining} of {requests}/{multiplier}{unit} {reset}").unwrap();
    if !limit.name.is_empty() {
        write!(text, " ({})", limit.name).unwrap();
    }
    text
}
