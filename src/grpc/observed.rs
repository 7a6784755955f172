//! Counts, times and traces the calls that make decisions.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Request as Call, Response as Reply, Status};

use super::timeout;
use crate::{
    metrics::Metrics,
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
    /// Starts with the call. `statistic` is the name of the method in statistics, one of a
    /// few constants.
    pub fn start<S, M>(
        service: &'a Service<S>,
        statistic: &'static str,
        method: GrpcMethod,
        call: &Call<M>,
    ) -> Self {
        let timeout = timeout::read(call.metadata());
        let watch = CallWatch {
            metrics: &service.metrics,
            statistic,
            started: Instant::now(),
            timeout,
            ended: false,
        };
        let span = service
            .spans
            .as_ref()
            .and_then(|spans| spans.start_grpc_call(method, call.metadata().as_ref()));
        if let Some(span) = &span
            && let Some(peer) = call.remote_addr()
        {
            span.set_peer(peer);
        }
        Self { watch, span, timeout }
    }

    /// Ends with the answer.
    pub async fn answer<T>(
        self,
        answer: impl Future<Output = Result<T, RequestError>>,
    ) -> Result<Reply<T>, Status> {
        let Self { mut watch, span, timeout: _ } = self;
        let result = match &span {
            None => answer.await,
            Some(span) => span.instrument(answer).await,
        };
        watch.end();
        let result = result.map_err(Status::from);
        if let Some(span) = span {
            match &result {
                Ok(_) => span.end_grpc(tonic::Code::Ok.into(), None),
                Err(status) => span.end_grpc(status.code().into(), Some(status.message())),
            }
        }
        Ok(Reply::new(result?))
    }
}

/// Counts a call and its time, and whether its answer came too late: after its deadline,
/// or after the client had cancelled.
#[derive(Debug)]
struct CallWatch<'a> {
    metrics: &'a Metrics,
    statistic: &'static str,
    started: Instant,
    timeout: Option<Duration>,
    ended: bool,
}

impl CallWatch<'_> {
    fn end(&mut self) {
        self.ended = true;
        self.metrics.count_call(self.statistic, self.started.elapsed());
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
