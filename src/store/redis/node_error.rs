//! Errors of a call to one server.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::server_error::error_text;
use crate::store::StoreError;

#[derive(Clone, Debug)]
pub(super) enum NodeError {
    /// Another node owns the slot. The call has not been made.
    Moved { slot: u16, address: String },
    /// The slot is migrating and the key is on another node already, which serves it after an
    /// ASKING command. The call has not been made.
    Ask { address: String },
    /// The slot is migrating and the keys of the call are on two nodes. The call has not been
    /// made.
    TryAgain,
    /// The call was not sent.
    Unsent(StoreError),
    /// Any other error. The call may have been made.
    Failed(StoreError),
}

impl NodeError {
    pub(super) fn unsent(reason: String) -> Self {
        Self::Unsent(StoreError::Failed(reason))
    }

    pub(super) fn failed(reason: String) -> Self {
        Self::Failed(StoreError::Failed(reason))
    }

    /// The error of calls after the task that makes them has ended.
    pub(super) fn task_ended() -> Self {
        Self::failed("the task that sends calls to Redis has ended".into())
    }

    /// Returns true if the call may have been made despite the error.
    pub(super) const fn may_be_made(&self) -> bool {
        matches!(self, Self::Failed(_))
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
            _ => Self::Failed(StoreError::Failed(error_text(error))),
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
            NodeError::Unsent(error) | NodeError::Failed(error) => error,
        }
    }
}
