//! HTTP requests: `mapping::Mapping`.
//!
//! The input is a request: a line with method and target, then a header on each line.

use super::properties::{check_memory, peak_bytes};
use std::{net::IpAddr, sync::LazyLock};
use tollgate::{
    config::{self, CompileOptions, SourceFile},
    mapping::{
        Headers, HttpRequest, MOST_VALUE_BYTES, Mapped, Mapping, MappingCourse, MappingError,
        normalize_path,
    },
    rules::RuleTree,
};

/// Every source, with each way to find the client.
const RULES: [&str; 2] = [
    "domain: d
http:
  trusted_hops: 2
  skip: [{method: OPTIONS, path: /health*, host: a*}]
  descriptors:
    - [remote_address, path]
    - [{remote_address: {ipv4: 24, ipv6: 48}}, raw_path]
    - [method, host, scheme]
    - [{header: x-key}, {query: q, default: none}]
    - [{cookie: c}]
    - [{header: x-claims, claim: a.b.c}]
",
    "domain: d
http:
  trusted_proxies: [10.0.0.0/8, 'fd00::/8']
  descriptors:
    - [{query: q}, {query: 'ä b'}, path]
    - [{header: x-claims, claim: sub, default: none}, remote_address]
",
];

static TREES: LazyLock<[RuleTree; 2]> = LazyLock::new(|| RULES.map(compile));

#[derive(Debug)]
struct Lines<'a>(Vec<(String, &'a [u8])>);

impl Headers for Lines<'_> {
    fn visit<'h>(&'h self, name: &str, visit: &mut dyn FnMut(&'h [u8])) {
        for (found, value) in &self.0 {
            if found == name {
                visit(value);
            }
        }
    }
}

/// Runs the target.
///
/// # Panics
///
/// If a property does not hold.
pub fn check(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let (method, target) = split_at(first, b' ');
    let mut headers = Lines(Vec::new());
    for line in lines {
        let (name, value) = split_at(line, b':');
        headers.0.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value.trim_ascii()));
    }
    let header = |name: &str| {
        let found = headers.0.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| *value)
    };
    let request = HttpRequest {
        method: Some(method),
        target: Some(target),
        host: header("host"),
        scheme: header("x-forwarded-proto"),
        headers: &headers,
        peer: None,
    };
    for rules in &*TREES {
        let (_, mapping) = rules.mapping(b"d").expect("the domain has `http`");
        let (result, peak) = peak_bytes(|| mapping.map(&request));
        check_memory(peak, input.len(), 32);
        assert_eq!(result, mapping.map(&request));
        check_result(result, mapping, &request);
    }
}

fn compile(text: &str) -> RuleTree {
    let file = SourceFile { name: "r.yaml".into(), bytes: text.into() };
    config::compile(&[file], CompileOptions::default()).expect("the rules are valid").rules
}

fn check_result(
    result: Result<Mapped, MappingError>,
    mapping: &Mapping,
    request: &HttpRequest<'_>,
) {
    let course = mapping.explain(request);
    let mapped = match (result, course) {
        (Err(error), Err(same)) => {
            assert_eq!(error, same);
            assert!(!error.to_string().contains(char::is_control), "{error}");
            return;
        }
        (Ok(Mapped::Skipped), Ok(MappingCourse::Skipped(_))) => return,
        (Ok(Mapped::NoDescriptors), Ok(MappingCourse::Descriptors(list))) => {
            assert!(list.iter().all(Result::is_err));
            return;
        }
        (Ok(Mapped::Request(mapped)), Ok(MappingCourse::Descriptors(list))) => {
            assert_eq!(mapped.descriptors.len(), list.iter().flatten().count());
            mapped
        }
        (result, course) => panic!("{result:?} is explained by {course:?}"),
    };
    assert_eq!(mapped.validate(100), Ok(()));
    for entry in mapped.descriptors.iter().flat_map(|descriptor| &descriptor.entries) {
        assert!((1..=MOST_VALUE_BYTES).contains(&entry.value.len()));
        match &*entry.key {
            b"path" => assert_eq!(normalize_path(&entry.value), *entry.value),
            b"remote_address" => {
                let text = str::from_utf8(&entry.value).expect("an address is ASCII");
                let address: IpAddr = text.parse().expect("an address");
                assert_eq!(address.to_canonical().to_string(), text);
            }
            _ => {}
        }
    }
}

/// The text before the first `separator`, and the text after it.
fn split_at(text: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == separator) {
        Some(position) => (&text[..position], &text[position + 1..]),
        None => (text, &[]),
    }
}
