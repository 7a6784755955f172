//! Trace headers of HTTP and gRPC requests: `traceparent`, `tracestate`, `b3` and `x-b3-*`.
//!
//! The input is a list of headers as in HTTP/1, one on each line.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use tollgate::spans::fuzzing::{TraceParent, read};

fuzz_target!(|input: &[u8]| {
    let headers = parse(input);
    let parent = read(&headers);
    assert_eq!(read(&headers), parent);
    let Some(ids) = &parent.ids else {
        assert!(parent.state.is_empty(), "a trace state without a trace: {parent:?}");
        return;
    };
    assert!(ids.trace.len() == 32 && ids.trace.trim_start_matches('0') != "");
    assert!(ids.span.len() == 16 && ids.span.trim_start_matches('0') != "");
    assert_eq!(ids.is_sampled, parent.record == Some(true));
    check_forms(&parent);
});

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
