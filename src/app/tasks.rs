//! What runs at the same time, what ends it, and who is told when something
//! ends that should not.

use std::{fmt, future::Future, io};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::{AbortHandle, JoinSet},
    time,
};
use tracing::{error, info, warn};

use crate::{app::AppError, health::Health, settings::DrainSettings};

/// The signals that the process reacts to.
pub(super) struct Signals {
    /// End.
    pub(super) stop: StopSignals,
    /// Read the rules now.
    pub(super) reload: Signal,
}

/// The signals that end the process.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

/// Which signal ends the process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// An orchestrator's: it tells others too, and they need time to hear it.
    Terminate,
    /// A person's, at a terminal.
    Interrupt,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let reload = signal(SignalKind::hangup())?;
        Ok(Self { stop: StopSignals { terminate, interrupt }, reload })
    }
}

impl StopSignals {
    async fn recv(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => Stop::Terminate,
            _ = self.interrupt.recv() => Stop::Interrupt,
        }
    }
}

/// Everything that runs.
#[derive(Default)]
pub(super) struct Tasks {
    running: JoinSet<Ended>,
    background: Vec<AbortHandle>,
}

/// What has ended, without being aborted.
enum Ended {
    /// A server, on purpose only if the process is ending.
    Server(&'static str, String),
    /// A background task, which never ends on purpose.
    Background(&'static str),
}

impl Tasks {
    /// Runs a server. If it ends before it is told to, so does the process.
    pub(super) fn server<E: fmt::Display>(
        &mut self,
        name: &'static str,
        server: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        // A task of its own, so that a panic ends up here and not above.
        let server = async move { server.await.map_err(|it| it.to_string()) };
        self.running.spawn(async move {
            let why = match tokio::spawn(server).await {
                Ok(Ok(())) => return Ended::Server(name, "it has ended".into()),
                Ok(Err(why)) => why,
                Err(panic) => panic.to_string(),
            };
            error!("the {name} failed: {why}");
            Ended::Server(name, why)
        });
    }

    /// Runs something that has no end. If it ends all the same, the process
    /// goes on without it, and its health says so.
    pub(super) fn background<E: fmt::Display + Send + 'static>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<std::convert::Infallible, E>> + Send + 'static,
    ) {
        let handle = self.running.spawn(async move {
            // A set, so that the task ends with this one, and lets go of what it
            // holds.
            let mut alone = JoinSet::new();
            alone.spawn(task);
            match alone.join_next().await {
                Some(Ok(Err(error))) => error!("the {name} failed: {error}"),
                Some(Err(error)) => error!("the {name} failed: {error}"),
                None => {}
            }
            Ended::Background(name)
        });
        self.background.push(handle);
    }

    /// Like [`Self::background`] for something that ends by itself, once all that
    /// it works for has ended.
    pub(super) fn last(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.running.spawn(async move {
            if let Err(error) = tokio::spawn(task).await {
                error!("the {name} failed: {error}");
            }
            Ended::Background(name)
        });
    }

    /// Runs until a signal comes, then ends in good order: first health says
    /// no, so that clients turn away while they are still served; then the
    /// servers stop, and calls in flight have a time to finish.
    ///
    /// Of further signals one ends the wait for clients to turn away, and one the wait for
    /// calls.
    ///
    /// # Errors
    ///
    /// If a server ends before it is told to.
    pub(super) async fn run(
        mut self,
        mut signals: StopSignals,
        health: &Health,
        stop: watch::Sender<bool>,
        drain: DrainSettings,
    ) -> Result<(), AppError> {
        let reason = tokio::select! {
            failed = self.supervise(health) => return Err(failed),
            reason = signals.recv() => reason,
        };
        health.start_draining();
        if reason == Stop::Terminate && !drain.delay.is_zero() {
            info!(delay = ?drain.delay, "shutting down; still serving, and health says no");
            tokio::select! {
                failed = self.supervise(health) => return Err(failed),
                () = time::sleep(drain.delay) => {}
                _ = signals.recv() => {}
            }
        }
        info!("finishing the calls in flight");
        let _ = stop.send(true);
        self.background.iter().for_each(AbortHandle::abort);
        let done = async { while self.running.join_next().await.is_some() {} };
        tokio::select! {
            () = done => info!("done"),
            () = time::sleep(drain.timeout) => warn!("some connections did not end in time"),
            _ = signals.recv() => warn!("told twice to end; cutting connections"),
        }
        Ok(())
    }

    /// Waits for a server that ends, and says why.
    async fn supervise(&mut self, health: &Health) -> AppError {
        loop {
            match self.running.join_next().await {
                Some(Ok(Ended::Server(name, why))) => return AppError::Ended { name, why },
                Some(Ok(Ended::Background(name))) => health.task_died(name),
                // Whatever panics does so in a task of its own.
                Some(Err(_)) => health.task_died("task"),
                None => {
                    let why = "it has ended".into();
                    return AppError::Ended { name: "last task", why };
                }
            }
        }
    }
}
