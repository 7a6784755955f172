//! A store around a store: it records the calls to the inner one.

use opentelemetry::{
    KeyValue,
    trace::{Span as _, Status},
};
use opentelemetry_sdk::trace::Span;

use super::{Spans, integer};
use crate::{
    limit::{Unit, Window},
    store::{Charge, Outcomes, Store, StoreError, around::Around},
    time::Timestamp,
};

/// A store of which calls are recorded that belong to a call that is.
#[derive(Debug)]
pub struct Traced<S> {
    /// The store that does the work.
    pub store: S,
    /// None if nothing is recorded.
    pub spans: Option<Spans>,
    /// Whether limits per second have a Redis of their own.
    pub per_second: bool,
}

/// A call in flight. Whoever has given up ends the call, and with it this.
struct Call {
    span: Span,
    ended: bool,
}

impl<S> Traced<S> {
    /// The counters of this call alone: its round trip may carry others as well.
    fn call(&self, charges: &[Charge]) -> Option<Call> {
        let mut span = self.spans.as_ref()?.inner("Redis Pipeline Execution")?;
        let per_second = |it: &&Charge| it.limit.window == Window::of(Unit::Second);
        let per_second =
            if self.per_second { charges.iter().filter(per_second).count() } else { 0 };
        span.set_attribute(integer("pipeline length", charges.len() - per_second));
        span.set_attribute(integer("perSecondPipeline length", per_second));
        span.set_attribute(KeyValue::new("db.system", "redis"));
        Some(Call { span, ended: false })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            self.span.set_status(Status::error("given up"));
        }
    }
}

impl<S: Store> Around for Traced<S> {
    type Inner = S;

    fn inner(&self) -> &S {
        &self.store
    }

    async fn charge_around(
        &self,
        charges: &[Charge],
        now: Timestamp,
    ) -> Result<Outcomes, StoreError> {
        let mut call = self.call(charges);
        let result = self.store.charge(charges, now).await;
        if let Some(Call { span, ended }) = &mut call {
            *ended = true;
            if let Err(error) = &result {
                span.set_status(Status::error(error.to_string()));
            }
        }
        result
    }
}
