//! The fuzz target for trace headers: `traceparent`, `tracestate`, `b3` and `x-b3-*`.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::parent::{Parent, ParentSampling};

/// Reads the trace context of a request, whose headers are the lines of `input`, as in HTTP/1.
///
/// # Panics
///
/// If the IDs are invalid, or differ if they are sent in another form.
pub fn check_headers(input: &[u8]) {
    let headers = parse(input);
    let parent = read(&headers);
    assert_eq!(read(&headers), parent);
    let Some(ids) = &parent.ids else {
        assert!(parent.state.is_empty(), "a trace state without a trace: {parent:?}");
        return;
    };
    assert!(ids.trace.len() == 32 && ids.trace.contains(|digit| digit != '0'));
    assert!(ids.span.len() == 16 && ids.span.contains(|digit| digit != '0'));
    assert_eq!(ids.is_sampled, parent.record == Some(true));
    check_forms(&parent);
}

/// The trace context of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TraceParent {
    /// The IDs; `None` if the headers contain no valid ones.
    ids: Option<TraceIds>,
    /// The sampling decision of the client; `None` if it leaves the decision to the service.
    record: Option<bool>,
    /// The `tracestate`; empty if the headers contain none.
    state: String,
}

/// The IDs of the client's span.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TraceIds {
    /// 32 hexadecimal digits.
    trace: String,
    /// 16 hexadecimal digits.
    span: String,
    /// The flag of W3C Trace Context.
    is_sampled: bool,
}

/// Reads the trace context of a request with these headers.
fn read(headers: &HeaderMap) -> TraceParent {
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

fn parse(input: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    headers
}

/// The same IDs must be read from each of the three forms.
fn check_forms(parent: &TraceParent) {
    let Some(ids) = &parent.ids else { return };
    let (trace, span) = (&ids.trace, &ids.span);
    let (b3_state, sampled) = match parent.record {
        Some(true) => ("-1", Some("1")),
        Some(false) => ("-0", Some("0")),
        None => ("", None),
    };
    let without_state = TraceParent { state: String::new(), ..parent.clone() };
    let mut many = vec![("x-b3-traceid", trace.clone()), ("x-b3-spanid", span.clone())];
    if let Some(sampled) = sampled {
        many.push(("x-b3-sampled", sampled.to_owned()));
    }
    assert_eq!(read_pairs(&[("b3", format!("{trace}-{span}{b3_state}"))]), without_state);
    assert_eq!(read_pairs(&many), without_state);
    if let Some(record) = parent.record {
        let value = format!("00-{trace}-{span}-0{}", u8::from(record));
        let pairs = [("traceparent", value), ("tracestate", parent.state.clone())];
        assert_eq!(read_pairs(&pairs), *parent);
    }
}

fn read_pairs(pairs: &[(&'static str, String)]) -> TraceParent {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let value = value.parse().expect("the values are ASCII");
        headers.append(*name, value);
    }
    read(&headers)
}

#[cfg(test)]
mod tests {
    use super::check_headers;

    #[test]
    fn mutated_trace_headers_are_read_alike_in_each_form() {
        testkit::fuzz::run("trace", check_headers);
    }
}
