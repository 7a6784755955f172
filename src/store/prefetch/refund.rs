//! Refunds of unspent hits on shutdown.

use std::{cmp::Reverse, time::Duration};

use tokio::time::timeout;
use tracing::{info, warn};

use super::{
    lease::QuotaLease,
    leases::{QuotaLeases, ReturnedLease},
};
use crate::{
    counter::CounterRef,
    limit::Hits,
    store::{Charge, Consume, Enforced, OnTimeout, Store, StoreError},
    time::Timestamp,
};

const TIMEOUT: Duration = Duration::from_secs(2);
/// The number of counters refunded in one store call.
const BATCH: usize = 64;

impl QuotaLeases {
    /// Refunds the unspent hits of all leases to `store`, except those of windows that
    /// have ended. From now on nothing is prefetched.
    ///
    /// Takes at most 2 s. Hits not refunded by then count as used until their window ends.
    pub async fn refund_unused(&self, store: &impl Store, now: Timestamp) {
        let mut leases = self.close(now);
        // The largest first, in case the time is too short for all.
        leases.sort_by_key(|returned| Reverse(returned.lease.unused()));
        let mut remaining = Remaining { counters: leases.len(), hits: 0, error: None };
        for returned in &leases {
            remaining.hits += returned.lease.unused();
        }
        let (counters, hits) = (remaining.counters, remaining.hits);
        if timeout(TIMEOUT, remaining.refund(leases, store, now)).await.is_err() {
            remaining.error = Some(StoreError::Timeout(TIMEOUT));
        }
        let refunded = counters - remaining.counters;
        if let Some(error) = remaining.error {
            warn!(
                "could not refund {} unused prefetched hits of {} counters, which count as used \
                 until their windows end: {error}",
                remaining.hits, remaining.counters
            );
        }
        if 0 < refunded {
            let hits = hits - remaining.hits;
            info!("refunded {hits} unused prefetched hits of {refunded} counters");
        }
    }
}

/// The refunds that have not succeeded yet.
struct Remaining {
    counters: usize,
    hits: u64,
    error: Option<StoreError>,
}

impl Remaining {
    async fn refund(&mut self, leases: Vec<ReturnedLease>, store: &impl Store, now: Timestamp) {
        for batch in leases.chunks(BATCH) {
            let charges: Vec<_> = batch.iter().map(refund_charge).collect();
            let results = store.charge(&charges, now, None).await;
            for (returned, result) in batch.iter().zip(results) {
                match result {
                    Ok(_) => {
                        self.counters -= 1;
                        self.hits -= returned.lease.unused();
                    }
                    Err(error) => self.error = Some(error),
                }
            }
        }
    }
}

fn refund_charge(ReturnedLease { key, lease }: &ReturnedLease) -> Charge {
    let QuotaLease { span, limit, .. } = lease;
    Charge {
        counter: CounterRef { key: key.clone(), span: *span },
        limit: limit.clone(),
        hits: Hits::Refund(lease.unused()),
        consume: Consume::Independent,
        enforced: Enforced::No,
        refused: false,
        on_timeout: OnTimeout::Fail,
    }
}
