//! Calls the admin API of a running service.

use std::{fs, io, path::PathBuf, time::Duration};

use axum::{
    body::{self, Body},
    http::{Request, Uri, header, uri::Scheme},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::time;

use crate::{
    causes,
    printable::{printable_path, printable_text},
};

/// The time for an answer: the service takes at most a few seconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The most bytes of an answer.
const MOST_BYTES: usize = 16 << 20;

/// The most bytes of a token.
const MOST_TOKEN_BYTES: usize = 1 << 10;

/// The admin API of a service, and the token for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminClient {
    /// The URL of the listener.
    pub url: AdminUrl,
    /// The file whose first line is the token. A token is no argument, because every user of
    /// the host can read those.
    pub token_file: Option<PathBuf>,
}

/// A URL such as `http://localhost:8082`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminUrl(String);

/// The reason why the admin API did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No token is known.
    #[error("expected a token: name its file with --token-file, or in ADMIN_TOKEN_FILE")]
    NoToken,
    /// The file of the token cannot be used.
    #[error("cannot read the token in {path}: {reason}")]
    Token {
        /// The file.
        path: String,
        /// The cause.
        reason: String,
    },
    /// No answer arrived.
    #[error("no answer from {url}: {reason}")]
    NoAnswer {
        /// The URL.
        url: String,
        /// The cause.
        reason: String,
    },
    /// The service did not do it.
    #[error("{url} answers {status}: {detail}")]
    Problem {
        /// The URL.
        url: String,
        /// The status of HTTP.
        status: u16,
        /// The reason, in words of the service.
        detail: String,
    },
}

impl AdminUrl {
    /// The URL of a service on this host.
    pub fn of_port(port: u16) -> Self {
        Self(format!("http://127.0.0.1:{port}"))
    }

    /// Reads a URL without a path.
    ///
    /// # Errors
    ///
    /// If `text` has another form. The error is the expected form.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "expected a URL without a path, such as http://localhost:8082";
        let uri: Uri = text.parse().map_err(|_| EXPECTED)?;
        let is_plain = uri.scheme() == Some(&Scheme::HTTP) && matches!(uri.path(), "" | "/");
        match uri.authority() {
            Some(host) if is_plain && uri.query().is_none() && !host.as_str().contains('@') => {
                Ok(Self(format!("http://{host}")))
            }
            _ => Err(EXPECTED),
        }
    }
}

impl AdminClient {
    /// Posts `body` to `path`, and returns the answer.
    ///
    /// # Errors
    ///
    /// If there is no token, or no answer with status 200.
    pub async fn post(&self, path: &str, body: String) -> Result<Value, AdminError> {
        let AdminUrl(url) = &self.url;
        let no_answer = |reason: String| AdminError::NoAnswer { url: url.clone(), reason };
        let request = Request::post(format!("{url}{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token()?))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .map_err(|error| no_answer(error.to_string()))?;
        let call = async {
            let client: Client<_, Body> =
                Client::builder(TokioExecutor::new()).build(HttpConnector::new());
            let response = client.request(request).await.map_err(|error| causes::text(&error))?;
            let status = response.status();
            let body = body::to_bytes(Body::new(response.into_body()), MOST_BYTES).await;
            Ok::<_, String>((status, body.map_err(|error| causes::text(&error))?))
        };
        let (status, bytes) = match time::timeout(TIMEOUT, call).await {
            Ok(answer) => answer.map_err(no_answer)?,
            Err(_) => return Err(no_answer(format!("none within {TIMEOUT:?}"))),
        };
        let answer: Option<Value> = serde_json::from_slice(&bytes).ok();
        match answer {
            Some(answer) if status.is_success() => Ok(answer),
            answer => {
                let detail = answer.as_ref().and_then(|it| it["detail"].as_str());
                let detail =
                    printable_text(detail.unwrap_or("the answer is not that of the admin API"));
                Err(AdminError::Problem { url: url.clone(), status: status.as_u16(), detail })
            }
        }
    }

    fn token(&self) -> Result<String, AdminError> {
        let path = self.token_file.as_ref().ok_or(AdminError::NoToken)?;
        let error = |reason: String| AdminError::Token { path: printable_path(path), reason };
        let text = fs::read_to_string(path).map_err(|cause: io::Error| error(cause.to_string()))?;
        let token = text.lines().next().unwrap_or_default().trim();
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_token || MOST_TOKEN_BYTES < token.len() {
            return Err(error("expected the token alone in the first line".into()));
        }
        Ok(token.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_and_no_path() {
        for (text, url) in [
            ("http://localhost:8082", "http://localhost:8082"),
            ("http://[::1]:8082/", "http://[::1]:8082"),
        ] {
            assert_eq!(AdminUrl::parse(text), Ok(AdminUrl(url.to_owned())), "{text}");
        }
        for text in ["", "localhost:8082", "https://a", "http://a/b", "http://a?b", "http://a@b"] {
            assert!(AdminUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_is_one_word_in_the_first_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let token = |text: &str| {
            fs::write(&path, text).unwrap();
            AdminClient { url: AdminUrl::of_port(1), token_file: Some(path.clone()) }.token()
        };
        assert_eq!(token("abc\n").unwrap(), "abc");
        for text in ["", "\nabc", "ann read abc", "a\u{1b}b"] {
            let error = token(text).unwrap_err().to_string();
            assert!(error.contains("expected the token alone"), "{error}");
        }
        let client = AdminClient { url: AdminUrl::of_port(1), token_file: None };
        assert!(matches!(client.token(), Err(AdminError::NoToken)));
    }
}
