//! The ways in which proxies describe the request that they ask about.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};

use super::mistake::Mistake;
use crate::{
    mapping::{self, HttpRequest, MappingError},
    metrics::{CheckFault, CheckedBy},
};

/// A way to describe a request. Each reads its own headers alone: clients can send those of
/// the others through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `X-Forwarded-Method`, `-Uri`, `-Host`, `-Proto`: Caddy, Traefik and others.
    Forwarded,
    /// `X-Original-Method`, `-URI`, `-Host`, `-Proto`, which the settings of nginx write.
    Nginx,
    /// `X-Original-Method` and the absolute `X-Original-URL`.
    IngressNginx,
    /// The request line and `Host`.
    Envoy,
}

static FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
static FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
static ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
static ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
static ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-original-host");
static ORIGINAL_PROTO: HeaderName = HeaderName::from_static("x-original-proto");

impl Dialect {
    pub(super) const ALL: [Self; 4] =
        [Self::Forwarded, Self::Nginx, Self::IngressNginx, Self::Envoy];

    /// The name in statistics, which is that in paths.
    pub(super) const fn counted(self) -> CheckedBy {
        match self {
            Self::Forwarded => CheckedBy::Forwarded,
            Self::Nginx => CheckedBy::Nginx,
            Self::IngressNginx => CheckedBy::IngressNginx,
            Self::Envoy => CheckedBy::Envoy,
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.counted().name() == name)
    }

    /// The status of a refusal. nginx takes every status but 401 and 403 for a failure.
    pub(super) const fn refusal(self) -> StatusCode {
        match self {
            Self::Nginx | Self::IngressNginx => StatusCode::FORBIDDEN,
            Self::Forwarded | Self::Envoy => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// The header with the part of the request that is missing by `error`.
    pub(super) fn missing_header(self, error: &MappingError) -> Option<&'static HeaderName> {
        match (self, error) {
            (Self::Forwarded, MappingError::NoMethod) => Some(&FORWARDED_METHOD),
            (Self::Forwarded, MappingError::NoUri) => Some(&FORWARDED_URI),
            (Self::Forwarded, MappingError::NoHost) => Some(&FORWARDED_HOST),
            (Self::Forwarded | Self::Envoy, MappingError::NoScheme) => Some(&FORWARDED_PROTO),
            (Self::Nginx | Self::IngressNginx, MappingError::NoMethod) => Some(&ORIGINAL_METHOD),
            (Self::Nginx, MappingError::NoUri) => Some(&ORIGINAL_URI),
            (Self::Nginx, MappingError::NoHost) => Some(&ORIGINAL_HOST),
            (Self::Nginx, MappingError::NoScheme) => Some(&ORIGINAL_PROTO),
            (
                Self::IngressNginx,
                MappingError::NoUri | MappingError::NoHost | MappingError::NoScheme,
            ) => Some(&ORIGINAL_URL),
            (Self::Envoy, MappingError::NoHost) => Some(&header::HOST),
            _ => None,
        }
    }

    /// The request that the check with this head asks about. `rest` is the path behind the
    /// domain.
    pub(super) fn read<'r>(
        self,
        parts: &'r Parts,
        rest: &'r str,
        headers: &'r CheckHeaders<'r>,
    ) -> Result<HttpRequest<'r>, Mistake> {
        let none = HttpRequest {
            method: None,
            target: None,
            host: None,
            scheme: None,
            headers,
            peer: None,
        };
        match self {
            Self::Forwarded => Ok(HttpRequest {
                method: headers.one(&FORWARDED_METHOD)?,
                target: headers.one(&FORWARDED_URI)?,
                host: headers.one(&FORWARDED_HOST)?,
                scheme: headers.one(&FORWARDED_PROTO)?,
                ..none
            }),
            Self::Nginx => Ok(HttpRequest {
                method: headers.one(&ORIGINAL_METHOD)?,
                target: headers.one(&ORIGINAL_URI)?,
                host: headers.one(&ORIGINAL_HOST)?,
                scheme: headers.one(&ORIGINAL_PROTO)?,
                ..none
            }),
            Self::IngressNginx => Ok(HttpRequest {
                method: headers.one(&ORIGINAL_METHOD)?,
                target: headers.one(&ORIGINAL_URL)?,
                ..none
            }),
            Self::Envoy => Ok(HttpRequest {
                method: Some(parts.method.as_str().as_bytes()),
                target: Some(with_query(parts, rest)),
                host: headers.one(&header::HOST)?,
                scheme: headers.one(&FORWARDED_PROTO)?,
                ..none
            }),
        }
    }
}

/// The path `rest`, which is the end of the request's path, and the query.
fn with_query<'r>(parts: &'r Parts, rest: &'r str) -> &'r [u8] {
    let whole = parts.uri.path_and_query().map_or("", |it| it.as_str());
    let before = parts.uri.path().len().saturating_sub(rest.len());
    match whole.as_bytes().get(before..) {
        None | Some([]) => b"/",
        Some(target) => target,
    }
}

/// The headers of a check.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckHeaders<'r>(pub(super) &'r HeaderMap);

impl<'r> CheckHeaders<'r> {
    /// The value of a header that must not occur twice: it would not be clear which of them
    /// the proxy wrote.
    fn one(&self, name: &HeaderName) -> Result<Option<&'r [u8]>, Mistake> {
        let mut values = self.0.get_all(name).iter().map(HeaderValue::as_bytes);
        let first = values.next();
        if values.next().is_some() {
            let text = format!("expected the header {name} once; the proxy must replace it");
            return Err(Mistake::new(CheckFault::RepeatedHeader, text));
        }
        Ok(first)
    }
}

impl mapping::Headers for CheckHeaders<'_> {
    fn visit<'h>(&'h self, name: &str, visit: &mut dyn FnMut(&'h [u8])) {
        for value in self.0.get_all(name) {
            visit(value.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn the_target_of_envoy_is_all_behind_the_domain() {
        for (rest, query) in [("/a", "?b"), ("/a", ""), ("/", "?b"), ("", "?b"), ("//a/../", "?")] {
            let uri = format!("/check/envoy/edge{rest}{query}");
            let (parts, ()) = Request::get(uri).body(()).unwrap().into_parts();
            assert_eq!(with_query(&parts, rest), format!("{rest}{query}").as_bytes());
        }
        let (parts, ()) = Request::get("/check/envoy/edge").body(()).unwrap().into_parts();
        assert_eq!(with_query(&parts, ""), b"/");
    }
}
