//! What was taken ahead and is not spent goes back when the process ends.

use std::{cmp::Reverse, time::Duration};

use tokio::time::timeout;
use tracing::{info, warn};

use super::{lease::QuotaLease, leases::QuotaLeases};
use crate::{
    counter::{CounterKey, CounterRef},
    limit::Hits,
    store::{Charge, Consume, Enforced, OnTimeout, Store, StoreError},
    time::Timestamp,
};

/// How long it may take.
const LONGEST: Duration = Duration::from_secs(2);
/// How many counters are given back in one call.
const BATCH: usize = 64;

impl QuotaLeases {
    /// Gives back to `store` what was taken ahead and has not been spent, except in
    /// windows that have ended. Nothing is taken ahead from now on.
    ///
    /// It takes at most 2 s. What cannot be given back until then counts as used
    /// until its window ends.
    pub async fn refund_unused(&self, store: &impl Store, now: Timestamp) {
        let mut leases = self.end(now);
        // The time may not suffice for all.
        leases.sort_by_key(|(_, it)| Reverse(it.unused()));
        let (all, hits) = (leases.len(), leases.iter().map(|(_, it)| it.unused()).sum::<u64>());
        let mut left = Left { counters: all, hits, why: None };
        if timeout(LONGEST, left.refund_unused(leases, store, now)).await.is_err() {
            left.why = Some(StoreError::Timeout(LONGEST));
        }
        let Left { counters, hits: lost, why } = left;
        if let Some(why) = why {
            warn!(
                "{lost} hits of {counters} counters count as used until their windows end: this \
                 instance had taken them ahead, did not need them and could not give them back: \
                 {why}"
            );
        }
        if counters < all {
            let (hits, counters) = (hits - lost, all - counters);
            info!("gave back {hits} hits of {counters} counters that were taken ahead");
        }
    }
}

/// What has not been given back.
struct Left {
    counters: usize,
    hits: u64,
    why: Option<StoreError>,
}

impl Left {
    async fn refund_unused(
        &mut self,
        leases: Vec<(CounterKey, QuotaLease)>,
        store: &impl Store,
        now: Timestamp,
    ) {
        let charges: Vec<_> = leases.into_iter().map(refund).collect();
        for batch in charges.chunks(BATCH) {
            let results = store.charge(batch, now, None).await;
            for (charge, result) in batch.iter().zip(results) {
                match result {
                    Ok(_) => {
                        self.counters -= 1;
                        self.hits -= refunded(charge);
                    }
                    Err(error) => self.why = Some(error),
                }
            }
        }
    }
}

fn refund((key, lease): (CounterKey, QuotaLease)) -> Charge {
    let hits = Hits::Refund(lease.unused());
    let counter = CounterRef { key, span: lease.span };
    Charge {
        counter,
        limit: lease.limit,
        hits,
        consume: Consume::Independent,
        enforced: Enforced::No,
        refused: false,
        on_timeout: OnTimeout::Fail,
    }
}

fn refunded(charge: &Charge) -> u64 {
    match charge.hits {
        Hits::Refund(hits) => hits,
        Hits::Add(_) => 0,
    }
}
