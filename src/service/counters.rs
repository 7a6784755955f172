//! Operations of operators on counters, for any protocol: checks, counts and logs them.

use std::time::Duration;

use super::Service;
use crate::{
    decision_log::CounterAudit,
    descriptor::{Request, invalid::InvalidRequest},
    engine::counters::{ChangeOrder, CounterReport, CountersError},
    metrics::CounterOperation,
    store::{CounterChange, Counters, Store},
};

/// Why no counter was looked at or changed.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The request is invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The request is valid, but does not tell which counter to change, or no rules are loaded.
    #[error(transparent)]
    Counters(#[from] CountersError),
}

impl<S: Store + Counters> Service<S> {
    /// Looks at the counters of `request`: see [`Engine::look`](crate::engine::Engine::look).
    ///
    /// # Errors
    ///
    /// If the request is invalid, or if no rules are loaded.
    pub async fn look_at_counters(
        &self,
        request: &Request,
        timeout: Option<Duration>,
    ) -> Result<CounterReport, OperationError> {
        request.validate(self.max_descriptors)?;
        let report = self.engine.look(request, timeout).await?;
        for status in report.counters() {
            self.metrics.count_counter_operation(CounterOperation::Look, status.found.is_ok());
        }
        Ok(report)
    }

    /// Changes counters of `request`: see [`Engine::change`](crate::engine::Engine::change).
    /// The log has a line for each counter, also if the caller leaves before the end.
    ///
    /// # Errors
    ///
    /// If the request is invalid, if no rules are loaded, or if the target is not a limit that
    /// can be changed so. Then nothing was changed.
    pub async fn change_counters(
        &self,
        request: &Request,
        order: ChangeOrder<'_>,
        timeout: Option<Duration>,
    ) -> Result<CounterReport, OperationError> {
        request.validate(self.max_descriptors)?;
        let ChangeOrder { target, change, .. } = order;
        let audit = CounterAudit::new(request, order);
        let report = match self.engine.change(request, target, change, timeout).await {
            Ok(report) => report,
            Err(error) => {
                audit.rejected();
                return Err(error.into());
            }
        };
        let operation = match change {
            CounterChange::Reset => CounterOperation::Reset,
            CounterChange::Set(_) => CounterOperation::Set,
        };
        for changed in report.counters().filter_map(|status| status.changed.as_ref()) {
            self.metrics.count_counter_operation(operation, changed.is_ok());
        }
        audit.finish(&report);
        Ok(report)
    }
}

#[cfg(test)]
mod tests;
