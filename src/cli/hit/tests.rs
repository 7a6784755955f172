use std::net::{Ipv4Addr, TcpListener};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    explain::notation::descriptor,
    grpc::client::{Response, ResponseLimit, ResponseStatus},
};

fn entry(key: &'static str, value: &'static str) -> Entry {
    Entry { key: key.into(), value: value.into() }
}

fn hit(descriptors: Vec<Vec<Entry>>) -> Hit {
    let address = default_address();
    Hit {
        address,
        tls: None,
        domain: "shop".into(),
        descriptors,
        hits: None,
        refund: false,
        http_port: HTTP_PORT,
    }
}

#[track_caller]
fn check_descriptor(text: &str, expected: &[(&'static str, &'static str)]) {
    let expected: Vec<_> = expected.iter().map(|&(key, value)| entry(key, value)).collect();
    assert_eq!(parse_descriptor(text.as_bytes()), Ok(expected), "{text}");
}

#[test]
fn descriptors_are_parsed() {
    check_descriptor("user=ann", &[("user", "ann")]);
    check_descriptor("user=ann,path=/a", &[("user", "ann"), ("path", "/a")]);
    check_descriptor("user=", &[("user", "")]);
    check_descriptor("q=a=b==", &[("q", "a=b==")]);
    check_descriptor(r"list=a\,b,x=\\,y=\", &[("list", "a,b"), ("x", r"\,y=\")]);
    check_descriptor(" a = b ", &[(" a ", " b ")]);
    for text in ["", ",", "user", "=ann", "a=b,", ",a=b", "a=b,,c=d", r"a\,=b,c"] {
        assert_eq!(
            parse_descriptor(text.as_bytes()),
            Err("expected key=value,key=value and so on"),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn escaped_descriptors_are_parsed(
        pairs in vec((vec(any::<u8>(), 1..4), vec(any::<u8>(), 0..4)), 1..4)
    ) {
        let without = |bytes: &[u8], what: &[u8]| {
            bytes.iter().map(|byte| if what.contains(byte) { b'a' } else { *byte }).collect::<Vec<_>>()
        };
        let entries: Vec<_> = pairs.iter().map(|(key, value)| Entry {
            key: without(key, b"=\\").into(),
            value: without(value, b"\\").into(),
        }).collect();
        let escape = |bytes: &[u8]| bytes.iter().flat_map(|&byte| match byte {
            b',' => vec![b'\\', b','],
            byte => vec![byte],
        }).collect::<Vec<_>>();
        let written: Vec<_> =
            entries.iter().map(|entry| [escape(&entry.key), escape(&entry.value)].join(&b'=')).collect();
        prop_assert_eq!(parse_descriptor(&written.join(&b',')), Ok(entries));
    }
}

#[test]
fn addresses_are_parsed() {
    for text in ["localhost:8081", "127.0.0.1:1", "[::1]:8081", "unix:/run/a b", "unix:a"] {
        assert_eq!(parse_address(text).unwrap().to_string(), text);
    }
    assert_eq!(parse_address("localhost:8081"), Ok(default_address()));
    assert!(parse_address(&format!("unix:/{}", "a".repeat(107))).is_err());
    for text in
        ["", "localhost", ":8081", "::1:8081", "http://a:1", "a:b", "a:1/b", "me@a:1", "unix:"]
    {
        assert!(parse_address(text).is_err(), "{text}");
    }
}

#[test]
fn every_descriptor_has_the_hits_and_the_refund() {
    let descriptors = vec![vec![entry("a", "b")], vec![entry("c", "d")]];
    let request = request(&Hit { hits: Some(0), refund: true, ..hit(descriptors.clone()) });
    assert_eq!(request.descriptors.len(), 2);
    for descriptor in request.descriptors {
        assert_eq!(descriptor.hits, Hits::Refund(0));
        assert!(descriptor.has_own_hits);
    }
    let request = super::request(&hit(descriptors));
    assert_eq!((request.hits_addend, request.descriptors[0].has_own_hits), (0, false));
}

fn over_limit() -> Response {
    let limited = |code, requests, unit: &str, multiplier| ResponseStatus {
        code,
        limit: Some(ResponseLimit {
            requests,
            unit: Some(unit.to_owned()),
            multiplier,
            name: if multiplier == 10 { "carts\u{1b}[2J".into() } else { String::new() },
        }),
        remaining: if code == ResponseCode::Ok { 3 } else { 0 },
        reset_seconds: Some(42),
    };
    let metadata = serde_json::json!({
        "domain": "shop",
        "rule": {"name": "per user", "limit": 5, "bannedSeconds": 42},
    });
    Response {
        code: ResponseCode::OverLimit,
        statuses: vec![
            limited(ResponseCode::OverLimit, 5, "minute", 1),
            limited(ResponseCode::Ok, 20, "hour", 10),
            ResponseStatus { code: ResponseCode::Ok, ..ResponseStatus::default() },
        ],
        headers: vec![("RateLimit-Limit".into(), "5".into())],
        metadata: metadata.as_object().unwrap().clone(),
    }
}

#[test]
fn an_answer_is_shown_as_text() {
    let question = hit(vec![
        vec![entry("user", "ann"), entry("path", "/a,b")],
        vec![entry("cart", "7\n")],
        vec![Entry { key: "odd".into(), value: (&b"\xff\xc3\xa4"[..]).into() }],
        vec![entry("lost", "")],
    ]);
    assert_eq!(
        rendered(&question.descriptors, &over_limit()),
        r#"OVER_LIMIT
  user=ann,path=/a\,b: OVER_LIMIT, 5 per minute, 0 remaining, retry in 42 s
  cart=7\n: OK, 20 per 10 hours (carts\u{1b}[2J), 3 remaining, resets in 42 s
  odd=�ä: OK, no limit
  lost=: no answer
a penalty refuses all requests for 42 s
response headers
  RateLimit-Limit: 5
metadata
  domain: "shop"
  rule: {"bannedSeconds":42,"limit":5,"name":"per user"}
"#
    );
}

fn rendered(descriptors: &[Vec<Entry>], response: &Response) -> String {
    let mut out = Vec::new();
    let descriptors: Vec<_> = descriptors.iter().map(Vec::as_slice).collect();
    render::response(&descriptors, response, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn rendered_for_ann(response: &Response) -> String {
    rendered(&[vec![entry("user", "ann")]], response)
}

#[test]
fn a_request_that_never_passes_has_no_time_for_a_retry() {
    let mut response = over_limit();
    response.metadata =
        serde_json::json!({"rule": {"neverPasses": true}}).as_object().unwrap().clone();
    let text = rendered_for_ann(&response);
    assert!(text.contains("OVER_LIMIT, 5 per minute, 0 remaining, resets in 42 s\n"), "{text}");
    assert!(text.contains("\nthis request can never pass: it has more hits"), "{text}");
}

#[test]
fn the_penalty_of_a_rule_in_shadow_mode_refuses_nothing() {
    let expected = "\nwithout the shadow mode, a penalty would refuse all requests for 42 s\n";
    let mut response = over_limit();
    response.code = ResponseCode::Ok;
    let text = rendered_for_ann(&response);
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("\nthe request passes though a limit is exceeded: SHADOW"), "{text}");
    response.metadata["rule"]["shadowMode"] = true.into();
    response.statuses.clear();
    let text = rendered_for_ann(&response);
    assert!(text.contains(expected), "{text}");
    assert!(!text.contains("SHADOW_MODE"), "{text}");
}

#[test]
fn text_that_changes_the_direction_or_the_line_is_escaped() {
    let text = descriptor(&[entry("user", "a\u{202e}b\u{2028}c")]);
    assert_eq!(text, "user=a\\u{202e}b\\u{2028}c");
}

#[test]
fn a_decision_without_the_store_is_called_so() {
    let mut response = over_limit();
    response.metadata.insert("degraded".into(), true.into());
    let text = rendered_for_ann(&response);
    assert!(text.contains("\ndecided by on_error: the counter store did not answer\n"), "{text}");
}

#[test]
fn an_unlimited_rule_is_not_a_missing_one() {
    let without_limit = |remaining| ResponseStatus {
        code: ResponseCode::Ok,
        remaining,
        ..ResponseStatus::default()
    };
    let response = Response {
        code: ResponseCode::Ok,
        statuses: vec![without_limit(0), without_limit(u32::MAX)],
        ..Response::default()
    };
    let asked = [vec![entry("user", "ann")], vec![entry("user", "bob")]];
    assert_eq!(
        rendered(&asked, &response),
        "OK\n  user=ann: OK, no limit\n  user=bob: OK, unlimited\n"
    );
    assert_eq!(unmatched::descriptors(&asked, &response), [&asked[0]]);
}

#[tokio::test]
async fn a_refused_connection_has_a_plain_error() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let question =
        Hit { address: parse_address(&address).unwrap(), ..hit(vec![vec![entry("user", "ann")]]) };
    assert_eq!(
        run(&question, &mut Vec::new(), &mut Vec::new()).await.unwrap_err().to_string(),
        format!("nothing listens at {address}; is tollgate running?")
    );
}
