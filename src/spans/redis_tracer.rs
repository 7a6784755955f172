//! Calls to Redis that belong to a call that is recorded.

use opentelemetry::{
    KeyValue,
    trace::{Span as _, Status},
};
use opentelemetry_sdk::trace::Span;

use super::{Tracing, integer};
use crate::{
    limit::{Unit, Window},
    store::{Charge, Results, observe::Observer},
};

/// Records calls to Redis.
#[derive(Debug)]
pub struct RedisTracer {
    /// None if nothing is recorded.
    pub spans: Option<Tracing>,
    /// Whether limits per second have a Redis of their own.
    pub per_second: bool,
}

/// A call in flight. Whoever has given up ends the call, and with it this.
#[derive(Debug)]
pub struct RedisSpan {
    span: Span,
    ended: bool,
}

impl Drop for RedisSpan {
    fn drop(&mut self) {
        if !self.ended {
            self.span.set_status(Status::error("given up"));
        }
    }
}

impl Observer for RedisTracer {
    type Call<'a> = Option<RedisSpan>;

    /// The counters of this call alone: its round trip may carry others as well.
    fn started(&self, charges: &[Charge]) -> Option<RedisSpan> {
        let mut span = self.spans.as_ref()?.inner("Redis Pipeline Execution")?;
        let per_second = |it: &&Charge| it.limit.window == Window::new(Unit::Second);
        let per_second =
            if self.per_second { charges.iter().filter(per_second).count() } else { 0 };
        span.set_attribute(integer("pipeline length", charges.len() - per_second));
        span.set_attribute(integer("perSecondPipeline length", per_second));
        span.set_attribute(KeyValue::new("db.system", "redis"));
        Some(RedisSpan { span, ended: false })
    }

    fn finished(&self, call: Option<RedisSpan>, results: &Results) {
        let Some(mut call) = call else { return };
        call.ended = true;
        if let Some(error) = results.iter().find_map(|it| it.as_ref().err()) {
            call.span.set_status(Status::error(error.to_string()));
        }
    }
}
