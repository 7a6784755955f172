use std::net::{Ipv4Addr, TcpListener};

use proptest::{collection::vec, prelude::*};
use tonic::{Request, Response, transport::server::TcpIncoming};

use super::*;
use crate::wire::pb::envoy::{
    config::core::v3::HeaderValue,
    service::ratelimit::v3::{
        rate_limit_response::{DescriptorStatus, RateLimit, rate_limit::Unit},
        rate_limit_service_server::{RateLimitService, RateLimitServiceServer},
    },
};

fn entry(key: &'static str, value: &'static str) -> Entry {
    Entry { key: key.into(), value: value.into() }
}

fn hit(descriptors: Vec<Vec<Entry>>) -> Hit {
    let address = default_address();
    Hit { address, tls: None, domain: "shop".into(), descriptors, hits: None, refund: false }
}

#[track_caller]
fn check_descriptor(text: &str, expected: &[(&'static str, &'static str)]) {
    let expected: Vec<_> = expected.iter().map(|&(key, value)| entry(key, value)).collect();
    assert_eq!(parse_descriptor(text.as_bytes()), Ok(expected), "{text}");
}

#[test]
fn descriptors_are_pairs() {
    check_descriptor("user=ann", &[("user", "ann")]);
    check_descriptor("user=ann,path=/a", &[("user", "ann"), ("path", "/a")]);
    check_descriptor("user=", &[("user", "")]);
    check_descriptor("q=a=b==", &[("q", "a=b==")]);
    check_descriptor(r"list=a\,b,x=\\,y=\", &[("list", "a,b"), ("x", r"\,y=\")]);
    check_descriptor(" a = b ", &[(" a ", " b ")]);
    for text in ["", ",", "user", "=ann", "a=b,", ",a=b", "a=b,,c=d", r"a\,=b,c"] {
        assert_eq!(
            parse_descriptor(text.as_bytes()),
            Err("expected key=value,key=value and so on"),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn every_descriptor_can_be_written(
        pairs in vec((vec(any::<u8>(), 1..4), vec(any::<u8>(), 0..4)), 1..4)
    ) {
        let without = |bytes: &[u8], what: &[u8]| {
            bytes.iter().map(|it| if what.contains(it) { b'a' } else { *it }).collect::<Vec<_>>()
        };
        let entries: Vec<_> = pairs.iter().map(|(key, value)| Entry {
            key: without(key, b"=\\").into(),
            value: without(value, b"\\").into(),
        }).collect();
        let escape = |bytes: &[u8]| bytes.iter().flat_map(|&it| match it {
            b',' => vec![b'\\', b','],
            it => vec![it],
        }).collect::<Vec<_>>();
        let written: Vec<_> =
            entries.iter().map(|it| [escape(&it.key), escape(&it.value)].join(&b'=')).collect();
        prop_assert_eq!(parse_descriptor(&written.join(&b',')), Ok(entries));
    }
}

#[test]
fn addresses_are_a_host_and_a_port() {
    for text in ["localhost:8081", "127.0.0.1:1", "[::1]:8081", "unix:/run/a b", "unix:a"] {
        assert_eq!(parse_address(text).unwrap().to_string(), text);
    }
    assert_eq!(parse_address("localhost:8081"), Ok(default_address()));
    assert!(parse_address(&format!("unix:/{}", "a".repeat(107))).is_err());
    for text in
        ["", "localhost", ":8081", "::1:8081", "http://a:1", "a:b", "a:1/b", "me@a:1", "unix:"]
    {
        assert!(parse_address(text).is_err(), "{text}");
    }
}

#[test]
fn a_refund_and_its_size_go_with_every_descriptor() {
    let descriptors = vec![vec![entry("a", "b")], vec![entry("c", "d")]];
    let request = request(&Hit { hits: Some(0), refund: true, ..hit(descriptors.clone()) });
    assert_eq!(request.descriptors.len(), 2);
    for descriptor in request.descriptors {
        assert_eq!((descriptor.hits_addend, descriptor.is_negative_hits), (Some(0), true));
    }
    let request = super::request(&hit(descriptors));
    assert_eq!((request.hits_addend, request.descriptors[0].hits_addend), (0, None));
}

fn over_limit() -> RateLimitResponse {
    let limited = |code: Code, requests_per_unit, unit: Unit, multiplier| DescriptorStatus {
        code: code.into(),
        current_limit: Some(RateLimit {
            requests_per_unit,
            unit: unit.into(),
            name: if multiplier == Some(10) { "carts\u{1b}[2J".into() } else { String::new() },
            unit_multiplier: multiplier,
        }),
        limit_remaining: if code == Code::Ok { 3 } else { 0 },
        duration_until_reset: Some(prost_types::Duration { seconds: 41, nanos: 1 }),
    };
    let free = DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() };
    let text = |it: &str| prost_types::Value::from(it.to_owned());
    let rule = [("name", text("per user")), ("limit", 5.0.into()), ("bannedSeconds", 42.0.into())];
    let rule = rule.map(|(name, value)| (name.to_owned(), value));
    let rule = prost_types::Struct { fields: rule.into() };
    let fields = [
        ("domain".to_owned(), text("shop")),
        ("rule".to_owned(), prost_types::value::Kind::StructValue(rule).into()),
    ];
    RateLimitResponse {
        overall_code: Code::OverLimit.into(),
        statuses: vec![
            limited(Code::OverLimit, 5, Unit::Minute, None),
            limited(Code::Ok, 20, Unit::Hour, Some(10)),
            free,
        ],
        response_headers_to_add: vec![HeaderValue {
            key: "RateLimit-Limit".into(),
            value: "5".into(),
        }],
        dynamic_metadata: Some(prost_types::Struct { fields: fields.into() }),
    }
}

#[test]
fn an_answer_reads_well() {
    let question = hit(vec![
        vec![entry("user", "ann"), entry("path", "/a,b")],
        vec![entry("cart", "7\n")],
        vec![Entry { key: "odd".into(), value: (&b"\xff\xc3\xa4"[..]).into() }],
        vec![entry("lost", "")],
    ]);
    let mut out = Vec::new();
    render::response(&question, &over_limit(), &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"OVER_LIMIT
  user=ann,path=/a\,b: OVER_LIMIT, 5 per minute, 0 remaining, come back in 42 s
  cart=7\n: OK, 20 per 10 hours (carts\u{1b}[2J), 3 remaining, resets in 42 s
  odd=�ä: OK, no limit
  lost=: no answer
a penalty refuses everything for 42 s
response headers
  RateLimit-Limit: 5
metadata
  domain: "shop"
  rule: {"bannedSeconds":42,"limit":5,"name":"per user"}
"#
    );
}

#[test]
fn a_plain_answer_is_short() {
    let response = RateLimitResponse {
        overall_code: Code::Ok.into(),
        statuses: vec![DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() }],
        ..RateLimitResponse::default()
    };
    let mut out = Vec::new();
    render::response(&hit(vec![vec![entry("user", "ann")]]), &response, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "OK\n  user=ann: OK, no limit\n");
}

/// Refuses everything in the domain `shop`, and knows no other.
struct Strict;

#[tonic::async_trait]
impl RateLimitService for Strict {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, tonic::Status> {
        match request.into_inner().domain.as_ref() {
            b"shop" => Ok(Response::new(over_limit())),
            _ => Err(tonic::Status::invalid_argument("no such domain")),
        }
    }
}

#[tokio::test]
async fn the_answer_of_a_service_is_shown() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = parse_address(&listener.local_addr().unwrap().to_string()).unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(RateLimitServiceServer::new(Strict))
        .serve_with_incoming(TcpIncoming::from(listener));
    let server = tokio::spawn(server);

    let mut out = Vec::new();
    let question = Hit { address, ..hit(vec![vec![entry("user", "ann")]]) };
    assert_eq!(run(&question, &mut out).await.unwrap(), Status::No);
    assert!(out.starts_with(b"OVER_LIMIT\n  user=ann: OVER_LIMIT, 5 per minute"));

    let elsewhere = Hit { domain: "elsewhere".into(), ..question.clone() };
    assert_eq!(
        run(&elsewhere, &mut out).await.unwrap_err().to_string(),
        format!("{} answered InvalidArgument: no such domain", question.address)
    );
    server.abort();
}

#[tokio::test]
async fn nobody_there_is_said_plainly() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let question =
        Hit { address: parse_address(&address).unwrap(), ..hit(vec![vec![entry("user", "ann")]]) };
    assert_eq!(
        run(&question, &mut Vec::new()).await.unwrap_err().to_string(),
        format!("nothing listens at {address}; is tollgate running?")
    );
}
