//! Bodies of `/json`: `json::decode`.

use super::properties::{check_memory, is_too_large, peak_bytes, to_json, to_message};
use tollgate::{descriptor::Request, grpc, json};

/// Runs the target.
///
/// # Panics
///
/// If a property does not hold.
pub fn check(body: &[u8]) {
    let (result, peak) = peak_bytes(|| json::decode(body));
    check_memory(peak, body.len(), 256);
    match result {
        Ok(request) => check_request(&request),
        Err(error) => check_error(&error, body),
    }
}

/// The request must not change if it is sent by gRPC, or as JSON once more.
fn check_request(request: &Request) {
    let message = to_message(request);
    assert!(!is_too_large(&message));
    let text = to_json(&message).expect("JSON is UTF-8");
    assert_eq!(json::decode(text.as_bytes()).as_ref(), Ok(request));
    assert_eq!(grpc::request::read(message).as_ref(), Ok(request));
}

/// The position of a syntax error must be within the body.
fn check_error(error: &str, body: &[u8]) {
    assert!(!error.is_empty());
    let Some((_, position)) = error.rsplit_once(" at line ") else { return };
    let Some((line, column)) = position.split_once(" column ") else { return };
    let (Ok(line), Ok(column)) = (line.parse::<usize>(), column.parse::<usize>()) else { return };
    let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
    assert!((1..=lines.len()).contains(&line), "{error}");
    assert!(column <= lines[line - 1].len() + 1, "{error}");
}
