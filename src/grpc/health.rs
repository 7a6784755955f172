//! The gRPC health protocol.

use std::sync::Arc;

use futures_util::{StreamExt, stream::BoxStream};
use tokio::{sync::watch, time::Instant};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};

use super::pb::grpc::health::v1::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
    health_check_response::ServingStatus,
    health_server::{self, HealthServer},
};
use crate::{
    health::HealthState,
    metrics::{CountedMethod, Metrics},
};

/// The services with a health state: the process, the name that the reference service uses,
/// and the external authorization.
const NAMES: [&str; 3] = ["", "ratelimit", "envoy.service.auth.v3.Authorization"];

/// The health of the process.
struct Probes {
    metrics: Arc<Metrics>,
    health: watch::Receiver<HealthState>,
    stop: watch::Receiver<bool>,
}

/// Serves `health`. Watches end when `stop` becomes true, because their clients
/// would hold the exit open.
pub(super) fn server(
    metrics: Arc<Metrics>,
    health: watch::Receiver<HealthState>,
    stop: watch::Receiver<bool>,
) -> HealthServer<impl health_server::Health> {
    HealthServer::new(Probes { metrics, health, stop })
}

fn status(state: &HealthState) -> ServingStatus {
    if state.is_healthy() { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn is_known(request: &Request<HealthCheckRequest>) -> bool {
    NAMES.contains(&request.get_ref().service.as_str())
}

#[tonic::async_trait]
impl health_server::Health for Probes {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let started = Instant::now();
        let answer = if is_known(&request) {
            Ok(Response::new(response(status(&self.health.borrow()))))
        } else {
            Err(Status::not_found("unknown service"))
        };
        self.metrics.count_call(CountedMethod::HealthCheck, started.elapsed());
        answer
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let started = Instant::now();
        let status = response(status(&self.health.borrow()));
        let statuses = NAMES.map(|name| (name.to_owned(), status)).into();
        self.metrics.count_call(CountedMethod::HealthList, started.elapsed());
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    /// A watch of an unknown name gets `SERVICE_UNKNOWN` and stays open, as the
    /// protocol specifies.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = is_known(&request);
        let mut last = None;
        let changes = WatchStream::new(self.health.clone()).filter_map(move |state| {
            let status = if known { status(&state) } else { ServingStatus::ServiceUnknown };
            let changed = last.replace(status) != Some(status);
            std::future::ready(if changed { Some(Ok(response(status))) } else { None })
        });
        let mut stop = self.stop.clone();
        let end = async move { drop(stop.wait_for(|stop| *stop).await) };
        Ok(Response::new(changes.take_until(Box::pin(end)).boxed()))
    }
}
