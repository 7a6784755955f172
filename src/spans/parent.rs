//! What the headers of a call say of the trace that it belongs to.
//!
//! W3C Trace Context counts before B3, the single header `b3` before the many
//! `x-b3-*`; what is malformed counts as not there. B3 is read here, as
//! `opentelemetry-propagator-b3` 0.33.1 does not hear `b3: 0`, and takes `d` and a
//! choice that is left to us for a refusal.

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

/// What the caller says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parent {
    /// The trace and the ID of the caller's span. Valid; its flags say the same
    /// as `record`.
    pub(super) span: Option<SpanContext>,
    /// Whether to record the call; none leaves that to us.
    pub(super) record: Option<bool>,
}

/// What a [`Context`] says to [`ByCaller`], where its span does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// Record it.
    Record,
    /// Decide, although the trace is the caller's.
    Decide,
}

/// Records what the caller wants recorded; where it leaves the choice, a part of
/// all traces.
#[derive(Clone, Debug)]
pub(super) struct ByCaller {
    part: Sampler,
    by_parent: Sampler,
}

impl Parent {
    /// What `headers` say.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        w3c(headers).or_else(|| single(headers)).unwrap_or_else(|| many(headers))
    }

    fn new(trace: &str, span: &str, record: Option<bool>) -> Option<Self> {
        let lower = |it: u8| it.is_ascii_digit() || matches!(it, b'a'..=b'f');
        let is_hex = |it: &str| it.bytes().all(lower);
        if !matches!(trace.len(), 16 | 32) || span.len() != 16 || !is_hex(trace) || !is_hex(span) {
            return None;
        }
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        let flags = TraceFlags::default().with_sampled(record == Some(true));
        let span = SpanContext::new(trace, span, flags, true, TraceState::default());
        span.is_valid().then_some(Self { span: Some(span), record })
    }

    /// The same for [`ByCaller`].
    pub(super) fn context(self) -> Context {
        let Self { span, record } = self;
        let wish = match (&span, record) {
            (None, Some(true)) => Some(Wish::Record),
            (Some(_), None) => Some(Wish::Decide),
            _ => None,
        };
        let context = Context::new();
        let context = span.into_iter().fold(context, |it, span| it.with_remote_span_context(span));
        wish.into_iter().fold(context, |it, wish| it.with_value(wish))
    }
}

fn w3c(headers: &HeaderMap) -> Option<Parent> {
    if !headers.contains_key("traceparent") {
        return None;
    }
    let propagator = TraceContextPropagator::new();
    let context = propagator.extract_with_context(&Context::new(), &HeaderExtractor(headers));
    let span = context.span().span_context().clone();
    let record = Some(span.is_sampled());
    span.is_valid().then_some(Parent { span: Some(span), record })
}

/// `b3: trace-span-state-parent`, of which the last one or two may be missing, or
/// the state alone.
fn single(headers: &HeaderMap) -> Option<Parent> {
    let text = headers.get("b3")?.to_str().ok()?;
    let state = |it| match it {
        "1" | "d" => Some(true),
        "0" => Some(false),
        _ => None,
    };
    let mut parts = text.split('-');
    match (parts.next()?, parts.next(), parts.next()) {
        (alone, None, _) => Some(Parent { span: None, record: Some(state(alone)?) }),
        (trace, Some(span), None) => Parent::new(trace, span, None),
        (trace, Some(span), Some(it)) => Parent::new(trace, span, Some(state(it)?)),
    }
}

fn many(headers: &HeaderMap) -> Parent {
    let get = |name| headers.get(name).and_then(|it| it.to_str().ok());
    // Who debugs wants all there is, whatever else is said.
    let record = match (get("x-b3-flags"), get("x-b3-sampled")) {
        (Some("1"), _) | (_, Some("1" | "true")) => Some(true),
        (_, Some("0" | "false")) => Some(false),
        _ => None,
    };
    let ids = get("x-b3-traceid").zip(get("x-b3-spanid"));
    let parent = ids.and_then(|(trace, span)| Parent::new(trace, span, record));
    parent.unwrap_or(Parent { span: None, record })
}

impl ByCaller {
    /// Records the part `rate` of the traces, from 0 to 1.
    pub(super) fn new(rate: f64) -> Self {
        let part = Sampler::TraceIdRatioBased(rate);
        Self { by_parent: Sampler::ParentBased(Box::new(part.clone())), part }
    }
}

impl ShouldSample for ByCaller {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[opentelemetry::KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let sampler = match parent.and_then(|it| it.get::<Wish>()) {
            Some(Wish::Record) => &Sampler::AlwaysOn,
            Some(Wish::Decide) => &self.part,
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
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        Parent::of(&headers.iter().map(header).collect())
    }

    /// The IDs and the choice, in short.
    fn show(headers: &[(&'static str, &str)]) -> String {
        let parent = parent(headers);
        let flags = parent.span.as_ref().map(|it| it.is_sampled());
        assert!(flags.is_none_or(|it| it == (parent.record == Some(true))), "{parent:?}");
        assert!(parent.span.as_ref().is_none_or(SpanContext::is_remote));
        let ids = parent.span.map_or("none".to_owned(), |it| {
            let (trace, span) = (it.trace_id().to_string(), it.span_id().to_string());
            assert_eq!(span, SPAN);
            if trace == TRACE { "all".to_owned() } else { trace }
        });
        let record = match parent.record {
            Some(true) => "record",
            Some(false) => "do not",
            None => "decide",
        };
        format!("{ids}, {record}")
    }

    #[test]
    fn nothing_is_said_without_a_header() {
        assert_eq!(parent(&[]), Parent::default());
    }

    #[test]
    fn w3c_trace_context_is_understood() {
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
    fn the_single_header_of_b3_is_understood() {
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
    fn the_many_headers_of_b3_are_understood() {
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
    fn the_first_that_can_be_read_counts() {
        let good = format!("00-{TRACE}-{SPAN}-01");
        let many = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "1")];
        assert_eq!(show(&[("traceparent", &good), ("b3", "0")]), "all, record");
        assert_eq!(show(&[("traceparent", "bad"), ("b3", "0")]), "none, do not");
        assert_eq!(show(&[&many[..], &[("b3", "0")]].concat()), "none, do not");
        assert_eq!(show(&[&many[..], &[("b3", "bad")]].concat()), "all, record");
    }

    #[test]
    fn the_callers_wish_counts_before_the_rate() {
        let (deferred, asked) = (format!("{TRACE}-{SPAN}"), format!("{TRACE}-{SPAN}-1"));
        for (value, never, always) in
            [("", false, true), (&deferred, false, true), ("1", true, true), (&asked, true, true)]
        {
            for (rate, expected) in [(0.0, never), (1.0, always)] {
                let context = parent(&[("b3", value)]).context();
                let trace = TraceId::from_hex(TRACE).unwrap();
                let sampler = ByCaller::new(rate);
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
