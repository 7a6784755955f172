//! The path of a check, as the operator wrote it in the proxy.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::{dialect::Dialect, mistake::Mistake};
use crate::metrics::CheckFault;

/// The parts of a path `/check/{dialect}/{domain}[/{rest}]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target<'p> {
    pub(super) dialect: Dialect,
    /// Without its percent-encoding.
    pub(super) domain: Cow<'p, [u8]>,
    /// Empty, or from the slash behind the domain on. As it was sent: a client may have
    /// chosen it.
    pub(super) rest: &'p str,
}

impl<'p> Target<'p> {
    /// Reads a path as it was sent. The dialect and the domain depend only on its first three
    /// segments, whatever follows.
    pub(super) fn parse(path: &'p str) -> Result<Self, Mistake> {
        let path = path.strip_prefix("/check/").unwrap_or_default();
        let (dialect, path) = path.split_once('/').unwrap_or((path, ""));
        let Some(dialect) = Dialect::named(dialect) else {
            let expected = "expected a path /check/{dialect}/{domain} with the dialect forwarded, \
                            nginx, ingress-nginx or envoy";
            return Err(Mistake::new(CheckFault::UnknownDialect, expected));
        };
        let end = path.find('/').unwrap_or(path.len());
        let (domain, rest) = path.split_at(end);
        if dialect != Dialect::Envoy && !matches!(rest, "" | "/") {
            let expected = "expected nothing behind the domain in the path, except with the dialect \
                            envoy; write a slash within the domain as %2F";
            return Err(Mistake::new(CheckFault::UnexpectedPath, expected));
        }
        Ok(Self { dialect, domain: percent_decode_str(domain).into(), rest })
    }
}

/// The part of a path that the operator has written: its first three segments.
pub(super) fn written_part(path: &str) -> &str {
    match path.match_indices('/').nth(3) {
        Some((end, _)) => path.get(..end).unwrap_or(path),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn domain(path: &str) -> String {
        let target = Target::parse(path).unwrap();
        String::from_utf8(target.domain.into_owned()).unwrap()
    }

    #[test]
    fn a_domain_is_one_segment() {
        assert_eq!(domain("/check/envoy/edge"), "edge");
        assert_eq!(domain("/check/nginx/edge/"), "edge");
        assert_eq!(domain("/check/forwarded/a%2Fb%20c"), "a/b c");
        assert_eq!(domain("/check/ingress-nginx/50%25"), "50%");
        assert_eq!(domain("/check/envoy/%zz%4"), "%zz%4");
        assert_eq!(domain("/check/envoy/"), "");
        assert_eq!(domain("/check/envoy/.."), "..");
    }

    #[test]
    fn the_rest_is_as_it_was_sent() {
        for rest in
            ["", "/", "/login", "//login", "/../../nowhere/x", "/caf%C3%A9%2Fx%00", "/a;b=c"]
        {
            let path = format!("/check/envoy/edge{rest}");
            let target = Target::parse(&path).unwrap();
            assert_eq!((&*target.domain, target.rest), (&b"edge"[..], rest));
        }
    }

    #[test]
    fn the_operator_has_written_three_segments() {
        for path in ["/check", "/check/", "/check/envoy/", "/check/envyo/edge"] {
            assert_eq!(written_part(path), path);
        }
        assert_eq!(written_part("/check/envoy/edge/secret/é"), "/check/envoy/edge");
    }

    #[test]
    fn a_wrong_path_is_refused() {
        for (path, fault) in [
            ("/check", CheckFault::UnknownDialect),
            ("/check/", CheckFault::UnknownDialect),
            ("/check//edge", CheckFault::UnknownDialect),
            ("/check/Envoy/edge", CheckFault::UnknownDialect),
            ("/check/env%6Fy/edge", CheckFault::UnknownDialect),
            ("/check/../check/envoy/edge", CheckFault::UnknownDialect),
            ("/check/nginx/edge/x", CheckFault::UnexpectedPath),
            ("/check/forwarded/edge//", CheckFault::UnexpectedPath),
            ("/check/ingress-nginx/eg/http", CheckFault::UnexpectedPath),
        ] {
            assert_eq!(Target::parse(path).unwrap_err().fault, fault, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_rest_changes_the_dialect_or_the_domain(rest in "([/.%]|%2[Ff]|%2[eE]|\\PC){0,40}") {
            let path = format!("/check/envoy/edge/{rest}");
            let target = Target::parse(&path).unwrap();
            prop_assert_eq!(target.dialect, Dialect::Envoy);
            prop_assert_eq!(&*target.domain, b"edge");
            prop_assert_eq!(target.rest.strip_prefix('/').unwrap(), rest);
        }

        #[test]
        fn no_path_panics(path in "(/check)?/?(envoy|nginx)?(/|%|\\PC){0,20}") {
            let _ = Target::parse(&path);
        }
    }
}
