//! The servers that keep the counters, as the dispatcher sees them.

use std::{future::Future, sync::Arc, time::Duration};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{
    call::{Call, CallResult},
    limits::{MAX_DEPENDENT_CHARGES, MAX_REQUEST_COST_IN_FLIGHT},
    run_clock::RunClock,
    settler::SendSettlement,
};
use crate::store::Charge;

/// The location of a counter. One script run can change all counters of a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CounterLocation {
    /// Set for a counter in the Redis for per-second limits.
    pub(super) per_second: bool,
    /// The slot in a cluster, else 0.
    pub(super) slot: u16,
}

pub(super) trait Servers: Send + Sync + 'static {
    fn locate(&self, charge: &Charge) -> CounterLocation;

    /// The number of the server that currently owns `location`. May be out of date.
    fn owner(&self, location: CounterLocation) -> u32;

    /// Returns true if independent charges to different counters at `location` are separate
    /// calls, which share round trips with the other calls to their server.
    fn splits_by_counter(&self, location: CounterLocation) -> bool;

    /// Sends a call whose charges are all at `location`, and waits for its result until the
    /// deadline.
    fn send(
        &self,
        location: CounterLocation,
        call: &Arc<Call>,
        deadline: Instant,
    ) -> impl Future<Output = CallResult> + Send;

    /// The timeout of a call.
    fn timeout(&self) -> Duration;

    /// The clock of the time for which this process has run.
    fn run_clock(&self) -> &RunClock;

    fn max_cost_in_flight(&self) -> usize {
        MAX_REQUEST_COST_IN_FLIGHT
    }

    fn max_dependent_charges(&self) -> usize {
        MAX_DEPENDENT_CHARGES
    }
}

impl<S: Servers> SendSettlement for S {
    async fn send_settlement(&self, call: &Arc<Call>, deadline: Instant) -> CallResult {
        let Some(charge) = call.charges.first() else { return Ok(SmallVec::new()) };
        let deadline = deadline.min(Instant::now() + self.timeout());
        self.send(self.locate(charge), call, deadline).await
    }
}
