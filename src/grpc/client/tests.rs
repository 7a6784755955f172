use tokio::net::TcpListener;
use tonic::{
    Request as Call, Response as Reply,
    transport::{Server, server::TcpIncoming},
};

use super::*;
use crate::{
    descriptor,
    grpc::pb::envoy::{
        config::core::v3::HeaderValue,
        service::ratelimit::v3::{
            rate_limit_response::rate_limit::Unit,
            rate_limit_service_server::{RateLimitService, RateLimitServiceServer},
        },
    },
    net::HostPort,
};

/// Refuses everything in the domain `shop`, and rejects every other domain.
struct Strict;

#[tonic::async_trait]
impl RateLimitService for Strict {
    async fn should_rate_limit(
        &self,
        call: Call<RateLimitRequest>,
    ) -> Result<Reply<RateLimitResponse>, tonic::Status> {
        let request = call.into_inner();
        if request.domain != "shop" {
            return Err(tonic::Status::invalid_argument("no such domain"));
        }
        assert_eq!(request.descriptors[0].entries[0].key, "user");
        assert_eq!(request.descriptors[0].hits_addend, Some(3));
        assert!(request.descriptors[0].is_negative_hits);
        let limited = DescriptorStatus {
            code: Code::OverLimit.into(),
            current_limit: Some(RateLimit {
                requests_per_unit: 20,
                unit: Unit::Hour.into(),
                name: "carts".into(),
                unit_multiplier: Some(10),
            }),
            limit_remaining: 3,
            duration_until_reset: Some(prost_types::Duration { seconds: 41, nanos: 1 }),
        };
        let free = DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() };
        let rule = prost_types::Struct { fields: [("limit".to_owned(), 5.0.into())].into() };
        let fields = [("rule".to_owned(), Kind::StructValue(rule).into())].into();
        Ok(Reply::new(RateLimitResponse {
            overall_code: Code::OverLimit.into(),
            statuses: vec![limited, free],
            response_headers_to_add: vec![HeaderValue {
                key: "a".into(),
                value: "b".into(),
                raw_value: "".into(),
            }],
            dynamic_metadata: Some(prost_types::Struct { fields }),
        }))
    }
}

fn refund(domain: &'static str) -> Request {
    let descriptor = Descriptor {
        entries: vec![descriptor::Entry { key: "user".into(), value: "ann".into() }],
        hits: Hits::Refund(3),
        has_own_hits: true,
        limit: None,
    };
    Request { domain: domain.into(), descriptors: vec![descriptor], hits_addend: 0 }
}

#[tokio::test]
async fn requests_and_responses_are_translated() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bound = listener.local_addr().unwrap();
    let address = Address::Tcp(HostPort { host: bound.ip().to_string(), port: bound.port() });
    let server = Server::builder()
        .add_service(RateLimitServiceServer::new(Strict))
        .serve_with_incoming(TcpIncoming::from(listener));
    let server = tokio::spawn(server);

    let response = call(&address, None, &refund("shop")).await.unwrap();
    let limit = ResponseLimit {
        requests: 20,
        unit: Some("hour".into()),
        multiplier: 10,
        name: "carts".into(),
    };
    let limited = ResponseStatus {
        code: ResponseCode::OverLimit,
        limit: Some(limit),
        remaining: 3,
        reset_seconds: Some(42),
    };
    let free = ResponseStatus { code: ResponseCode::Ok, ..ResponseStatus::default() };
    assert_eq!(response.code, ResponseCode::OverLimit);
    assert_eq!(response.statuses, [limited, free]);
    assert_eq!(response.headers, [("a".to_owned(), "b".to_owned())]);
    assert_eq!(serde_json::json!(response.metadata), serde_json::json!({"rule": {"limit": 5}}));

    let error = call(&address, None, &refund("elsewhere")).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{address} answered InvalidArgument: no such domain"));
    server.abort();
}
