//! Records calls to Redis as children of recorded calls.

use opentelemetry::{
    KeyValue,
    trace::{Span as _, Status},
};
use opentelemetry_sdk::trace::Span;

use super::{Tracing, text::integer};
use crate::{
    limit::{Unit, Window},
    store::{Charge, Results, observe::Observer},
};

/// Creates a span for each call to Redis.
#[derive(Debug)]
pub struct RedisTracer {
    /// `None` if tracing is off.
    pub spans: Option<Tracing>,
    /// Whether limits per second are in a Redis of their own.
    pub per_second: bool,
}

/// The span of a call to Redis. If it is dropped before the call finishes, the call was
/// cancelled.
#[derive(Debug)]
pub struct RedisSpan {
    span: Span,
    finished: bool,
}

impl Drop for RedisSpan {
    fn drop(&mut self) {
        if !self.finished {
            self.span.set_status(Status::error("cancelled"));
        }
    }
}

impl Observer for RedisTracer {
    type Call<'a> = Option<RedisSpan>;

    /// The lengths are those of this call alone, although calls may share a round trip.
    fn started(&self, charges: &[Charge]) -> Option<RedisSpan> {
        let mut span = self.spans.as_ref()?.start_child("Redis Pipeline Execution")?;
        let mut per_second = 0;
        if self.per_second {
            for charge in charges {
                if charge.limit.window == Window::new(Unit::Second) {
                    per_second += 1;
                }
            }
        }
        span.set_attribute(integer("pipeline length", charges.len() - per_second));
        span.set_attribute(integer("perSecondPipeline length", per_second));
        span.set_attribute(KeyValue::new("db.system", "redis"));
        Some(RedisSpan { span, finished: false })
    }

    fn finished(&self, call: Option<RedisSpan>, results: &Results) {
        let Some(mut call) = call else { return };
        call.finished = true;
        for result in results {
            if let Err(error) = result {
                call.span.set_status(Status::error(error.to_string()));
                return;
            }
        }
    }
}
