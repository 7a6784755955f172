//! The tasks of the service: supervised while it runs, ended in order.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time,
};
use tracing::{error, info, warn};

use super::signals::{Stop, StopSignals};
use crate::{app::AppError, health::Health, service::InProgress, settings::DrainSettings};

/// All tasks. They start with [`Tasks::run`].
pub(super) struct Tasks {
    waiting: Vec<Waiting>,
    health: Arc<Health>,
    stop: watch::Sender<bool>,
    drain: DrainSettings,
    in_progress: InProgress,
}

struct Waiting {
    task: BoxFuture<'static, Ended>,
    kind: Kind,
}

/// The kinds of tasks, by the way in which they end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Ends when its clients have left; aborted if they do not.
    Server,
    /// Aborted when the servers stop.
    Background,
    /// Ends by itself.
    Last,
}

/// The time that clients have to finish their requests after the servers were asked to
/// stop, if none is being decided.
const UNFINISHED_TIMEOUT: Duration = Duration::from_millis(900);

/// The time to write the answers to the last decisions.
const WRITE_TIMEOUT: Duration = Duration::from_millis(100);

/// A task that has ended without being aborted.
enum Ended {
    /// A server. Outside of a shutdown this ends the process.
    Server { name: &'static str, why: String },
    /// A background task. Outside of a shutdown this makes the process unhealthy.
    Background { name: &'static str },
}

/// Asks servers to stop.
#[derive(Clone)]
pub(super) struct ServerStop(pub(super) watch::Receiver<bool>);

impl ServerStop {
    /// Completes when the servers have to stop.
    pub(super) async fn wait(mut self) {
        drop(self.0.wait_for(|stop| *stop).await);
    }
}

impl Tasks {
    pub(super) fn new(
        health: Arc<Health>,
        stop: watch::Sender<bool>,
        drain: DrainSettings,
        in_progress: InProgress,
    ) -> Self {
        Self { waiting: Vec::new(), health, stop, drain, in_progress }
    }

    /// Adds a server. If it ends before it is asked to stop, the process ends.
    pub(super) fn server<E: fmt::Display>(
        &mut self,
        name: &'static str,
        server: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let server = async move { server.await.map_err(|error| error.to_string()) };
        self.add(Kind::Server, async move {
            let why = match run_alone(server).await {
                Ok(Ok(())) => return Ended::Server { name, why: "it has ended".into() },
                Ok(Err(why)) => why,
                Err(panic) => panic,
            };
            error!("the {name} failed: {why}");
            Ended::Server { name, why }
        });
    }

    /// Adds a task without an end. If it ends, the process goes on, unhealthy.
    pub(super) fn background<E: fmt::Display + Send + 'static>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<Infallible, E>> + Send + 'static,
    ) {
        self.add(Kind::Background, async move {
            match run_alone(task).await {
                Ok(Err(error)) => error!("the {name} failed: {error}"),
                Err(panic) => error!("the {name} failed: {panic}"),
            }
            Ended::Background { name }
        });
    }

    /// Adds a task that ends by itself, after the tasks that it serves.
    pub(super) fn last(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.add(Kind::Last, async move {
            if let Err(panic) = run_alone(task).await {
                error!("the {name} failed: {panic}");
            }
            Ended::Background { name }
        });
    }

    fn add(&mut self, kind: Kind, task: impl Future<Output = Ended> + Send + 'static) {
        self.waiting.push(Waiting { task: Box::pin(task), kind });
    }

    /// Runs until a signal, then shuts down in order: health checks fail while the
    /// servers still serve, so that clients leave; then the servers stop, and calls
    /// in flight have a bounded time to finish: the drain timeout if they are being
    /// decided, and a second if their clients have not finished them.
    ///
    /// A second signal ends the wait for clients, a third one the wait for calls.
    ///
    /// # Errors
    ///
    /// If a server ends before the shutdown.
    pub(super) async fn run(self, mut signals: StopSignals) -> Result<(), AppError> {
        let Self { waiting, health, stop, drain, in_progress } = self;
        let mut running = Running::start(waiting);
        let reason = tokio::select! {
            failed = running.supervise(&health) => return Err(failed),
            reason = signals.recv() => reason,
        };
        health.start_draining();
        if reason == Stop::Terminate && !drain.delay.is_zero() {
            let delay = drain.delay;
            info!(?delay, "shutting down: health checks fail from now on, still serving");
            tokio::select! {
                failed = running.supervise(&health) => return Err(failed),
                () = time::sleep(delay) => {}
                _ = signals.recv() => {}
            }
        }
        info!("finishing the calls in flight");
        let _ = stop.send(true);
        for handle in &running.background {
            handle.abort();
        }
        tokio::select! {
            () = running.end(&in_progress) => info!("shut down"),
            () = time::sleep(drain.timeout) => {
                warn!("closing connections with unfinished calls after {:?}", drain.timeout);
            }
            _ = signals.recv() => warn!("another signal: closing all connections now"),
        }
        Ok(())
    }
}

/// Runs a part of a task in a task of its own, to catch a panic. A set, because its end
/// with the outer task aborts the inner one.
async fn run_alone<T: Send + 'static>(
    part: impl Future<Output = T> + Send + 'static,
) -> Result<T, String> {
    let mut inner = JoinSet::new();
    inner.spawn(part);
    match inner.join_next().await {
        Some(Ok(result)) => Ok(result),
        Some(Err(panic)) => Err(panic.to_string()),
        None => Err("it did not run".to_owned()),
    }
}

struct Running {
    tasks: JoinSet<Ended>,
    background: Vec<AbortHandle>,
    servers: Vec<AbortHandle>,
}

impl Running {
    fn start(waiting: Vec<Waiting>) -> Self {
        let mut running =
            Self { tasks: JoinSet::new(), background: Vec::new(), servers: Vec::new() };
        for Waiting { task, kind } in waiting {
            let handle = running.tasks.spawn(task);
            match kind {
                Kind::Server => running.servers.push(handle),
                Kind::Background => running.background.push(handle),
                Kind::Last => {}
            }
        }
        running
    }

    /// Returns when a server ends.
    async fn supervise(&mut self, health: &Health) -> AppError {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Ended::Server { name, why })) => return AppError::Ended { name, why },
                Some(Ok(Ended::Background { name })) => health.task_died(name),
                // Unexpected: each task catches the panics of its work.
                Some(Err(_)) => health.task_died("task"),
                None => {
                    let why = "it has ended".into();
                    return AppError::Ended { name: "last task", why };
                }
            }
        }
    }

    /// Waits for the end of all tasks. Servers are aborted if only their clients keep them:
    /// by streams without an end, or requests of which a part is missing.
    async fn end(&mut self, in_progress: &InProgress) {
        tokio::select! {
            () = self.all_ended() => return,
            () = abandoned(in_progress) => {}
        }
        info!("closing connections whose clients have not finished their requests");
        for server in &self.servers {
            server.abort();
        }
        self.all_ended().await;
    }

    async fn all_ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Completes when clients have had time to finish their requests and no request is being
/// decided.
async fn abandoned(in_progress: &InProgress) {
    loop {
        time::sleep(UNFINISHED_TIMEOUT).await;
        if in_progress.is_empty() {
            break;
        }
    }
    time::sleep(WRITE_TIMEOUT).await;
}
