//! Header fields that describe limits to HTTP clients, in the syntax of
//! draft-ietf-httpapi-ratelimit-headers-10.

use std::{borrow::Cow, cmp::Ordering, time::Duration};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use smallvec::SmallVec;

use crate::{
    engine::decision::{Decision, LimitStatus},
    limit::ceil_seconds,
};

/// Header fields of an answer, and the names in its body. All values are printable ASCII.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitFields {
    /// `Retry-After` (RFC 9110, section 10.2.3) of a refusal: seconds, at least 1. `None` if no
    /// retry ever passes, or if the request passes.
    pub retry_after: Option<u64>,
    /// `RateLimit-Policy`; empty if no limit applies.
    pub policy: String,
    /// `RateLimit`; empty if no limit applies.
    pub limit: String,
    /// The names of the listed limits that the request exceeds.
    pub violated: Vec<String>,
}

/// The most limits listed.
const MOST_LISTED: usize = 8;

/// The most bytes of both fields: nginx reads 4 KiB of headers, and the answer has others.
const MOST_BYTES: usize = 1_500;

/// The longest name listed, in bytes.
const LONGEST_NAME: usize = 100;

/// The bytes of most elements without the name of the limit.
const ROOM: usize = 40;

/// The largest integer of a structured field (RFC 9651, section 3.3.1).
const LARGEST_INTEGER: u64 = 999_999_999_999_999;

static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// A limit to list.
struct Item<'a> {
    status: LimitStatus<'a>,
    /// The number of the descriptor, from 1.
    number: usize,
    refuses: bool,
    /// The time until there is more room; `None` if never.
    wait: Option<Duration>,
}

impl LimitFields {
    /// The fields for a decision. Lists up to 8 limits, the nearest to refusing first, in
    /// less than 1.5 KB. Limits that refuse nothing are left out: those in shadow mode, and
    /// quotas that are used up while another is not.
    ///
    /// A limit without a name, or with one that is longer than 100 bytes or needs an escape,
    /// is called `limit-N`, where N is the number of its descriptor, from 1. Of several limits
    /// with one name, the nearest to refusing is listed.
    pub fn new(decision: &Decision) -> Self {
        let mut fields = Self::default();
        if decision.over_limit {
            fields.retry_after = decision.wait.map(|wait| ceil_seconds(wait).max(1));
        }
        let mut names: SmallVec<[Cow<'_, str>; MOST_LISTED]> = SmallVec::new();
        for item in items(decision) {
            let name = item.name();
            if names.contains(&name) {
                continue;
            }
            if names.len() == MOST_LISTED || !fields.add(&name, &item) {
                break;
            }
            if item.refuses && item.status.outcome.over {
                fields.violated.push(name.clone().into_owned());
            }
            names.push(name);
        }
        fields
    }

    /// Adds the fields to the headers of an answer.
    pub fn insert_into(&self, headers: &mut HeaderMap) {
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        for (name, text) in [(&POLICY, &self.policy), (&LIMIT, &self.limit)] {
            if let Ok(value) = HeaderValue::from_str(text)
                && !text.is_empty()
            {
                headers.insert(name, value);
            }
        }
    }

    /// Lists a limit. Returns false if there is no room for it.
    fn add(&mut self, name: &str, item: &Item<'_>) -> bool {
        let (policy, limit) = (self.policy.len(), self.limit.len());
        let LimitStatus { limit: rule, outcome, .. } = &item.status;
        for (text, parameter, number) in
            [(&mut self.policy, "q", rule.requests), (&mut self.limit, "r", outcome.remaining)]
        {
            text.reserve(name.len() + ROOM);
            text.push_str(if text.is_empty() { "\"" } else { ", \"" });
            text.push_str(name);
            text.push('"');
            push_parameter(text, parameter, number.into());
        }
        if rule.releases_permits() {
            self.policy.push_str(";qu=\"concurrent-requests\"");
        } else {
            push_parameter(&mut self.policy, "w", rule.window.seconds());
        }
        if let Some(seconds) = item.wait.map(ceil_seconds)
            && !(item.refuses && self.retry_after.is_some_and(|retry| retry < seconds))
        {
            push_parameter(&mut self.limit, "t", seconds);
        }
        if self.policy.len() + self.limit.len() <= MOST_BYTES {
            return true;
        }
        self.policy.truncate(policy);
        self.limit.truncate(limit);
        false
    }
}

/// Appends a parameter with a number (RFC 9651, section 3.1.2).
fn push_parameter(text: &mut String, name: &str, number: u64) {
    text.push(';');
    text.push_str(name);
    text.push('=');
    text.push_str(itoa::Buffer::new().format(number.min(LARGEST_INTEGER)));
}

/// The limits that can refuse the request, the nearest to refusing first.
fn items(decision: &Decision) -> SmallVec<[Item<'_>; 2]> {
    let mut items = SmallVec::new();
    let mut refusing = decision.refusing().map(|(position, _)| position).peekable();
    for (position, verdict) in decision.verdicts.iter().enumerate() {
        let refuses = refusing.next_if_eq(&position).is_some();
        if verdict.matched.is_shadow() || verdict.is_refused() != refuses {
            continue;
        }
        for status in verdict.statuses() {
            items.push(Item::new(status, position + 1, refuses));
        }
    }
    // Stable, so that equally near limits are in the order of the request.
    items.sort_by(Item::compare);
    items
}

impl<'a> Item<'a> {
    fn new(status: LimitStatus<'a>, number: usize, of_refusing: bool) -> Self {
        let blocks = status.outcome.retry_after != Some(Duration::ZERO);
        let wait =
            if blocks { status.outcome.retry_after } else { Some(status.outcome.reset_after) };
        Self { status, number, refuses: of_refusing && blocks, wait }
    }

    fn name(&self) -> Cow<'a, str> {
        let name: &'a str = self.status.name;
        if is_quotable(name) && name.len() <= LONGEST_NAME {
            return Cow::Borrowed(name);
        }
        Cow::Owned(format!("limit-{}", self.number))
    }

    /// Less means nearer to refusing.
    fn compare(&self, other: &Self) -> Ordering {
        match (self.refuses, other.refuses) {
            (true, true) => other.longest_wait().cmp(&self.longest_wait()),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            // The shares of the limits that are left.
            (false, false) => self.left_of(other).cmp(&other.left_of(self)),
        }
    }

    fn longest_wait(&self) -> Duration {
        self.wait.unwrap_or(Duration::MAX)
    }

    fn left_of(&self, other: &Self) -> u64 {
        u64::from(self.status.outcome.remaining) * u64::from(other.status.limit.requests.max(1))
    }
}

/// Returns true for the content of a string of RFC 9651 that needs no escapes.
fn is_quotable(name: &str) -> bool {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    !name.is_empty() && name.bytes().all(plain)
}
