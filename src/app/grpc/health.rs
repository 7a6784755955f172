//! Health by gRPC.

use std::{sync::Arc, time::Instant};

use futures_util::{StreamExt, future, stream::BoxStream};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{self, HealthServer},
};

use crate::{health::HealthState, metrics::Metrics};

/// The names by which health is asked for: of the process, and of the service
/// as Envoy's reference service calls it.
const NAMES: [&str; 2] = ["", "ratelimit"];

/// What is known of the health of the process, and whether it is ending.
struct Probes {
    metrics: Arc<Metrics>,
    health: watch::Receiver<HealthState>,
    stop: watch::Receiver<bool>,
}

/// Tells of `health`. Whoever watches it is let go once `stop` says so: nobody
/// else would end such a call, and it would hold the exit open.
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

#[tonic::async_trait]
impl health_server::Health for Probes {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let started = Instant::now();
        let answer = match NAMES.contains(&&*request.get_ref().service) {
            true => Ok(Response::new(response(status(&self.health.borrow())))),
            false => Err(Status::not_found("unknown service")),
        };
        self.metrics.count_call("Check", started.elapsed());
        answer
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    /// Who watches an unknown name is told so, and kept, as the protocol demands:
    /// the service may come to be known.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = NAMES.contains(&&*request.get_ref().service);
        let told = move |state| if known { status(&state) } else { ServingStatus::ServiceUnknown };
        let mut last = None;
        let news = move |status| {
            let is_new = last.replace(status) != Some(status);
            future::ready(is_new.then(|| Ok(response(status))))
        };
        let mut stop = self.stop.clone();
        let end = async move { drop(stop.wait_for(|it| *it).await) };
        let states = WatchStream::new(self.health.clone());
        Ok(Response::new(states.map(told).filter_map(news).take_until(Box::pin(end)).boxed()))
    }
}
