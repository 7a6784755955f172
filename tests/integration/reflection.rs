//! gRPC server reflection.

use prost::Message;
use prost_types::FileDescriptorProto;
use tonic::codegen::tokio_stream::once;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::in_process::InProcess;

#[tokio::test(start_paused = true)]
async fn reflection_lists_and_describes_the_service() {
    const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
    let service = InProcess::start("domain: shop\n", &[]).await;
    let mut client = ServerReflectionClient::new(service.channel().await);
    let mut ask = async |message_request| {
        let request =
            ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
        let mut replies = client.server_reflection_info(once(request)).await.unwrap().into_inner();
        replies.message().await.unwrap().unwrap().message_response.unwrap()
    };

    let listed = ask(MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(listed) = listed else { panic!("{listed:?}") };
    assert!(listed.service.iter().any(|it| it.name == SERVICE), "{listed:?}");

    let described = ask(MessageRequest::FileContainingSymbol(SERVICE.to_owned())).await;
    let MessageResponse::FileDescriptorResponse(described) = described else {
        panic!("{described:?}")
    };
    let file = FileDescriptorProto::decode(described.file_descriptor_proto[0].as_slice()).unwrap();
    assert_eq!(file.service[0].method[0].name(), "ShouldRateLimit");
}
