//! Reads the trace context that a client sends in headers.
//!
//! W3C Trace Context takes precedence over B3, and the single header `b3` over the headers
//! `x-b3-*`. A malformed header counts as missing. B3 is parsed here because
//! `opentelemetry-propagator-b3` 0.33.1 ignores `b3: 0`, and treats the sampling states `d`
//! (debug) and "deferred" as a refusal.

use axum::http::HeaderMap;
use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    propagation::TextMapPropagator,
    trace::{Link, SpanContext, SpanKind, TraceContextExt, TraceState},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{Sampler, SamplingResult, ShouldSample},
};

/// The trace context of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parent {
    /// The span of the client, if it is valid. Its sampled flag is set exactly if
    /// `sampling` is `Record`.
    pub(super) span: Option<SpanContext>,
    pub(super) sampling: ParentSampling,
}

/// The sampling decision of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ParentSampling {
    Record,
    Skip,
    /// The client leaves the decision to this process.
    #[default]
    Deferred,
}

/// Overrides the sampled flag of the parent in a [`Context`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SamplingOverride {
    Always,
    ByRate,
}

/// Follows the sampling decision of the client. Records a share of the traces for which
/// the client has not decided.
#[derive(Clone, Debug)]
pub(super) struct ParentSampler {
    by_rate: Sampler,
    by_parent: Sampler,
}

impl Parent {
    pub(super) fn from_headers(headers: &HeaderMap) -> Self {
        if let Some(parent) = from_traceparent(headers) {
            return parent;
        }
        match from_single_b3(headers) {
            Some(parent) => parent,
            None => from_multiple_b3(headers),
        }
    }

    /// A parent with these IDs in hexadecimal, or `None` if they are malformed.
    fn from_ids(trace: &str, span: &str, sampling: ParentSampling) -> Option<Self> {
        let has_lengths = matches!(trace.len(), 16 | 32) && span.len() == 16;
        if !has_lengths || !is_lower_hex(trace) || !is_lower_hex(span) {
            return None;
        }
        let trace = TraceId::from_hex(trace).ok()?;
        let span = SpanId::from_hex(span).ok()?;
        let sampled = sampling == ParentSampling::Record;
        let flags = TraceFlags::default().with_sampled(sampled);
        let span = SpanContext::new(trace, span, flags, true, TraceState::default());
        if span.is_valid() { Some(Self { span: Some(span), sampling }) } else { None }
    }

    /// The same as a context for [`ParentSampler`].
    pub(super) fn into_context(self) -> Context {
        let sampling_override = match (&self.span, self.sampling) {
            (None, ParentSampling::Record) => Some(SamplingOverride::Always),
            (Some(_), ParentSampling::Deferred) => Some(SamplingOverride::ByRate),
            _ => None,
        };
        let mut context = Context::new();
        if let Some(span) = self.span {
            context = context.with_remote_span_context(span);
        }
        if let Some(sampling_override) = sampling_override {
            context = context.with_value(sampling_override);
        }
        context
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
}

fn from_traceparent(headers: &HeaderMap) -> Option<Parent> {
    if !headers.contains_key("traceparent") {
        return None;
    }
    let propagator = TraceContextPropagator::new();
    let context = propagator.extract_with_context(&Context::new(), &HeaderExtractor(headers));
    let span = context.span().span_context().clone();
    if !span.is_valid() {
        return None;
    }
    let sampling = if span.is_sampled() { ParentSampling::Record } else { ParentSampling::Skip };
    Some(Parent { span: Some(span), sampling })
}

/// Reads the header `b3`. It is either `trace-span`, `trace-span-sampling` or
/// `trace-span-sampling-parent`, or `sampling` alone.
fn from_single_b3(headers: &HeaderMap) -> Option<Parent> {
    let text = headers.get("b3")?.to_str().ok()?;
    let mut parts = text.split('-');
    match (parts.next()?, parts.next(), parts.next()) {
        (sampling, None, _) => Some(Parent { span: None, sampling: b3_sampling(sampling)? }),
        (trace, Some(span), None) => Parent::from_ids(trace, span, ParentSampling::Deferred),
        (trace, Some(span), Some(sampling)) => {
            Parent::from_ids(trace, span, b3_sampling(sampling)?)
        }
    }
}

fn b3_sampling(text: &str) -> Option<ParentSampling> {
    match text {
        "1" | "d" => Some(ParentSampling::Record),
        "0" => Some(ParentSampling::Skip),
        _ => None,
    }
}

/// Reads the headers `x-b3-traceid`, `x-b3-spanid`, `x-b3-sampled` and `x-b3-flags`.
fn from_multiple_b3(headers: &HeaderMap) -> Parent {
    let get = |name| headers.get(name)?.to_str().ok();
    // The debug flag overrides the sampling decision.
    let sampling = match (get("x-b3-flags"), get("x-b3-sampled")) {
        (Some("1"), _) | (_, Some("1" | "true")) => ParentSampling::Record,
        (_, Some("0" | "false")) => ParentSampling::Skip,
        _ => ParentSampling::Deferred,
    };
    if let (Some(trace), Some(span)) = (get("x-b3-traceid"), get("x-b3-spanid"))
        && let Some(parent) = Parent::from_ids(trace, span, sampling)
    {
        return parent;
    }
    Parent { span: None, sampling }
}

impl ParentSampler {
    /// A sampler that records the share `rate`, from 0 to 1, of the traces for which the
    /// client has not decided.
    pub(super) fn new(rate: f64) -> Self {
        let by_rate = Sampler::TraceIdRatioBased(rate);
        Self { by_parent: Sampler::ParentBased(Box::new(by_rate.clone())), by_rate }
    }
}

impl ShouldSample for ParentSampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[opentelemetry::KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let sampling_override = match parent {
            Some(parent) => parent.get::<SamplingOverride>(),
            None => None,
        };
        let sampler = match sampling_override {
            Some(SamplingOverride::Always) => &Sampler::AlwaysOn,
            Some(SamplingOverride::ByRate) => &self.by_rate,
            None => &self.by_parent,
        };
        sampler.should_sample(parent, trace, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use opentelemetry_sdk::trace::SamplingDecision;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn parent(headers: &[(&'static str, &str)]) -> Parent {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        Parent::from_headers(&map)
    }

    /// The IDs and the sampling decision, in short.
    fn show(headers: &[(&'static str, &str)]) -> String {
        let parent = parent(headers);
        let ids = match &parent.span {
            Some(span) => {
                let is_recorded = parent.sampling == ParentSampling::Record;
                assert_eq!(span.is_sampled(), is_recorded, "{parent:?}");
                assert!(span.is_remote());
                assert_eq!(span.span_id().to_string(), SPAN);
                let trace = span.trace_id().to_string();
                if trace == TRACE { "all".to_owned() } else { trace }
            }
            None => "none".to_owned(),
        };
        let sampling = match parent.sampling {
            ParentSampling::Record => "record",
            ParentSampling::Skip => "do not",
            ParentSampling::Deferred => "decide",
        };
        format!("{ids}, {sampling}")
    }

    #[test]
    fn a_call_without_headers_has_no_parent() {
        assert_eq!(parent(&[]), Parent::default());
    }

    #[test]
    fn w3c_trace_context_is_parsed() {
        for (value, expected) in [
            (format!("00-{TRACE}-{SPAN}-01"), "all, record"),
            (format!("00-{TRACE}-{SPAN}-00"), "all, do not"),
            (format!("01-{TRACE}-{SPAN}-03-more"), "all, record"),
            (format!("00-{TRACE}-{SPAN}-01-more"), "none, decide"),
            (format!("ff-{TRACE}-{SPAN}-01"), "none, decide"),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), "none, decide"),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), "none, decide"),
            ("nonsense".to_owned(), "none, decide"),
        ] {
            assert_eq!(show(&[("traceparent", &value)]), expected, "{value}");
        }
        let value = format!("00-{TRACE}-{SPAN}-01");
        let span = parent(&[("traceparent", &value), ("tracestate", "a=b")]).span.unwrap();
        assert_eq!(span.trace_state().header(), "a=b");
    }

    #[test]
    fn the_single_b3_header_is_parsed() {
        for (value, expected) in [
            (format!("{TRACE}-{SPAN}"), "all, decide"),
            (format!("{TRACE}-{SPAN}-1"), "all, record"),
            (format!("{TRACE}-{SPAN}-d"), "all, record"),
            (format!("{TRACE}-{SPAN}-0"), "all, do not"),
            (format!("{TRACE}-{SPAN}-1-{SPAN}"), "all, record"),
            (format!("a3ce929d0e0e4736-{SPAN}-1"), "0000000000000000a3ce929d0e0e4736, record"),
            ("1".to_owned(), "none, record"),
            ("d".to_owned(), "none, record"),
            ("0".to_owned(), "none, do not"),
            (format!("{TRACE}-{SPAN}-2"), "none, decide"),
            (format!("{}-{SPAN}-1", TRACE.to_ascii_uppercase()), "none, decide"),
            (format!("{}-{SPAN}-1", &TRACE[1..]), "none, decide"),
            (format!("+{}-{SPAN}-1", &TRACE[1..]), "none, decide"),
            (format!("{TRACE}-{}-1", &SPAN[1..]), "none, decide"),
            (format!("{}-{SPAN}-1", "0".repeat(32)), "none, decide"),
            (TRACE.to_owned(), "none, decide"),
            ("-".to_owned(), "none, decide"),
            (String::new(), "none, decide"),
        ] {
            assert_eq!(show(&[("b3", &value)]), expected, "{value}");
        }
    }

    #[test]
    fn the_multiple_b3_headers_are_parsed() {
        let ids = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)];
        for (more, expected) in [
            (&[][..], "decide"),
            (&[("x-b3-sampled", "1")], "record"),
            (&[("x-b3-sampled", "true")], "record"),
            (&[("x-b3-sampled", "0")], "do not"),
            (&[("x-b3-sampled", "false")], "do not"),
            (&[("x-b3-sampled", "2")], "decide"),
            (&[("x-b3-flags", "1")], "record"),
            (&[("x-b3-flags", "1"), ("x-b3-sampled", "0")], "record"),
            (&[("x-b3-flags", "0"), ("x-b3-sampled", "0")], "do not"),
            (&[("x-b3-sampled", "1"), ("x-b3-parentspanid", SPAN)], "record"),
        ] {
            assert_eq!(show(more), format!("none, {expected}"), "{more:?}");
            assert_eq!(show(&[&ids, more].concat()), format!("all, {expected}"), "{more:?}");
            assert_eq!(show(&[&ids[..1], more].concat()), format!("none, {expected}"), "{more:?}");
        }
    }

    #[test]
    fn the_first_valid_header_takes_precedence() {
        let good = format!("00-{TRACE}-{SPAN}-01");
        let multiple = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "1")];
        assert_eq!(show(&[("traceparent", &good), ("b3", "0")]), "all, record");
        assert_eq!(show(&[("traceparent", "bad"), ("b3", "0")]), "none, do not");
        assert_eq!(show(&[&multiple[..], &[("b3", "0")]].concat()), "none, do not");
        assert_eq!(show(&[&multiple[..], &[("b3", "bad")]].concat()), "all, record");
    }

    #[test]
    fn the_decision_of_the_client_overrides_the_rate() {
        let (deferred, recorded) = (format!("{TRACE}-{SPAN}"), format!("{TRACE}-{SPAN}-1"));
        for (value, never, always) in [
            ("", false, true),
            (&deferred, false, true),
            ("1", true, true),
            (&recorded, true, true),
        ] {
            for (rate, expected) in [(0.0, never), (1.0, always)] {
                let context = parent(&[("b3", value)]).into_context();
                let trace = TraceId::from_hex(TRACE).unwrap();
                let sampler = ParentSampler::new(rate);
                let result = sampler.should_sample(
                    Some(&context),
                    trace,
                    "name",
                    &SpanKind::Server,
                    &[],
                    &[],
                );
                let sampled = result.decision == SamplingDecision::RecordAndSample;
                assert_eq!(sampled, expected, "{value:?} at {rate}");
            }
        }
    }
}
