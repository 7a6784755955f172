//! One request and its answer, whose bytes count in the budget for calls in flight.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody},
    extract::FromRequest,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tokio::{sync::Semaphore, task, time::timeout};

use super::{
    problem::Problem,
    state::{Admin, OPERATION_TIMEOUT},
    tokens::Actor,
};
use crate::{
    budget::{CALL_BYTES, Held, ReadError, ReadLimits, Reader, Share},
    descriptor::Request,
    engine::DecideError,
    http::server::Arrived,
    json,
};

/// The most bytes of a body.
const MOST_BYTES: usize = 1 << 20;

/// The time for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A request that the gate has admitted.
pub(super) struct Exchange {
    pub(super) admin: Arc<Admin>,
    pub(super) actor: Actor,
    share: Arc<Share>,
    body: Body,
}

impl FromRequest<Arc<Admin>> for Exchange {
    type Rejection = Problem;

    async fn from_request(
        mut request: axum::extract::Request,
        admin: &Arc<Admin>,
    ) -> Result<Self, Problem> {
        let arrived = request.extensions_mut().remove::<Arrived>();
        let Some(Arrived { share, .. }) = arrived else {
            return Err(Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "/problems/internal",
                "the connection has no share of the memory",
            ));
        };
        let actor = request.extensions_mut().remove().unwrap_or_default();
        let admin = Arc::clone(admin);
        Ok(Self { admin, actor, share, body: request.into_body() })
    }
}

impl Exchange {
    /// Computes an answer on a thread of its own, and sends it as JSON.
    pub(super) async fn compute<T: Serialize + Send + 'static>(
        self,
        compute: impl FnOnce(&Admin) -> Result<T, Problem> + Send + 'static,
    ) -> Response {
        let held = match self.hold() {
            Ok(held) => held,
            Err(problem) => return problem.into_response(),
        };
        let admin = Arc::clone(&self.admin);
        let text = run(&self.admin.turns, move || Ok(to_json(&compute(&admin)?))).await;
        match text {
            Ok(text) => send(held, text),
            Err(problem) => problem.into_response(),
        }
    }

    /// Sends an answer as JSON.
    pub(super) fn send<T: Serialize>(&self, answer: &T) -> Response {
        self.send_text(to_json(answer))
    }

    /// Sends an answer that is JSON already.
    pub(super) fn send_text(&self, text: String) -> Response {
        match self.hold() {
            Ok(held) => send(held, text),
            Err(problem) => problem.into_response(),
        }
    }

    /// Reads a body like that of a request to `/json`.
    pub(super) async fn read_call(&mut self) -> Result<Request, Problem> {
        let body = std::mem::take(&mut self.body);
        if body.size_hint().lower() > MOST_BYTES as u64 {
            return Err(body_problem(&ReadError::TooLong));
        }
        let limits = ReadLimits { longest: MOST_BYTES, patience: BODY_TIMEOUT };
        let reader = Reader::of_lazy(body.into_data_stream(), limits, self.hold()?);
        let body = reader.read().await.map_err(|error| body_problem(&error))?;
        let request = json::decode(&body.bytes).map_err(Problem::bad_request)?;
        let most = self.admin.max_descriptors;
        request.validate(most).map_err(|invalid| Problem::bad_request(invalid.to_string()))?;
        Ok(request)
    }

    fn hold(&self) -> Result<Held, Problem> {
        let held = self.share.hold(CALL_BYTES, false);
        held.map_err(|error| Problem::unavailable("/problems/no-memory", error.to_string()))
    }
}

/// Runs `work` once one of the few turns is free, off the threads that decide.
async fn run<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let turns = Arc::clone(turns);
    let working = async move {
        // Nobody closes it.
        let turn = turns.acquire_owned().await.ok();
        task::spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        })
        .await
    };
    match timeout(OPERATION_TIMEOUT, working).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "/problems/internal",
            "the operation failed; the log has the reason",
        )),
        Err(_) => Err(late()),
    }
}

/// No rules are loaded.
pub(super) fn no_rules() -> Problem {
    Problem::unavailable("/problems/no-rules", DecideError::NoRules.to_string())
}

/// The request has no decision.
pub(super) fn undecided(error: &DecideError) -> Problem {
    match error {
        DecideError::NoRules => no_rules(),
        DecideError::Store(error) => Problem::unavailable("/problems/store", error.to_string()),
    }
}

/// The operation took too long.
fn late() -> Problem {
    let detail = format!("the operation did not end within {OPERATION_TIMEOUT:?}");
    Problem::unavailable("/problems/late", detail)
}

fn to_json<T: Serialize>(answer: &T) -> String {
    // Text, numbers and lists alone, which JSON can hold.
    serde_json::to_string(answer).unwrap_or_default()
}

fn send(held: Held, text: String) -> Response {
    match held.attach(text) {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => {
            Problem::unavailable("/problems/no-memory", error.to_string()).into_response()
        }
    }
}

fn body_problem(error: &ReadError) -> Problem {
    match error {
        ReadError::TooLong => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "/problems/too-large",
            format!("expected a body of at most {MOST_BYTES} bytes"),
        ),
        ReadError::NoRoom(_) => Problem::unavailable("/problems/no-memory", error.to_string()),
        ReadError::Late => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "/problems/late-body",
            format!("expected the whole body within {BODY_TIMEOUT:?}"),
        ),
        ReadError::Cancelled => Problem::bad_request(error.to_string()),
    }
}
