//! Our protocol files are compatible with Envoy's.

use envoy_types::pb::{
    envoy::{
        config::core::v3 as core, extensions::common::ratelimit::v3 as common,
        service::ratelimit::v3 as service, r#type::v3 as unit,
    },
    google::protobuf as google,
};
use prost::Message;
use prost_types::value::Kind;
use tollgate::grpc::pb::envoy as ours;

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

fn our_header(key: &str, value: &str) -> ours::config::core::v3::HeaderValue {
    ours::config::core::v3::HeaderValue { key: key.to_owned(), value: value.to_owned() }
}

fn their_header(key: &str, value: &str) -> core::HeaderValue {
    core::HeaderValue { key: key.to_owned(), value: value.to_owned(), raw_value: Vec::new() }
}
