//! The entry point of the fuzz target for trace headers.

use axum::http::HeaderMap;

use super::parent::{Parent, ParentSampling};

/// The trace context of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The IDs; `None` if the headers contain no valid ones.
    pub ids: Option<TraceIds>,
    /// The sampling decision of the client; `None` if it leaves the decision to the service.
    pub record: Option<bool>,
    /// The `tracestate`; empty if the headers contain none.
    pub state: String,
}

/// The IDs of the client's span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceIds {
    /// 32 hexadecimal digits.
    pub trace: String,
    /// 16 hexadecimal digits.
    pub span: String,
    /// The flag of W3C Trace Context.
    pub is_sampled: bool,
}

/// Reads the trace context of a request with these headers.
pub fn read(headers: &HeaderMap) -> TraceParent {
    let Parent { span, sampling } = Parent::from_headers(headers);
    let record = match sampling {
        ParentSampling::Record => Some(true),
        ParentSampling::Skip => Some(false),
        ParentSampling::Deferred => None,
    };
    let Some(span) = span else {
        return TraceParent { ids: None, record, state: String::new() };
    };
    let ids = TraceIds {
        trace: span.trace_id().to_string(),
        span: span.span_id().to_string(),
        is_sampled: span.is_sampled(),
    };
    TraceParent { ids: Some(ids), record, state: span.trace_state().header() }
}
