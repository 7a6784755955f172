//! The signals that the service reacts to.

use std::{future, io};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use crate::reload::ReloadTrigger;

/// Signals of the system, or of a [`Remote`] in this process.
#[derive(Debug)]
pub struct Signals {
    pub(super) stop: StopSignals,
    pub(super) reload: ReloadTrigger,
}

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// From an orchestrator: other parts of the system need time to notice.
    Terminate,
    /// From a person at a terminal.
    Interrupt,
}

/// The signals that end the process.
#[derive(Debug)]
pub(super) enum StopSignals {
    System { terminate: Signal, interrupt: Signal },
    Remote(mpsc::Receiver<Stop>),
}

/// Sends signals to a service in this process. Dropping it sends none.
#[derive(Clone, Debug)]
pub struct Remote {
    stop: mpsc::Sender<Stop>,
    reload: mpsc::Sender<()>,
}

/// Signals that may wait to be handled; more have no effect.
const PENDING: usize = 4;

impl Signals {
    /// SIGTERM and SIGINT stop the service, SIGHUP reloads its rule files.
    ///
    /// # Errors
    ///
    /// If the system refuses to register a handler.
    pub fn from_system() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let stop = StopSignals::System { terminate, interrupt };
        Ok(Self { stop, reload: ReloadTrigger::Signal(signal(SignalKind::hangup())?) })
    }

    /// Signals sent by the [`Remote`].
    pub fn from_remote() -> (Remote, Self) {
        let (stop, stops) = mpsc::channel(PENDING);
        let (reload, reloads) = mpsc::channel(PENDING);
        let signals =
            Self { stop: StopSignals::Remote(stops), reload: ReloadTrigger::Channel(reloads) };
        (Remote { stop, reload }, signals)
    }
}

impl Remote {
    /// Acts as SIGTERM: drain, then stop.
    pub fn terminate(&self) {
        let _ = self.stop.try_send(Stop::Terminate);
    }

    /// Acts as SIGINT: stop without the drain delay.
    pub fn interrupt(&self) {
        let _ = self.stop.try_send(Stop::Interrupt);
    }

    /// Acts as SIGHUP: reload the rules.
    pub fn reload(&self) {
        let _ = self.reload.try_send(());
    }
}

impl StopSignals {
    pub(super) async fn recv(&mut self) -> Stop {
        match self {
            Self::System { terminate, interrupt } => tokio::select! {
                _ = terminate.recv() => Stop::Terminate,
                _ = interrupt.recv() => Stop::Interrupt,
            },
            Self::Remote(stops) => match stops.recv().await {
                Some(stop) => stop,
                None => future::pending().await,
            },
        }
    }
}
