//! Labels in Prometheus' text format.

/// Appends `label="value"` to `text`, with the value escaped.
pub(super) fn push_label(text: &mut String, label: &str, value: &str) {
    text.push_str(label);
    text.push_str("=\"");
    let mut rest = value;
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        let (plain, special) = rest.split_at(at);
        text.push_str(plain);
        text.push('\\');
        text.push_str(if special.starts_with('\n') { "n" } else { &special[..1] });
        rest = &special[1..];
    }
    text.push_str(rest);
    text.push('"');
}
