//! Counters in two Redis: one for limits per second, one for all others.

use std::{cmp::Ordering, sync::Arc};

use tokio::{join, select};

use super::{Redis, RedisSettings, apart};
use crate::{
    limit::{Unit, Window},
    store::{Charge, Outcomes, Pools, Store, StoreError, partly::Partly},
    time::Timestamp,
};

/// Counters in Redis, those of limits per second perhaps in another one: they are
/// many, and need not be kept anywhere but in memory.
#[derive(Clone, Debug)]
pub struct Split {
    main: Arc<Redis>,
    per_second: Option<Arc<Redis>>,
}

impl Split {
    /// See [`Redis::new`].
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn new(main: &RedisSettings, per_second: Option<&RedisSettings>) -> Self {
        let new = |it| Arc::new(Redis::new(it));
        Self { main: new(main), per_second: per_second.map(new) }
    }
}

fn is_per_second(charge: &Charge) -> bool {
    charge.limit.window == Window::of(Unit::Second)
}

/// Makes `charges`, each where it belongs, at the same time.
async fn both(
    main: &Redis,
    per_second: &Redis,
    charges: &[Charge],
    now: Timestamp,
) -> Result<Outcomes, StoreError> {
    let part = |wanted: bool| -> Vec<_> {
        charges.iter().filter(|it| is_per_second(it) == wanted).cloned().collect()
    };
    let (theirs, ours) = (part(false), part(true));
    let made = join!(main.charge(&theirs, now), per_second.charge(&ours, now));
    let mut all = Partly::default();
    all.push(made.0, theirs.len());
    all.push(made.1, ours.len());
    let (mut theirs, mut ours) = (0.., theirs.len()..);
    let places = charges.iter().filter_map(|it| match is_per_second(it) {
        true => ours.next(),
        false => theirs.next(),
    });
    all.in_order(places).result()
}

impl Store for Split {
    async fn charge(&self, charges: &[Charge], now: Timestamp) -> Result<Outcomes, StoreError> {
        let Some(per_second) = &self.per_second else {
            return self.main.charge(charges, now).await;
        };
        let count = charges.iter().filter(|it| is_per_second(it)).count();
        match (count, count.cmp(&charges.len())) {
            (0, _) => return self.main.charge(charges, now).await,
            (_, Ordering::Equal) => return per_second.charge(charges, now).await,
            _ => {}
        }
        if apart::is_decided(charges) {
            return both(&self.main, per_second, charges, now).await;
        }
        let make = |it: Vec<_>| async move { both(&self.main, per_second, &it, now).await };
        apart::reserve(charges, make).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        match &self.per_second {
            None => self.main.ping().await,
            Some(per_second) => {
                let (main, per_second) = join!(self.main.ping(), per_second.ping());
                main.and(per_second)
            }
        }
    }

    async fn died(&self) {
        match &self.per_second {
            None => self.main.died().await,
            Some(per_second) => select! {
                () = self.main.died() => {}
                () = per_second.died() => {}
            },
        }
    }

    fn pools(&self) -> Pools {
        let per_second = self.per_second.as_ref().map(|it| it.usage());
        Pools { main: Some(self.main.usage()), per_second }
    }
}
