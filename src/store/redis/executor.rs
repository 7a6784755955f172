//! The interface between batches and the connection that executes them.

use std::future::Future;

use super::{
    batch::{Batch, BatchPart},
    node_error::NodeError,
    replies::PartResult,
};
use crate::store::StoreError;

/// Executes batches on one server.
pub(super) trait BatchExecutor: Send + Sync + 'static {
    /// Sends the `parts` of `batch` in one round trip, once, and returns the result of each.
    /// `asking` is set after an ASK redirection: an ASKING command precedes each command.
    fn execute(
        &self,
        batch: &Batch<'_>,
        parts: &[BatchPart],
        asking: bool,
    ) -> impl Future<Output = Result<Vec<PartResult>, NodeError>> + Send;

    /// Returns once the server has replied to every command sent before, or with an error if
    /// there is no connection.
    fn ping(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}
