//! One server.

use std::{sync::Arc, time::Duration};

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};

use super::{
    batch::Batches, complaints::words, connection::Connection, probe, settings::RedisSettings,
    target::Target, traffic::Traffic,
};
use crate::{
    store::{Charge, Outcomes, StoreError},
    time::Timestamp,
};

/// One server, which may be one of several.
#[derive(Debug)]
pub(super) struct Node {
    connection: Arc<Connection>,
    batches: Batches,
    timeout: Duration,
}

/// Why a server has not made a call.
#[derive(Clone, Debug)]
pub(super) enum NodeError {
    /// Another serves the slot now. Nothing was made.
    Moved { slot: u16, address: String },
    /// Another serves this key already, once [asked](Node::charge) to. Nothing
    /// was made.
    Ask { address: String },
    /// The keys of the call are on two servers for now. Nothing was made.
    TryAgain,
    /// All else.
    Failed(StoreError),
}

impl Node {
    /// Begins to connect, to one of a cluster if `cluster`. Needs a Tokio runtime.
    pub(super) fn new(
        target: Target,
        settings: &RedisSettings,
        cluster: bool,
        traffic: &Traffic,
    ) -> Self {
        let &RedisSettings { timeout, jitter, .. } = settings;
        let connection = Arc::new(Connection::new(target, timeout, traffic.clone()));
        let batches = Batches::new(Arc::clone(&connection), timeout, jitter, cluster);
        Self { connection, batches, timeout }
    }

    /// Makes a call, once. In a cluster all keys of it are in one slot, and
    /// there is one charge unless the charges depend on each other. `asking`
    /// says that another server sent it here with [`NodeError::Ask`].
    pub(super) async fn charge(
        &self,
        charges: &[Charge],
        now: Timestamp,
        asking: bool,
    ) -> Result<Outcomes, NodeError> {
        let call = async {
            if asking {
                self.batches.asked(charges, now).await
            } else {
                self.batches.call(charges, now).await
            }
        };
        let late = || NodeError::Failed(StoreError::Timeout(self.timeout));
        self.connection.pulse().within(self.timeout, call).await.ok_or_else(late)?
    }

    /// What the server answers to `command`, which changes nothing.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, NodeError> {
        let ask = async {
            let link = self.connection.link().await.map_err(NodeError::Failed)?;
            link.send(command).await.map_err(|error| NodeError::from(&error))
        };
        let late = || NodeError::Failed(StoreError::Timeout(self.timeout));
        self.connection.pulse().within(self.timeout, ask).await.ok_or_else(late)?
    }

    /// Whether it can decide, of which a counter called `key` is the proof.
    pub(super) async fn decides(&self, key: &str) -> Result<(), NodeError> {
        for command in probe::decisions(key) {
            self.ask(&command).await?;
        }
        Ok(())
    }

    /// Ends when a task that it needs has ended.
    pub(super) async fn died(&self) {
        tokio::select! {
            () = self.connection.abandoned() => {}
            () = self.batches.abandoned() => {}
        }
    }
}

impl Node {
    /// Whether a task that it needs has ended.
    pub(super) fn is_dead(&self) -> bool {
        self.connection.is_dead() || self.batches.is_dead()
    }

    /// How many calls wait for others.
    pub(super) fn waiting(&self) -> u64 {
        self.batches.waiting()
    }

    /// Whether it does not answer, and calls are refused until it does.
    pub(super) fn is_silent(&self) -> bool {
        self.batches.is_silent()
    }
}

impl From<&RedisError> for NodeError {
    fn from(error: &RedisError) -> Self {
        match (error.kind(), error.redirect_node()) {
            (ErrorKind::Server(ServerErrorKind::Moved), Some((address, slot))) => {
                Self::Moved { slot, address: address.to_owned() }
            }
            (ErrorKind::Server(ServerErrorKind::Ask), Some((address, _))) => {
                Self::Ask { address: address.to_owned() }
            }
            (ErrorKind::Server(ServerErrorKind::TryAgain), _) => Self::TryAgain,
            _ => Self::Failed(StoreError::Failed(words(error))),
        }
    }
}

impl From<StoreError> for NodeError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl From<NodeError> for StoreError {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Moved { slot, address } => {
                Self::Failed(format!("slot {slot} has moved to {address}"))
            }
            NodeError::Ask { address } => Self::Failed(format!("the counter moves to {address}")),
            NodeError::TryAgain => Self::Failed("the counters of the call are moving".into()),
            NodeError::Failed(error) => error,
        }
    }
}
