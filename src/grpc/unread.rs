//! Records calls whose message cannot be read: tonic answers them before [`Grpc`] is called.

use std::{
    convert::Infallible,
    error::Error as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service as HttpService, http},
    server::NamedService,
};

use super::{Grpc, pb::envoy::service::ratelimit::v3::rate_limit_service_server};
use crate::{service::Service, store::Store};

type Server<S> = rate_limit_service_server::RateLimitServiceServer<Grpc<S>>;
type Response = http::Response<Body>;

/// A gRPC server whose refusals are recorded by its service.
#[derive(Debug)]
pub(super) struct RecordUnread<S> {
    pub(super) server: Server<S>,
    pub(super) service: Arc<Service<S>>,
}

/// The response to one call.
pub(super) struct RecordedResponse<S> {
    response: BoxFuture<Response, Infallible>,
    service: Arc<Service<S>>,
}

impl<S> Clone for RecordUnread<S> {
    fn clone(&self) -> Self {
        Self { server: self.server.clone(), service: Arc::clone(&self.service) }
    }
}

impl<S: Store> NamedService for RecordUnread<S> {
    const NAME: &'static str = <Server<S> as NamedService>::NAME;
}

impl<S: Store> HttpService<http::Request<Body>> for RecordUnread<S> {
    type Response = Response;
    type Error = Infallible;
    type Future = RecordedResponse<S>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        HttpService::<http::Request<Body>>::poll_ready(&mut self.server, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> RecordedResponse<S> {
        let response = self.server.call(request);
        RecordedResponse { response, service: Arc::clone(&self.service) }
    }
}

impl<S: Store> Future for RecordedResponse<S> {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.response.as_mut().poll(context))?;
        // tonic leaves the status of a call that failed here.
        if let Some(status) = response.extensions().get::<Status>()
            // The service has recorded its own errors, which have a source.
            && status.source().is_none()
        {
            self.service.reject_unread(&status.message());
        }
        Poll::Ready(Ok(response))
    }
}
