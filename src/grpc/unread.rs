//! Records calls whose message cannot be read: tonic answers them before the service is
//! called.

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
    codegen::{Service as HttpService, http},
    server::NamedService,
};

use crate::{metrics::Metrics, service::Service, store::Store};

type Response = http::Response<Body>;

/// A gRPC server whose refusals are recorded by a service.
#[derive(Debug)]
pub struct RecordUnread<T, S> {
    /// The server.
    pub server: T,
    /// Records its refusals.
    pub service: Arc<Service<S>>,
    /// Gives the response in place of the status of a call whose message cannot be read, and
    /// counts what only its protocol counts.
    pub answer: fn(&Metrics, Status) -> Response,
}

impl<T: Clone, S> Clone for RecordUnread<T, S> {
    fn clone(&self) -> Self {
        let Self { server, service, answer } = self;
        Self { server: server.clone(), service: Arc::clone(service), answer: *answer }
    }
}

impl<T: NamedService, S> NamedService for RecordUnread<T, S> {
    const NAME: &'static str = T::NAME;
}

impl<T, S> HttpService<http::Request<Body>> for RecordUnread<T, S>
where
    T: HttpService<http::Request<Body>, Response = Response, Error = Infallible>,
    T::Future: Unpin,
    S: Store,
{
    type Response = Response;
    type Error = Infallible;
    type Future = RecordedResponse<T::Future, S>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.server.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let response = self.server.call(request);
        RecordedResponse { response, service: Arc::clone(&self.service), answer: self.answer }
    }
}

/// The response to one call.
#[derive(Debug)]
pub struct RecordedResponse<F, S> {
    response: F,
    service: Arc<Service<S>>,
    answer: fn(&Metrics, Status) -> Response,
}

impl<F, S> Future for RecordedResponse<F, S>
where
    F: Future<Output = Result<Response, Infallible>> + Unpin,
    S: Store,
{
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(Pin::new(&mut self.response).poll(context))?;
        // tonic leaves the status of a call that failed here.
        let Some(status) = response.extensions_mut().remove::<Status>() else {
            return Poll::Ready(Ok(response));
        };
        // The service has recorded its own errors, which have a source.
        if status.source().is_some() {
            return Poll::Ready(Ok(response));
        }
        self.service.reject_unread(&status.message());
        Poll::Ready(Ok((self.answer)(&self.service.metrics, status)))
    }
}
