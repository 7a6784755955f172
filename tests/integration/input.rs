//! Any input, valid or not: the next call is served.

use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::{
        RateLimitDescriptor, rate_limit_descriptor::RateLimitOverride,
    },
    service::ratelimit::v3::{RateLimitRequest, RateLimitResponse, rate_limit_response::Code},
};
use prost::Message;
use testkit::{
    grpc::{decide, descriptor, request_for, with_hits},
    http::json_request,
    network::free_port,
    raw_grpc::frame,
    tollgate::Tollgate,
    unique_value,
};
use tollgate::grpc::pb::envoy as ours;
use tonic::{Code as Status, Request};

use crate::in_process::InProcess;

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 3 }
";

/// Checks that a valid request is decided correctly.
async fn check_service(service: &InProcess) {
    let mut client = service.grpc().await;
    let reply = decide(&mut client, request_for("shop", &[("user", &unique_value())])).await;
    assert_eq!((reply.overall_code(), reply.statuses[0].limit_remaining), (Code::Ok, 2));
}

#[tokio::test(start_paused = true)]
async fn an_empty_request_is_rejected_with_the_reason() {
    let service = InProcess::start(RULES, &[]).await;
    let mut client = service.grpc().await;
    let nothing = RateLimitRequest { domain: "shop".to_owned(), ..Default::default() };
    for (request, reason) in [
        (request_for("", &[("user", "a")]), "rate limit domain must not be empty"),
        (nothing, "rate limit descriptor list must not be empty"),
    ] {
        let error = client.should_rate_limit(request).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Status::InvalidArgument, reason));
    }
    check_service(&service).await;
}

#[tokio::test(start_paused = true)]
async fn a_million_descriptors_are_rejected() {
    let service = InProcess::start(RULES, &[]).await;
    let mut client = service.grpc().await;
    let descriptors = vec![RateLimitDescriptor::default(); 1_000_000];
    let request = RateLimitRequest { domain: "shop".to_owned(), descriptors, hits_addend: 1 };
    let error = client.should_rate_limit(request).await.unwrap_err();
    assert_eq!(error.code(), Status::InvalidArgument);
    assert!(error.message().contains("1000000 elements"), "{error}");
    assert_eq!(service.service_errors().await, 1.0);
    check_service(&service).await;
}

fn request_of_size(size: usize) -> RateLimitRequest {
    let mut request = request_for("shop", &[("user", &"x".repeat(size))]);
    let more = request.encoded_len() - size;
    request.descriptors[0].entries[0].value.truncate(size - more);
    assert_eq!(request.encoded_len(), size);
    request
}

#[tokio::test(start_paused = true)]
async fn messages_up_to_4_mib_are_accepted() {
    const MAX: usize = 4 << 20;
    let service = InProcess::start(RULES, &[]).await;
    let mut client = service.grpc().await;
    let reply = decide(&mut client, request_of_size(MAX)).await;
    assert_eq!(reply.statuses[0].limit_remaining, 2);
    assert_eq!(service.service_errors().await, 0.0);
    client.should_rate_limit(request_of_size(MAX + 1)).await.unwrap_err();
    assert_eq!(service.service_errors().await, 1.0);
    check_service(&service).await;
}

#[tokio::test(start_paused = true)]
async fn headers_of_up_to_16_kib_are_accepted() {
    check_header_bytes(&[], 15_000, 17_000).await;
}

#[tokio::test(start_paused = true)]
async fn the_maximum_of_headers_follows_the_setting() {
    check_header_bytes(&[("GRPC_MAX_HEADER_BYTES", "4096")], 3_000, 5_000).await;
    check_header_bytes(&[("GRPC_MAX_HEADER_BYTES", "262144")], 250_000, 270_000).await;
}

async fn check_header_bytes(settings: &[(&str, &str)], accepted: usize, refused: usize) {
    let service = InProcess::start(RULES, settings).await;
    let mut client = service.grpc().await;
    let mut call = async |bytes: usize| {
        let mut request = Request::new(request_for("shop", &[("user", &unique_value())]));
        request.metadata_mut().insert("x", "y".repeat(bytes).parse().unwrap());
        client.should_rate_limit(request).await
    };
    call(accepted).await.unwrap();
    let status = call(refused).await.unwrap_err();
    assert!(status.message().contains("431"), "{status}");
    // The connection is not closed.
    call(accepted).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keys_and_values_are_any_bytes() {
    let service = InProcess::start(RULES, &[("RESPONSE_DYNAMIC_METADATA", "always")]).await;
    let raw = service.raw_grpc().await;
    let all: Vec<u8> = (0..=255).collect();
    for (key, value) in [(&all[..], &all[..]), (b"user", &all), (b"user", b"\0"), (b"\xff", b"")] {
        use ours::extensions::common::ratelimit::v3 as common;
        let entry = common::rate_limit_descriptor::Entry {
            key: key.to_vec().into(),
            value: value.to_vec().into(),
        };
        let descriptor = common::RateLimitDescriptor { entries: vec![entry], ..Default::default() };
        let mut request = ours::service::ratelimit::v3::RateLimitRequest {
            domain: "shop".into(),
            descriptors: vec![descriptor],
            ..Default::default()
        };
        // Envoy's message types reject text that is not UTF-8.
        let reply: RateLimitResponse = raw.call(request.encode_to_vec()).await.decode();
        assert_eq!(reply.overall_code(), Code::Ok);
        let limited = reply.statuses[0].current_limit.is_some();
        assert_eq!(limited, key == b"user", "{value:?}");
        request.domain = all.clone().into();
        let reply: RateLimitResponse = raw.call(request.encode_to_vec()).await.decode();
        assert_eq!(reply.overall_code(), Code::Ok);
    }
    check_service(&service).await;
}

/// Also if a request is refused, invalid, or not decided by Redis.
#[test]
fn values_of_requests_are_not_logged_above_debug() {
    let redis = format!("127.0.0.1:{}", free_port());
    for settings in
        [&[][..], &[("REDIS_URL", &*redis)], &[("REDIS_URL", &redis), ("ON_ERROR", "local")]]
    {
        let service = Tollgate::start(RULES, &[settings, &[("LOG_LEVEL", "info")]].concat());
        let body = json_request("shop", &[("user", "s3cret")]);
        for _ in 0..5 {
            service.post_json(&body);
        }
        service.post_json(&json_request("shop", &[("user", "s3cret"); 101]));
        service.wait_for_log("a request was invalid");
        let log = service.log();
        assert!(!log.contains("s3cret"), "{log}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_number_of_hits_is_too_large() {
    let service = InProcess::start(RULES, &[]).await;
    let mut client = service.grpc().await;
    let user = descriptor(&[("user", &unique_value())]);
    let request = |descriptor| RateLimitRequest {
        domain: "shop".to_owned(),
        descriptors: vec![descriptor],
        hits_addend: u32::MAX,
    };
    for hits in [u64::MAX, u64::MAX, u64::MAX, 0] {
        let reply = decide(&mut client, request(with_hits(user.clone(), hits))).await;
        assert_eq!(reply.overall_code(), Code::OverLimit);
    }
    for _ in 0..2 {
        let mut refund = with_hits(user.clone(), u64::MAX);
        refund.is_negative_hits = true;
        assert_eq!(decide(&mut client, request(refund)).await.overall_code(), Code::Ok);
    }
    let reply = decide(&mut client, request(with_hits(user, 0))).await;
    assert_eq!((reply.overall_code(), reply.statuses[0].limit_remaining), (Code::Ok, 3));
    check_service(&service).await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_with_an_unknown_unit_is_an_error() {
    let service = InProcess::start(RULES, &[]).await;
    let mut client = service.grpc().await;
    for unit in [0, 8, 99, -1] {
        let mut request = request_for("shop", &[("user", &unique_value())]);
        request.descriptors[0].limit = Some(RateLimitOverride { requests_per_unit: 1, unit });
        client.should_rate_limit(request).await.unwrap_err();
    }
    check_service(&service).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_within_a_message_is_no_error() {
    let service = InProcess::start(RULES, &[]).await;
    let raw = service.raw_grpc().await;
    let message = request_for("shop", &[("user", &unique_value())]).encode_to_vec();
    for _ in 0..10 {
        let call = raw.open_call().await;
        // The server reads the head and waits for the message.
        raw.call(&message).await;
        let mut frame = frame(&message);
        frame.pop();
        call.abort(frame);
        raw.call(&message).await;
    }
    check_service(&service).await;
    assert_eq!(service.service_errors().await, 0.0);
}

#[tokio::test(start_paused = true)]
async fn invalid_protobuf_is_an_error() {
    let service = InProcess::start(RULES, &[]).await;
    let raw = service.raw_grpc().await;
    let message = request_for("shop", &[("user", &unique_value())]).encode_to_vec();
    let mut errors = 0;
    for end in 1..message.len() {
        // A prefix that ends at the end of a field is a valid message.
        let code = raw.call(&message[..end]).await.code;
        let valid = RateLimitRequest::decode(&message[..end]).is_ok();
        assert!(code != Status::Ok || valid, "{end} bytes");
        errors += u32::from(code != Status::Ok);
    }
    assert_ne!(raw.call([0xff; 64]).await.code, Status::Ok);
    // A frame that is shorter than its header states.
    let call = raw.open_call().await;
    let mut frame = frame(&message);
    frame.pop();
    assert_ne!(call.finish(frame).await.code, Status::Ok);
    // No message at all.
    assert_ne!(raw.open_call().await.finish(Vec::new()).await.code, Status::Ok);
    assert_eq!(service.service_errors().await, f64::from(errors + 3));
    check_service(&service).await;
}
