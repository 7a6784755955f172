//! Errors of counter stores.

use std::time::Duration;

/// The reason for which a store did not return a result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No reply arrived in time. The charges may have been applied all the same.
    #[error("the counter store did not answer within {0:?}")]
    Timeout(Duration),
    /// The store cannot be reached, or returned an error.
    #[error("the counter store failed: {0}")]
    Failed(String),
    /// The store can be reached but its configuration is unsuitable, so that retries
    /// cannot help.
    #[error("the counter store cannot be used: {0}")]
    Misconfigured(String),
}

impl StoreError {
    /// The reason alone, for messages that name the store themselves.
    pub fn reason(&self) -> String {
        match self {
            Self::Failed(reason) | Self::Misconfigured(reason) => reason.clone(),
            Self::Timeout(_) => self.to_string(),
        }
    }
}

/// The reason for which a counter was not changed as an operator asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// The counter is as it was.
    #[error("{0}; nothing was changed")]
    Unchanged(StoreError),
    /// The store may have made the change all the same, or make it late.
    #[error("{0}; the counter may have been changed all the same: look at it")]
    Unknown(StoreError),
}
