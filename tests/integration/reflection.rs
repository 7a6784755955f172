//! gRPC server reflection.

use futures_util::stream::pending;
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorProto, field_descriptor_proto::Type};
use tonic::{Code, codegen::tokio_stream::once, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::in_process::InProcess;

const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";

struct Reflection(ServerReflectionClient<Channel>);

impl Reflection {
    async fn of(service: &InProcess) -> Self {
        Self(ServerReflectionClient::new(service.channel().await))
    }

    async fn ask(&mut self, message_request: MessageRequest) -> MessageResponse {
        let request =
            ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
        let mut replies = self.0.server_reflection_info(once(request)).await.unwrap().into_inner();
        replies.message().await.unwrap().unwrap().message_response.unwrap()
    }

    /// The file that declares this symbol.
    async fn file(&mut self, symbol: &str) -> FileDescriptorProto {
        match self.ask(MessageRequest::FileContainingSymbol(symbol.to_owned())).await {
            MessageResponse::FileDescriptorResponse(reply) => {
                FileDescriptorProto::decode(&*reply.file_descriptor_proto[0]).unwrap()
            }
            other => panic!("{symbol}: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn reflection_lists_and_describes_the_service() {
    let service = InProcess::start("domain: shop\n", &[]).await;
    let mut reflection = Reflection::of(&service).await;
    let listed = reflection.ask(MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(listed) = listed else { panic!("{listed:?}") };
    let names: Vec<_> = listed.service.iter().map(|it| it.name.as_str()).collect();
    assert!(names.contains(&SERVICE) && names.contains(&"grpc.health.v1.Health"), "{names:?}");
    let file = reflection.file(SERVICE).await;
    assert_eq!(file.service[0].method[0].name(), "ShouldRateLimit");
    let authorization = "envoy.service.auth.v3.Authorization".to_owned();
    assert!(names.contains(&authorization.as_str()), "{names:?}");
    assert_eq!(reflection.file(&authorization).await.service[0].method[0].name(), "Check");
}

/// The fields of `message` and of those in it with the type `wanted`.
fn fields(wanted: Type, message: &DescriptorProto) -> Vec<String> {
    let mut found = Vec::new();
    for field in &message.field {
        if field.r#type() == wanted {
            found.push(format!("{}.{}", message.name(), field.name()));
        }
    }
    for nested in &message.nested_type {
        found.extend(fields(wanted, nested));
    }
    found
}

/// A client that knows the messages from reflection writes `bytes` as base64.
#[tokio::test(start_paused = true)]
async fn texts_are_strings_for_clients() {
    let service = InProcess::start("domain: shop\n", &[]).await;
    let mut reflection = Reflection::of(&service).await;
    for (symbol, strings) in [
        (SERVICE, "RateLimitRequest.domain RateLimit.name"),
        ("envoy.extensions.common.ratelimit.v3.RateLimitDescriptor", "Entry.key Entry.value"),
        (
            "envoy.service.auth.v3.AttributeContext",
            "HttpRequest.method HttpRequest.path HttpRequest.host HttpRequest.scheme \
             HeadersEntry.key HeadersEntry.value ContextExtensionsEntry.key \
             ContextExtensionsEntry.value",
        ),
        ("grpc.health.v1.Health", "HealthCheckRequest.service StatusesEntry.key"),
    ] {
        let file = reflection.file(symbol).await;
        let of = |wanted| -> Vec<_> {
            file.message_type.iter().flat_map(|message| fields(wanted, message)).collect()
        };
        assert_eq!(of(Type::String).join(" "), strings, "{symbol}");
        assert!(of(Type::Bytes).is_empty(), "{symbol}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_a_bounded_number_of_watches_and_reflections() {
    let service = InProcess::start("domain: shop\n", &[]).await;
    let channel = service.channel().await;
    let mut open = Vec::new();
    for _ in 0..8 {
        let mut client = HealthClient::new(channel.clone());
        let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        watch.message().await.unwrap();
        open.push(watch);
    }
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let refused = reflection.server_reflection_info(pending()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let reason = [("reason", "too_many_streams")];
    assert_eq!(service.metrics().await.value("tollgate_calls_cut_off_total", &reason), 1.0);
    // The connection still serves, and another one has streams of its own.
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
    let mut other = ServerReflectionClient::new(service.channel().await);
    other.server_reflection_info(pending()).await.unwrap();
}
