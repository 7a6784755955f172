//! Normalization of hosts.

/// The host in lower case, without its port and a dot at its end: clients choose all three.
pub(super) fn normalize(raw: &[u8]) -> Vec<u8> {
    let raw = raw.trim_ascii();
    let host = match raw.iter().rposition(|byte| *byte == b':') {
        // The colons of an IPv6 address are in brackets.
        Some(colon) if raw[colon + 1..].iter().all(u8::is_ascii_digit) => &raw[..colon],
        _ => raw,
    };
    host.strip_suffix(b".").unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_a_host_are_one() {
        for spelling in
            ["example.com", "Example.COM", "example.com:8080", "example.com.:80", "example.com:"]
        {
            assert_eq!(normalize(spelling.as_bytes()), b"example.com", "{spelling}");
        }
        assert_eq!(normalize(b"[::1]:80"), b"[::1]");
        assert_eq!(normalize(b"[::1]"), b"[::1]");
        assert_eq!(normalize(b"example.com:x"), b"example.com:x");
        assert_eq!(normalize(b":80"), b"");
    }
}
