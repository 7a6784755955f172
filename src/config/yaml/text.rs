//! Decodes the bytes of a file.

use super::super::{
    sink::DiagnosticSink,
    source::{Location, MAX_BYTES},
};

/// The text of file `index`. If the file is too long or not UTF-8, that is
/// reported and the result is `None`.
pub(super) fn decode<'a>(sink: &mut DiagnosticSink<'a>, index: usize) -> Option<&'a str> {
    let bytes = sink.file(index)?.bytes.as_slice();
    let start = sink.start_of(index);
    if bytes.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, expected at most {MAX_BYTES}", bytes.len());
        sink.error_with_help(start, message, "split it into several files");
        return None;
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        let message = "the file begins with a byte order mark";
        sink.error_with_help(start, message, "save it as UTF-8 without a byte order mark");
        return None;
    }
    match str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) => {
            let invalid = error.valid_up_to();
            let message = format!("the byte 0x{:02x} is not UTF-8", bytes[invalid]);
            let location = byte_location(index, bytes, invalid);
            sink.error_with_help(location, message, "save the file as UTF-8");
            None
        }
    }
}

/// The location of the byte at `offset`, before which `bytes` must be UTF-8.
fn byte_location(source: usize, bytes: &[u8], offset: usize) -> Location {
    let before = String::from_utf8_lossy(&bytes[..offset]);
    // The YAML parser also counts a carriage return alone as the end of a line.
    let before = before.replace("\r\n", "\n").replace('\r', "\n");
    let line_start = before.rfind('\n').map_or(0, |line_break| line_break + 1);
    Location {
        source,
        line: saturating_u32(before.matches('\n').count() + 1),
        column: saturating_u32(before[line_start..].chars().count() + 1),
        start: saturating_u32(offset),
        end: saturating_u32(offset + 1),
    }
}

/// Converts a line, column or byte offset. [`MAX_BYTES`] keeps all three in
/// range.
pub(super) fn saturating_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
