//! The parameters behind the `?` of a request.

use std::{convert::Infallible, ops::RangeInclusive};

use axum::{
    extract::FromRequestParts,
    http::{Uri, request::Parts},
};
use percent_encoding::percent_decode_str;

use super::problem::{Mistake, Problem};

/// Reads parameters, and collects the mistakes in all of them.
#[derive(Debug)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
    mistakes: Vec<Mistake>,
    known: Vec<&'static str>,
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::new(&parts.uri))
    }
}

impl Query {
    pub(super) fn new(uri: &Uri) -> Self {
        let mut query = Self { pairs: Vec::new(), mistakes: Vec::new(), known: Vec::new() };
        for pair in uri.query().unwrap_or_default().split('&') {
            if pair.is_empty() {
                continue;
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (decode(name), decode(value)) {
                (Some(name), Some(value)) => query.pairs.push((name, value)),
                _ => query.reject(name, "expected percent-encoded UTF-8"),
            }
        }
        query
    }

    fn reject(&mut self, parameter: &str, detail: impl Into<String>) {
        let (parameter, detail) = (parameter.to_owned(), detail.into());
        self.mistakes.push(Mistake { parameter, detail });
    }

    /// A parameter as text.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let mut found = None;
        let mut count = 0;
        for (other, value) in &self.pairs {
            if other == name {
                found = Some(value.clone());
                count += 1;
            }
        }
        if 1 < count {
            self.reject(name, "expected once");
        }
        found
    }

    /// A parameter that is a whole number.
    pub(super) fn number(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let text = self.text(name)?;
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits && range.contains(&number) => Some(number),
            _ => {
                let (start, end) = range.into_inner();
                self.reject(name, format!("expected a whole number from {start} to {end}"));
                None
            }
        }
    }

    /// A parameter that is a whole number, and must be given.
    pub(super) fn required_number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let mistakes = self.mistakes.len();
        let number = self.number(name, range);
        if number.is_none() && self.mistakes.len() == mistakes {
            self.reject(name, "expected a whole number");
        }
        number.unwrap_or_default()
    }

    /// A parameter that is one of a few words. The first is the default.
    pub(super) fn choice<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> T {
        let default = words[0].1;
        let Some(text) = self.text(name) else { return default };
        for &(word, meaning) in words {
            if word == text {
                return meaning;
            }
        }
        let words: Vec<_> = words.iter().map(|&(word, _)| word).collect();
        self.reject(name, format!("expected {}", words.join(" or ")));
        default
    }

    /// The most items of a page.
    pub(super) fn limit(&mut self) -> usize {
        let limit = self.number("limit", 1..=1_000).unwrap_or(100);
        usize::try_from(limit).unwrap_or(100)
    }

    /// Must be called after all parameters were read.
    ///
    /// # Errors
    ///
    /// All mistakes, and all parameters that were not read.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        let mut unknown = Vec::new();
        for (name, _) in &self.pairs {
            if !self.known.contains(&name.as_str()) && !unknown.contains(name) {
                unknown.push(name.clone());
            }
        }
        let expected = match &self.known[..] {
            [] => "expected no parameters".to_owned(),
            known => format!("expected one of {}", known.join(", ")),
        };
        for name in unknown {
            self.reject(&name, expected.clone());
        }
        if self.mistakes.is_empty() { Ok(()) } else { Err(Problem::of_parameters(self.mistakes)) }
    }
}

/// Decodes a part of a form: `+` is a space.
fn decode(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    Some(percent_decode_str(&text).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::new(&format!("/v1/top?{text}").parse().unwrap())
    }

    #[test]
    fn parameters_are_decoded() {
        let mut query = query("rule=a%20b%2Bc+d&limit=7&by=refused&domain=");
        assert_eq!(query.text("rule").as_deref(), Some("a b+c d"));
        assert_eq!(query.text("domain").as_deref(), Some(""));
        assert_eq!(query.text("after"), None);
        assert_eq!(query.limit(), 7);
        assert_eq!(query.choice("by", &[("hits", 1), ("refused", 2)]), 2);
        assert_eq!(query.choice("step", &[("5s", 5), ("1m", 60)]), 5);
        assert_eq!(query.finish(), Ok(()));
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let mut query = query("limit=0&limit=1&by=x&%ff=1&what=1&what=2&after=+7");
        query.limit();
        query.choice("by", &[("hits", 1), ("refused", 2)]);
        query.number("after", 0..=9);
        let problem = query.finish().unwrap_err();
        let mut lines = Vec::new();
        for Mistake { parameter, detail } in &problem.errors {
            lines.push(format!("{parameter}: {detail}"));
        }
        assert_eq!(
            lines,
            [
                "%ff: expected percent-encoded UTF-8",
                "limit: expected once",
                "by: expected hits or refused",
                "after: expected a whole number from 0 to 9",
                "what: expected one of limit, by, after",
            ]
        );
        assert_eq!(problem.status, 400);
    }
}
