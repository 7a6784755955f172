//! Normalization of paths, so that all spellings of a path have one counter.

/// The path as RFC 3986 writes it, with merged slashes. Normalizing it once more changes nothing.
///
/// - A character that a segment may contain is written as it is, and every other byte as `%`
///   with upper-case hex digits. That decodes more than the unreserved characters of section
///   6.2.2.2: applications serve `/@me` and `/%40me` alike. A slash that is written as `%2F`
///   stays, since it is not a separator.
/// - `.` and `..` are resolved after slashes have been merged, as nginx and Go do.
/// - The result begins with a slash, except for `*`.
pub fn normalize(raw: &[u8]) -> Vec<u8> {
    if raw == b"*" || is_normal(raw) {
        return raw.to_vec();
    }
    rewrite(raw)
}

fn rewrite(raw: &[u8]) -> Vec<u8> {
    let escaped = normalize_escapes(raw);
    let mut path: Vec<u8> = Vec::with_capacity(escaped.len() + 1);
    let mut ends_with_slash = false;
    for segment in escaped.split(|byte| *byte == b'/') {
        ends_with_slash = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => path.truncate(path.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            _ => {
                path.push(b'/');
                path.extend_from_slice(segment);
            }
        }
    }
    if ends_with_slash {
        path.push(b'/');
    }
    path
}

/// Returns true for most paths that are normal already, and false for all others.
fn is_normal(path: &[u8]) -> bool {
    let mut before = 0;
    for &byte in path {
        // An empty segment, or one that begins with a dot.
        if !NEEDS_NO_ESCAPE[usize::from(byte)] || before == b'/' && matches!(byte, b'/' | b'.') {
            return false;
        }
        before = byte;
    }
    path.first() == Some(&b'/')
}

fn normalize_escapes(raw: &[u8]) -> Vec<u8> {
    let mut normal = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [first, after_first @ ..] = rest {
        let (byte, after) = match first {
            b'%' => decode_escape(after_first).unwrap_or((b'%', after_first)),
            _ => (*first, after_first),
        };
        rest = after;
        if NEEDS_NO_ESCAPE[usize::from(byte)] && (byte != b'/' || *first == b'/') {
            normal.push(byte);
        } else {
            push_escape(&mut normal, byte);
        }
    }
    normal
}

/// The byte that two hex digits stand for, and the rest after them.
pub(super) fn decode_escape(after_percent: &[u8]) -> Option<(u8, &[u8])> {
    let [high, low, rest @ ..] = after_percent else { return None };
    Some((hex_digit(*high)? << 4 | hex_digit(*low)?, rest))
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn push_escape(text: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push(b'%');
    text.push(DIGITS[usize::from(byte >> 4)]);
    text.push(DIGITS[usize::from(byte & 15)]);
}

/// Whether each byte is a slash or a `pchar` of RFC 3986, without escapes.
const NEEDS_NO_ESCAPE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'/' | b'-'
                    | b'.'
                    | b'_'
                    | b'~'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
                    | b':'
                    | b'@'
            );
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(spellings: &[&[u8]], expected: &str) {
        for spelling in spellings {
            let normal = normalize(spelling);
            assert_eq!(String::from_utf8_lossy(&normal), expected, "{}", spelling.escape_ascii());
        }
        assert_eq!(String::from_utf8_lossy(&normalize(expected.as_bytes())), expected);
    }

    #[test]
    fn all_spellings_of_a_path_are_one() {
        check(
            &[
                b"/login",
                b"//login",
                b"/./login",
                b"/a/../login",
                b"/a//../login",
                b"/%6Cogin",
                b"/%6cogin",
                b"/a/%2e%2E/login",
                b"/../../login",
                b"login",
            ],
            "/login",
        );
        check(&[b"/caf\xc3\xa9", b"/caf%c3%A9", "/café".as_bytes()], "/caf%C3%A9");
        check(&[b"/v1/m:generate", b"/v1/m%3agenerate"], "/v1/m:generate");
        check(&[b"/a b", b"/a%20b"], "/a%20b");
        check(&[b"/a%zz", b"/a%25zz"], "/a%25zz");
        check(&[b"", b"/", b"/.", b"/a/..", b"//", b"/a/../.."], "/");
        check(&[b"/a/", b"/a/.", b"/a/b/..", b"/a//"], "/a/");
        check(&[b"*"], "*");
        check(&[b"/*"], "/*");
    }

    #[test]
    fn ordinary_paths_are_seen_to_be_normal() {
        for path in ["/", "/login", "/v1/m:generate/", "/a.b/c;d=e/*"] {
            assert!(is_normal(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn different_paths_stay_different() {
        check(&[b"/a%2Fb", b"/a%2fb"], "/a%2Fb");
        check(&[b"/Login"], "/Login");
        check(&[b"/a%3Fb"], "/a%3Fb");
        check(&[b"/a%2541"], "/a%2541");
        check(&[b"/a%%36%31"], "/a%2561");
        check(&[b"/a%00"], "/a%00");
        check(&[b"/...", b"/%2e.."], "/...");
    }

    proptest! {
        #[test]
        fn a_normal_path_is_not_rewritten(raw in "/?([/.*%]|[%-/:-@a]|é){0,8}") {
            let raw = raw.as_bytes();
            prop_assert!(!is_normal(raw) || rewrite(raw) == raw);
        }

        #[test]
        fn normalizing_twice_changes_nothing(raw in "(%|%[346][0-9]|%2[eEfF5]|[/.*]|[a-f0-9]|é){0,12}") {
            let once = normalize(raw.as_bytes());
            prop_assert_eq!(&normalize(&once), &once);
        }

        #[test]
        fn any_bytes_become_a_path(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            let once = normalize(&raw);
            prop_assert_eq!(&normalize(&once), &once);
            prop_assert!(once == b"*" || once.starts_with(b"/"));
            prop_assert!(once.is_ascii());
            prop_assert!(!once.windows(2).any(|two| two == b"//"));
        }
    }
}
