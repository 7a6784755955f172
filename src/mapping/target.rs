//! The parts of a request target.

use super::MappingError;

/// The parts of a request target, which may be an absolute URI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) scheme: Option<&'a [u8]>,
    /// The host and the port of an absolute URI.
    pub(super) authority: Option<&'a [u8]>,
    pub(super) path: &'a [u8],
    pub(super) query: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    /// # Errors
    ///
    /// If the authority of an absolute URI has a delimiter.
    pub(super) fn split(target: &'a [u8]) -> Result<Self, MappingError> {
        let Some((scheme, rest)) = split_scheme(target) else {
            let (path, query) = split_path(target);
            return Ok(Self { scheme: None, authority: None, path, query });
        };
        // Proxies put the `Host` of the client there, and serve the path behind the first slash.
        // A delimiter before it would hide that path, and the end of the host.
        let (authority, rest) = split_at_byte(rest, |byte| byte == b'/');
        if authority.iter().any(|byte| b"?#@".contains(byte)) {
            return Err(MappingError::BadAuthority);
        }
        let (path, query) = split_path(rest);
        Ok(Self { scheme: Some(scheme), authority: Some(authority), path, query })
    }
}

/// The path and the query.
fn split_path(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    // A client does not send a fragment, but Go's proxies pass one on.
    let (target, _) = split_at_byte(target, |byte| byte == b'#');
    let (path, query) = split_at_byte(target, |byte| byte == b'?');
    (path, query.get(1..))
}

/// The bytes before the first that is `end`, and the others.
fn split_at_byte(text: &[u8], end: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let position = text.iter().position(|byte| end(*byte)).unwrap_or(text.len());
    text.split_at(position)
}

/// The scheme of an absolute URI, and the text after `://`.
fn split_scheme(target: &[u8]) -> Option<(&[u8], &[u8])> {
    if target.starts_with(b"/") {
        return None;
    }
    let (scheme, rest) = split_at_byte(target, |byte| byte == b':');
    let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    if !scheme.first().is_some_and(u8::is_ascii_alphabetic) || !scheme.iter().all(is_scheme) {
        return None;
    }
    Some((scheme, rest.strip_prefix(b"://")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(target: &str, expected: (Option<&str>, Option<&str>, &str, Option<&str>)) {
        let Target { scheme, authority, path, query } = Target::split(target.as_bytes()).unwrap();
        let (to_scheme, to_authority, to_path, to_query) = expected;
        assert_eq!(scheme, to_scheme.map(str::as_bytes), "{target}");
        assert_eq!(authority, to_authority.map(str::as_bytes), "{target}");
        assert_eq!(path, to_path.as_bytes(), "{target}");
        assert_eq!(query, to_query.map(str::as_bytes), "{target}");
    }

    #[test]
    fn a_target_has_up_to_four_parts() {
        check("/a?b?c#d?e", (None, None, "/a", Some("b?c")));
        check("/a?", (None, None, "/a", Some("")));
        check("/http://h/a", (None, None, "/http://h/a", None));
        check("https://h:8443/a?b", (Some("https"), Some("h:8443"), "/a", Some("b")));
        check("http://h", (Some("http"), Some("h"), "", None));
        check("http:///a", (Some("http"), Some(""), "/a", None));
        check("http://h/a@b#c?d", (Some("http"), Some("h"), "/a@b", None));
        check("/a?b://c/d", (None, None, "/a", Some("b://c/d")));
        check("http:/h/a", (None, None, "http:/h/a", None));
        check("h:443", (None, None, "h:443", None));
        check("*", (None, None, "*", None));
        check("", (None, None, "", None));
        check("://h/a", (None, None, "://h/a", None));
    }
}
