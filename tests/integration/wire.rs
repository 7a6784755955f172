//! Our protocol files are compatible with Envoy's.

use envoy_types::pb::{
    envoy::{
        config::core::v3 as core,
        extensions::common::ratelimit::v3 as common,
        service::{auth::v3 as auth, ratelimit::v3 as service},
        r#type::v3 as unit,
    },
    google::{protobuf as google, rpc},
};
use prost::Message;
use prost_types::value::Kind;
use tollgate::{ext_authz::pb as our_checks, grpc::pb::envoy as ours};

/// Decodes the encoding of another implementation of the message.
fn into<M: Message + Default>(message: &impl Message) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

#[test]
fn every_field_of_upstreams_request_arrives_in_ours() {
    let theirs = service::RateLimitRequest {
        domain: "shop".to_owned(),
        descriptors: vec![common::RateLimitDescriptor {
            entries: vec![common::rate_limit_descriptor::Entry {
                key: "user".to_owned(),
                value: "ann".to_owned(),
            }],
            limit: Some(common::rate_limit_descriptor::RateLimitOverride {
                requests_per_unit: 7,
                unit: unit::RateLimitUnit::Month.into(),
            }),
            hits_addend: Some(google::UInt64Value { value: u64::MAX }),
            is_negative_hits: true,
        }],
        hits_addend: u32::MAX,
    };
    let expected = {
        use ours::extensions::common::ratelimit::v3 as common;
        ours::service::ratelimit::v3::RateLimitRequest {
            domain: "shop".into(),
            descriptors: vec![common::RateLimitDescriptor {
                entries: vec![common::rate_limit_descriptor::Entry {
                    key: "user".into(),
                    value: "ann".into(),
                }],
                limit: Some(common::rate_limit_descriptor::RateLimitOverride {
                    requests_per_unit: 7,
                    unit: ours::r#type::v3::RateLimitUnit::Month.into(),
                    unit_multiplier: None,
                }),
                hits_addend: Some(u64::MAX),
                is_negative_hits: true,
            }],
            hits_addend: u32::MAX,
        }
    };
    assert_eq!(into::<ours::service::ratelimit::v3::RateLimitRequest>(&theirs), expected);
    assert_eq!(into::<service::RateLimitRequest>(&expected), theirs);
}

#[test]
fn every_field_of_our_response_arrives_in_upstreams() {
    let ours = ours::service::ratelimit::v3::RateLimitResponse {
        overall_code: 2,
        statuses: vec![ours::service::ratelimit::v3::rate_limit_response::DescriptorStatus {
            code: 2,
            current_limit: Some(ours::service::ratelimit::v3::rate_limit_response::RateLimit {
                requests_per_unit: 3,
                unit: 7,
                name: "per_user".to_owned(),
                unit_multiplier: None,
            }),
            limit_remaining: u32::MAX,
            duration_until_reset: Some(prost_types::Duration { seconds: 5, nanos: 6 }),
        }],
        response_headers_to_add: vec![our_header("a", "b")],
        dynamic_metadata: Some(prost_types::Struct {
            fields: [("k".to_owned(), Kind::NumberValue(1.5).into())].into(),
        }),
    };
    use service::rate_limit_response::{Code, DescriptorStatus, RateLimit, rate_limit::Unit};
    let number = google::Value { kind: Some(google::value::Kind::NumberValue(1.5)) };
    let expected = service::RateLimitResponse {
        overall_code: Code::OverLimit.into(),
        statuses: vec![DescriptorStatus {
            code: Code::OverLimit.into(),
            current_limit: Some(RateLimit {
                requests_per_unit: 3,
                unit: Unit::Week.into(),
                name: "per_user".to_owned(),
            }),
            limit_remaining: u32::MAX,
            duration_until_reset: Some(google::Duration { seconds: 5, nanos: 6 }),
            quota: None,
        }],
        response_headers_to_add: vec![their_header("a", "b")],
        request_headers_to_add: Vec::new(),
        raw_body: Vec::new(),
        dynamic_metadata: Some(google::Struct { fields: [("k".to_owned(), number)].into() }),
        quota: None,
    };
    assert_eq!(into::<service::RateLimitResponse>(&ours), expected);
    assert_eq!(into::<ours::service::ratelimit::v3::RateLimitResponse>(&expected), ours);
}

/// The fields that `envoy-types` does not have yet, as bytes. The numbers are
/// those in the descriptors inside the Envoy 1.40.0 binary:
/// `RateLimitOverride.unit_multiplier` is 3 and `RateLimit.unit_multiplier` is
/// 4, each a `google.protobuf.UInt32Value`.
#[test]
fn the_newest_fields_have_envoys_numbers() {
    use ours::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride;
    let bytes = [0x08, 5, 0x10, 2, 0x1a, 2, 0x08, 10];
    let theirs = RateLimitOverride::decode(&bytes[..]).unwrap();
    let expected = RateLimitOverride { requests_per_unit: 5, unit: 2, unit_multiplier: Some(10) };
    assert_eq!(theirs, expected);

    use ours::service::ratelimit::v3::rate_limit_response::RateLimit;
    let limit = RateLimit { unit_multiplier: Some(10), ..RateLimit::default() };
    assert_eq!(limit.encode_to_vec(), [0x22, 2, 0x08, 10]);
}

#[test]
fn every_field_of_upstreams_check_that_is_read_arrives_in_ours() {
    use auth::attribute_context::{HttpRequest, Peer, Request};
    let socket = core::SocketAddress { address: "10.0.0.1".to_owned(), ..Default::default() };
    let address = core::Address { address: Some(core::address::Address::SocketAddress(socket)) };
    let line = core::HeaderValue { raw_value: b"\xff".to_vec(), ..their_header("c", "") };
    let http = HttpRequest {
        method: "GET".to_owned(),
        headers: [("a".to_owned(), "b".to_owned())].into(),
        path: "/p".to_owned(),
        host: "h".to_owned(),
        scheme: "s".to_owned(),
        header_map: Some(core::HeaderMap { headers: vec![line, their_header("d", "e")] }),
        ..Default::default()
    };
    let theirs = auth::CheckRequest {
        attributes: Some(auth::AttributeContext {
            source: Some(Peer { address: Some(address), ..Default::default() }),
            request: Some(Request { http: Some(http), ..Default::default() }),
            context_extensions: [("domain".to_owned(), "shop".to_owned())].into(),
            ..Default::default()
        }),
    };
    let expected = {
        use our_checks::envoy::{
            config::core::v3 as core,
            service::auth::v3::{
                AttributeContext, CheckRequest,
                attribute_context::{
                    ContextExtensionsEntry, HttpRequest, Peer, Request, http_request::HeadersEntry,
                },
            },
        };
        let socket_address = core::SocketAddress { address: "10.0.0.1".into() };
        let raw =
            core::HeaderValue { key: "c".into(), value: "".into(), raw_value: b"\xff"[..].into() };
        let plain = core::HeaderValue { key: "d".into(), value: "e".into(), raw_value: "".into() };
        let http = HttpRequest {
            method: "GET".into(),
            headers: vec![HeadersEntry { key: "a".into(), value: "b".into() }],
            path: "/p".into(),
            host: "h".into(),
            scheme: "s".into(),
            header_map: Some(core::HeaderMap { headers: vec![raw, plain] }),
        };
        CheckRequest {
            attributes: Some(AttributeContext {
                source: Some(Peer {
                    address: Some(core::Address { socket_address: Some(socket_address) }),
                }),
                request: Some(Request { http: Some(http) }),
                context_extensions: vec![ContextExtensionsEntry {
                    key: "domain".into(),
                    value: "shop".into(),
                }],
            }),
        }
    };
    let read: our_checks::envoy::service::auth::v3::CheckRequest = into(&theirs);
    assert_eq!(read, expected);
    assert_eq!(into::<auth::CheckRequest>(&expected), theirs);
}

#[test]
fn every_field_of_our_answers_to_checks_arrives_in_upstreams() {
    use our_checks::envoy::service::auth::v3::{self as ours, check_response::HttpResponse};
    let header = our_checks::envoy::config::core::v3::HeaderValueOption {
        header: Some(our_checks::envoy::config::core::v3::HeaderValue {
            key: "a".into(),
            value: "b".into(),
            raw_value: "".into(),
        }),
    };
    let metadata =
        prost_types::Struct { fields: [("k".to_owned(), Kind::NumberValue(1.5).into())].into() };
    let number = google::Value { kind: Some(google::value::Kind::NumberValue(1.5)) };
    let their_metadata = google::Struct { fields: [("k".to_owned(), number)].into() };
    let their_header =
        core::HeaderValueOption { header: Some(their_header("a", "b")), ..Default::default() };
    let answer = |code, http_response| ours::CheckResponse {
        status: Some(our_checks::google::rpc::Status { code, message: "m".to_owned() }),
        dynamic_metadata: Some(metadata.clone()),
        http_response: Some(http_response),
    };
    let their_answer = |code, http_response| auth::CheckResponse {
        status: Some(rpc::Status { code, message: "m".to_owned(), ..Default::default() }),
        dynamic_metadata: Some(their_metadata.clone()),
        http_response: Some(http_response),
    };
    use our_checks::envoy::r#type::v3::StatusCode as Ours;
    for (status, theirs) in [
        (Ours::BadRequest, unit::StatusCode::BadRequest),
        (Ours::PayloadTooLarge, unit::StatusCode::PayloadTooLarge),
        (Ours::TooManyRequests, unit::StatusCode::TooManyRequests),
        (Ours::InternalServerError, unit::StatusCode::InternalServerError),
    ] {
        let denied = ours::DeniedHttpResponse {
            status: Some(our_checks::envoy::r#type::v3::HttpStatus { code: status.into() }),
            headers: vec![header.clone()],
            body: "no".to_owned(),
        };
        let expected = auth::DeniedHttpResponse {
            status: Some(unit::HttpStatus { code: theirs.into() }),
            headers: vec![their_header.clone()],
            body: "no".to_owned(),
        };
        assert_eq!(
            into::<auth::CheckResponse>(&answer(8, HttpResponse::DeniedResponse(denied))),
            their_answer(8, auth::check_response::HttpResponse::DeniedResponse(expected)),
        );
    }
    let passed = ours::OkHttpResponse { response_headers_to_add: vec![header.clone()] };
    let expected =
        auth::OkHttpResponse { response_headers_to_add: vec![their_header], ..Default::default() };
    assert_eq!(
        into::<auth::CheckResponse>(&answer(0, HttpResponse::OkResponse(passed))),
        their_answer(0, auth::check_response::HttpResponse::OkResponse(expected)),
    );
}

fn our_header(key: &str, value: &str) -> ours::config::core::v3::HeaderValue {
    ours::config::core::v3::HeaderValue {
        key: key.to_owned(),
        value: value.to_owned(),
        ..Default::default()
    }
}

fn their_header(key: &str, value: &str) -> core::HeaderValue {
    core::HeaderValue { key: key.to_owned(), value: value.to_owned(), raw_value: Vec::new() }
}
