//! HTTP requests as users write them, whose descriptors the rules make.

use std::{ffi::OsString, net::IpAddr};

use axum::http::HeaderName;

use crate::mapping::{Headers, HttpRequest};

/// An HTTP request that a proxy would ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpQuestion {
    /// The method and the target.
    pub line: RequestLine,
    /// All headers, also those that proxies add.
    pub headers: Vec<HeaderLine>,
    /// The address of the client if no header tells it.
    pub from: Option<IpAddr>,
}

/// The first line of a request, such as `GET /login`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLine {
    method: Vec<u8>,
    target: Vec<u8>,
}

/// One line of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderLine {
    name: HeaderName,
    value: Vec<u8>,
}

/// The header lines of a question.
#[derive(Clone, Copy, Debug)]
struct Lines<'a>(&'a [HeaderLine]);

impl RequestLine {
    /// Reads a method and a target, with a space between them.
    ///
    /// # Errors
    ///
    /// If one of them is missing. The error is the expected form.
    pub fn parse(text: OsString) -> Result<Self, &'static str> {
        let text = text.into_encoded_bytes();
        let space = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
        let (method, target) = text.split_at(space);
        let target = target.trim_ascii();
        if method.is_empty() || target.is_empty() {
            return Err("expected a method and a path or URI, such as 'GET /login'");
        }
        Ok(Self { method: method.to_vec(), target: target.to_vec() })
    }
}

impl HeaderLine {
    /// Reads `Name: value`.
    ///
    /// # Errors
    ///
    /// If there is no name. The error is the expected form.
    pub fn parse(text: OsString) -> Result<Self, &'static str> {
        let text = text.into_encoded_bytes();
        let colon = text.iter().position(|byte| *byte == b':').unwrap_or(0);
        let (name, value) = text.split_at(colon);
        match HeaderName::from_bytes(name) {
            Ok(name) => {
                let value = value.strip_prefix(b":").unwrap_or_default();
                Ok(Self { name, value: value.trim_ascii().to_vec() })
            }
            Err(_) => Err("expected a name, a colon and a value, such as 'X-Api-Key: k'"),
        }
    }
}

impl HttpQuestion {
    /// The first value of the header called `name`.
    fn header(&self, name: &str) -> Option<&[u8]> {
        let line = self.headers.iter().find(|line| line.name == name)?;
        Some(&line.value)
    }

    /// Calls `ask` with the request, as a proxy would send it.
    pub(super) fn ask<T>(&self, ask: impl FnOnce(&HttpRequest<'_>) -> T) -> T {
        ask(&HttpRequest {
            method: Some(&self.line.method),
            target: Some(&self.line.target),
            host: self.header("host"),
            scheme: self.header("x-forwarded-proto"),
            headers: &Lines(&self.headers),
            peer: self.from,
        })
    }
}

impl Headers for Lines<'_> {
    fn visit<'h>(&'h self, name: &str, visit: &mut dyn FnMut(&'h [u8])) {
        for line in self.0 {
            if line.name == name {
                visit(&line.value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_line_has_a_method_and_a_target() {
        let line = RequestLine::parse("GET /a b".into()).unwrap();
        assert_eq!((&*line.method, &*line.target), (&b"GET"[..], &b"/a b"[..]));
        for text in ["", "GET", "GET ", " /a"] {
            assert!(RequestLine::parse(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_header_line_has_a_name() {
        let line = HeaderLine::parse("X-Api-Key:  a: b ".into()).unwrap();
        assert_eq!((line.name.as_str(), &*line.value), ("x-api-key", &b"a: b"[..]));
        assert_eq!(HeaderLine::parse("X-Api-Key:".into()).unwrap().value, b"");
        for text in ["", "X-Api-Key", ": k", "a b: c"] {
            assert!(HeaderLine::parse(text.into()).is_err(), "{text}");
        }
    }
}
