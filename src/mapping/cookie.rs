//! Cookies.

/// The value of the cookie called `name` in one line of the header `cookie`; the first one of
/// several.
pub(super) fn find<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    for pair in line.split(|byte| *byte == b';') {
        let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { continue };
        if pair[..equals].trim_ascii() == name.as_bytes() {
            return Some(pair[equals + 1..].trim_ascii());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cookie_of_a_name_counts() {
        let line = b"a=1; session=x=y ;session=z; Session=w; b";
        assert_eq!(find(line, "session"), Some(&b"x=y"[..]));
        assert_eq!(find(line, "Session"), Some(&b"w"[..]));
        assert_eq!(find(line, "b"), None);
        assert_eq!(find(b"", "a"), None);
    }
}
