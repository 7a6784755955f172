//! Stores around stores.

use std::future::Future;

use super::{Charge, DenyCacheUsage, Outcomes, Pools, Store, StoreError, Usage};
use crate::time::Timestamp;

/// A store that does something about charges, and leaves all else to another.
/// Whatever implements this is a [`Store`].
pub trait Around: Send + Sync + 'static {
    /// The kind of the other.
    type Inner: Store;

    /// The other.
    fn inner(&self) -> &Self::Inner;

    /// See [`Store::charge`].
    ///
    /// # Errors
    ///
    /// As there.
    fn charge_around(
        &self,
        charges: &[Charge],
        now: Timestamp,
    ) -> impl Future<Output = Result<Outcomes, StoreError>> + Send;

    /// What its own remembering of refusals has come to, if it does.
    fn own_deny_cache(&self) -> Option<DenyCacheUsage> {
        None
    }
}

impl<S: Around> Store for S {
    fn charge(
        &self,
        charges: &[Charge],
        now: Timestamp,
    ) -> impl Future<Output = Result<Outcomes, StoreError>> + Send {
        self.charge_around(charges, now)
    }

    fn ping(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.inner().ping()
    }

    fn died(&self) -> impl Future<Output = ()> + Send {
        self.inner().died()
    }

    fn usage(&self) -> Option<Usage> {
        self.inner().usage()
    }

    fn deny_cache(&self) -> Option<DenyCacheUsage> {
        self.own_deny_cache().or_else(|| self.inner().deny_cache())
    }

    fn pools(&self) -> Pools {
        self.inner().pools()
    }
}
