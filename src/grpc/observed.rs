//! Counts, times and traces the calls that make decisions.

use std::{net::SocketAddr, pin::Pin, time::Duration};

use axum::http::HeaderMap;
use tokio::time::Instant;
use tonic::Status;

use super::timeout;
use crate::{
    metrics::{CountedMethod, Metrics},
    service::{RequestError, Service},
    spans::{GrpcMethod, ServerSpan},
};

/// A call that is being answered.
#[derive(Debug)]
pub struct ObservedCall<'a> {
    watch: CallWatch<'a>,
    span: Option<ServerSpan>,
    /// The time for which the caller waits.
    pub timeout: Option<Duration>,
}

impl<'a> ObservedCall<'a> {
    /// Starts with the call, of a method that is `counted` and `traced` so.
    pub fn start<S>(
        service: &'a Service<S>,
        counted: CountedMethod,
        traced: GrpcMethod,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Self {
        let timeout = timeout::read(headers);
        let watch = CallWatch {
            metrics: &service.metrics,
            counted,
            started: Instant::now(),
            timeout,
            ended: false,
        };
        let span = service.spans.as_ref().and_then(|spans| spans.start_grpc_call(traced, headers));
        if let Some(span) = &span
            && let Some(peer) = peer
        {
            span.set_peer(peer);
        }
        Self { watch, span, timeout }
    }

    /// Ends with the answer. It is pinned, because a future that is moved takes room in the
    /// futures around it each time. A cancelled answer has to be dropped before this call, whose
    /// span ends last.
    pub async fn answer<T>(
        &mut self,
        answer: Pin<&mut impl Future<Output = Result<T, RequestError>>>,
    ) -> Result<T, Status> {
        let result = match &self.span {
            None => answer.await,
            Some(span) => span.instrument(answer).await,
        };
        self.watch.end();
        let result = result.map_err(Status::from);
        if let Some(span) = self.span.take() {
            match &result {
                Ok(_) => span.end_grpc(tonic::Code::Ok.into(), None),
                Err(status) => span.end_grpc(status.code().into(), Some(status.message())),
            }
        }
        result
    }
}

/// Counts a call and its time, and whether its answer came too late: after its deadline,
/// or after the client had cancelled.
#[derive(Debug)]
struct CallWatch<'a> {
    metrics: &'a Metrics,
    counted: CountedMethod,
    started: Instant,
    timeout: Option<Duration>,
    ended: bool,
}

impl CallWatch<'_> {
    fn end(&mut self) {
        self.ended = true;
        self.metrics.count_call(self.counted, self.started.elapsed());
    }
}

impl Drop for CallWatch<'_> {
    fn drop(&mut self) {
        let cancelled = !self.ended;
        if cancelled || self.timeout.is_some_and(|timeout| timeout <= self.started.elapsed()) {
            self.metrics.count_late_answer();
        }
    }
}
