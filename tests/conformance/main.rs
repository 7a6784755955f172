//! Checks the cases in `cases/` over gRPC, on counters in memory, in Redis, and in Redis
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
    service::{InProgress, Service},
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
mod merges;

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
        check_case(&name, case, Memory::new(10_000)).await;
    }
}

#[tokio::test]
async fn every_case_holds_in_redis() {
    let server = testkit::redis::RedisServer::start();
    let settings = RedisSettings::parse(&server.url(), None, Duration::from_secs(5)).unwrap();
    for (name, case) in cases() {
        redis::cmd("FLUSHALL").exec(&mut server.client()).unwrap();
        let store = Redis::new(&settings);
        check_case(&name, case, store).await;
    }
}

#[tokio::test]
async fn every_case_holds_in_redis_behind_a_cache() {
    let server = testkit::redis::RedisServer::start();
    let settings = RedisSettings::parse(&server.url(), None, Duration::from_secs(5)).unwrap();
    for (name, case) in cases() {
        redis::cmd("FLUSHALL").exec(&mut server.client()).unwrap();
        let store = Redis::new(&settings);
        check_case(&name, case, DenyCache::new(store, 1_000_000)).await;
    }
}

fn cases() -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/cases");
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).unwrap();
        match serde_saphyr::from_str(&text) {
            Ok(case) => cases.push((name, case)),
            Err(error) => panic!("{name}: {error}"),
        }
    }
    assert!(!cases.is_empty());
    cases.sort_by(|(one, _), (other, _)| one.cmp(other));
    cases
}

async fn check_case<S: Store>(name: &str, case: Case, store: S) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(case.start)));
    let service = Arc::new(service(name, &case, store, Arc::clone(&clock)));
    let mut client = serve(Arc::clone(&service)).await;
    for (number, step) in case.play.iter().enumerate() {
        clock.advance(Duration::from_secs(step.after));
        clock.set(Timestamp::from_secs(clock_secs(&clock) - step.back));
        for time in 0..step.times {
            let context = format!("{name}, step {number}, time {time}: {}", step.ask);
            let response = client.should_rate_limit(request(step)).await;
            check(step, &response.expect(&context).into_inner(), &context);
        }
    }
    if let Some(expected) = case.statistics {
        assert_eq!(statistics(&service.metrics), expected, "{name}");
    }
}

fn check(step: &Step, response: &RateLimitResponse, context: &str) {
    let text = if step.says.contains(':') { full_text(response) } else { overall_code(response) };
    assert_eq!(text, step.says, "{context}");
    if let Some(expected) = &step.headers {
        let mut headers = Vec::new();
        for header in &response.response_headers_to_add {
            headers.push(format!("{}: {}", header.key, header.value));
        }
        assert_eq!(headers, *expected, "{context}");
    }
    if let Some(expected) = &step.metadata {
        let metadata = response.dynamic_metadata.clone().unwrap_or_default();
        assert_eq!(json(Kind::StructValue(metadata)), *expected, "{context}");
    }
}

/// Protobuf's JSON for a value.
fn json(value: Kind) -> serde_json::Value {
    match value {
        Kind::NullValue(_) => serde_json::Value::Null,
        Kind::BoolValue(flag) => flag.into(),
        Kind::NumberValue(number) => serde_json::from_str(&number.to_string()).unwrap(),
        Kind::StringValue(text) => text.into(),
        Kind::ListValue(list) => {
            let mut values = Vec::new();
            for value in list.values {
                values.push(json_or_null(value));
            }
            values.into()
        }
        Kind::StructValue(fields) => {
            let mut object = serde_json::Map::new();
            for (key, value) in fields.fields {
                object.insert(key, json_or_null(value));
            }
            object.into()
        }
    }
}

fn json_or_null(value: prost_types::Value) -> serde_json::Value {
    value.kind.map_or(serde_json::Value::Null, json)
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
    let mut files = Vec::new();
    for (name, text) in &case.rules {
        files.push(SourceFile { name: name.clone(), bytes: text.clone().into_bytes() });
    }
    let settings = &case.settings;
    let options = config::CompileOptions {
        merge_domains: settings.merge_domains,
        ..config::CompileOptions::default()
    };
    let compiled = match config::compile(&files, options) {
        Ok(compiled) => compiled,
        Err(errors) => panic!("{name}: {errors}"),
    };
    let metrics = Arc::new(Metrics::new(0.8));
    metrics.install_rules(&compiled.rules);
    Service {
        engine: Engine {
            rules: Arc::new(Arc::new(compiled.rules).into()),
            store,
            clock,
            keys: KeyFormat {
                prefix: String::new(),
                style: if settings.reference_keys {
                    KeyStyle::Reference
                } else {
                    KeyStyle::Unambiguous
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
        live: None,
        max_descriptors: 100,
        invalid: WarningLimiter::new("", ""),
        decision_log: None,
        spans: None,
        in_progress: InProgress::default(),
        answers: AnswerSettings {
            headers: if settings.headers { Some(header_names()) } else { None },
            metadata: if settings.metadata { MetadataWhen::Always } else { MetadataWhen::Refused },
        },
    }
}

fn header_names() -> HeaderNames {
    HeaderNames {
        limit: "RateLimit-Limit".to_owned(),
        remaining: "RateLimit-Remaining".to_owned(),
        reset: "RateLimit-Reset".to_owned(),
    }
}

/// The statistics that are not zero and do not depend on the store.
fn statistics(metrics: &Metrics) -> BTreeMap<String, u64> {
    let dotted: String = metrics.rule_stats().collect();
    let mut statistics = BTreeMap::new();
    for line in dotted.lines() {
        let (name, value) = line.rsplit_once(": ").unwrap();
        let name = name.strip_prefix("ratelimit.service.rate_limit.").unwrap();
        let value = value.parse().unwrap();
        if value > 0 && !name.ends_with(".over_limit_with_local_cache") {
            statistics.insert(name.to_owned(), value);
        }
    }
    statistics
}

fn request(step: &Step) -> RateLimitRequest {
    let (domain, text) = step.ask.split_once(" / ").expect("domain / descriptors");
    let (domain, hits_addend) = (domain.to_owned().into(), step.hits);
    RateLimitRequest { domain, descriptors: descriptors(text), hits_addend }
}

/// Parses descriptors with `|` between them.
fn descriptors(text: &str) -> Vec<RateLimitDescriptor> {
    let mut descriptors = Vec::new();
    for text in text.split(" | ") {
        descriptors.push(descriptor(text));
    }
    descriptors
}

fn descriptor(text: &str) -> RateLimitDescriptor {
    let mut words = text.split(' ');
    let mut message = RateLimitDescriptor::default();
    for entry in words.next().unwrap_or_default().split_terminator(',') {
        let (key, value) = entry.split_once('=').expect("key=value");
        message.entries.push(Entry { key: key.to_owned().into(), value: value.to_owned().into() });
    }
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

fn overall_code(response: &RateLimitResponse) -> String {
    response.overall_code().as_str_name().to_owned()
}

fn full_text(response: &RateLimitResponse) -> String {
    let mut statuses = Vec::new();
    for status in &response.statuses {
        statuses.push(status_text(status));
    }
    format!("{}: {}", overall_code(response), statuses.join(" | "))
}

fn status_text(status: &DescriptorStatus) -> String {
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
    let multiplier = match limit.unit_multiplier {
        Some(multiplier) => multiplier.to_string(),
        None => String::new(),
    };
    let reset = match &status.duration_until_reset {
        Some(reset) => {
            assert_eq!(reset.nanos, 0);
            format!("{}s", reset.seconds)
        }
        None => "never".to_owned(),
    };
    let (remaining, requests) = (status.limit_remaining, limit.requests_per_unit);
    write!(text, " {remaining} of {requests}/{multiplier}{unit} {reset}").unwrap();
    if !limit.name.is_empty() {
        write!(text, " ({})", limit.name).unwrap();
    }
    text
}
