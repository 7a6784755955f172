//! Problem details (RFC 9457) about a request that does not pass. They may reach end users,
//! so they hold the names of limits and nothing else of the rules or the request.

use serde::Serialize;

use super::fields::LimitFields;

/// The media type.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The body of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    violated_policies: &'a [String],
}

impl<'a> Problem<'a> {
    /// The request is over a limit. The type is that of
    /// draft-ietf-httpapi-ratelimit-headers-10.
    pub fn over_limit(status: u16, fields: &'a LimitFields) -> Self {
        Self {
            kind: "https://iana.org/assignments/http-problem-types#quota-exceeded",
            title: "Request cannot be satisfied as assigned quota has been exceeded",
            status,
            detail: None,
            violated_policies: &fields.violated,
        }
    }

    /// The service cannot decide at present. The type is that of the same draft.
    pub fn undecided(status: u16, detail: &'a str) -> Self {
        Self {
            kind: "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
            title: "Request cannot be satisfied due to temporary server capacity constraints",
            status,
            detail: Some(detail),
            violated_policies: &[],
        }
    }

    /// The caller has made a mistake.
    pub fn of_status(status: u16, title: &'static str, detail: &'a str) -> Self {
        Self { kind: "about:blank", title, status, detail: Some(detail), violated_policies: &[] }
    }

    /// The problem as JSON.
    pub fn to_json(&self) -> String {
        // Texts and numbers can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}
