//! Tells that no rule applies, which looks like a success otherwise.

use std::{io, time::Duration};

use axum::body::{self, Body};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time;

use super::Hit;
use crate::{
    descriptor::Entry,
    explain::notation::{descriptor, printable},
    grpc::client::Response,
    net::{Address, HostPort},
    rules::explain::similar_names,
};

/// The time for the page of the rules: it is only an advice.
const PAGE_TIMEOUT: Duration = Duration::from_secs(1);
/// The most bytes of the page that are read: some 100,000 rules.
const MOST_PAGE_BYTES: usize = 16 << 20;
/// A reason that only a request of several descriptors can have, if the service did not tell.
const OR_REPLACED: &str = "; or another descriptor's rule replaces its limit";
/// The most names listed.
const MOST_NAMES: usize = 3;

/// The descriptors to which no rule applies.
pub(super) fn descriptors<'h>(asked: &'h [Vec<Entry>], response: &Response) -> Vec<&'h [Entry]> {
    let mut unmatched = Vec::new();
    for (entries, status) in asked.iter().zip(&response.statuses) {
        if status.is_unmatched() {
            unmatched.push(entries.as_slice());
        }
    }
    unmatched
}

/// Writes that no rule applies to the descriptors in `unmatched`, or that another rule
/// replaces theirs, with the nearest names if the service shows its rules, and the command that
/// tells the reason.
pub(super) async fn report(
    hit: &Hit,
    unmatched: &[&[Entry]],
    errors: &mut impl io::Write,
) -> io::Result<()> {
    let domain = printable(&String::from_utf8_lossy(&hit.domain));
    let Reasons { replaced, missing, may_be_replaced } = ask_alone(hit, unmatched).await;
    for entries in replaced {
        let entries = descriptor(entries);
        writeln!(
            errors,
            "tollgate: `{entries}` is NOT LIMITED in this request: the rule of another descriptor \
             replaces its rule"
        )?;
    }
    for entries in &missing {
        let entries = descriptor(entries);
        writeln!(errors, "tollgate: NO RULE of the domain `{domain}` applies to `{entries}`")?;
    }
    if !missing.is_empty() {
        let or = if may_be_replaced { OR_REPLACED } else { "" };
        match read_page(hit).await {
            Some(page) => {
                let known = known(&hit.domain, &missing, &page.names);
                writeln!(errors, "{} shows: {known}{or}", page.url)?;
            }
            None => {
                writeln!(errors, "the service has no such domain, or no rule that matches{or}")?;
            }
        }
    }
    let mut command = format!("tollgate explain --config RULES --domain {}", quoted(&domain));
    for entries in &hit.descriptors {
        command += &format!(" {}", quoted(&descriptor(entries)));
    }
    writeln!(errors, "to see the reason: {command}")
}

/// Descriptors without a limit, by the reason.
#[derive(Default)]
struct Reasons<'h> {
    /// Their rule is replaced.
    replaced: Vec<&'h [Entry]>,
    /// They have no rule.
    missing: Vec<&'h [Entry]>,
    /// Some of `missing` may belong to `replaced`: the service did not answer.
    may_be_replaced: bool,
}

/// Asks for each of several descriptors alone, with 0 hits, which charges nothing: a limit
/// that it has then was replaced in the request.
async fn ask_alone<'h>(hit: &Hit, unmatched: &[&'h [Entry]]) -> Reasons<'h> {
    let mut reasons = Reasons::default();
    for &entries in unmatched {
        if 1 < hit.descriptors.len() {
            let descriptors = vec![entries.to_vec()];
            let look = Hit { descriptors, hits: Some(0), refund: false, ..hit.clone() };
            match super::call(&look).await {
                Ok(response) => {
                    if response.statuses.first().is_some_and(|it| !it.is_unmatched()) {
                        reasons.replaced.push(entries);
                        continue;
                    }
                }
                Err(_) => reasons.may_be_replaced = true,
            }
        }
        reasons.missing.push(entries);
    }
    reasons
}

/// A word of a shell command.
fn quoted(text: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "=,./:_-".contains(char);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The sentence about the rules of the service. `names` are those of its rules.
fn known(domain: &[u8], unmatched: &[&[Entry]], names: &[String]) -> String {
    let domain = printable(&String::from_utf8_lossy(domain));
    let prefix = format!("{domain}.");
    let mut own = Vec::new();
    let mut others = Vec::new();
    for name in names {
        match name.strip_prefix(&prefix) {
            Some(keys) => own.push(keys),
            None => others.push(name.as_str()),
        }
    }
    let mut lists = Vec::new();
    for entries in unmatched {
        let keys: Vec<_> = entries.iter().map(|it| String::from_utf8_lossy(&it.key)).collect();
        let keys = keys.join(".");
        lists.push(if own.is_empty() {
            nearest(&format!("{prefix}{keys}"), &others)
        } else {
            nearest(&keys, &own)
        });
    }
    let lists = lists.join("; ");
    // A name does not show where its domain ends.
    if own.is_empty() {
        return format!("no rule has a name that begins with `{prefix}`, the nearest: {lists}");
    }
    format!("the nearest rules that begin with `{prefix}`: {lists}")
}

/// The names that are most like `asked`, or else the first ones.
fn nearest(asked: &str, names: &[&str]) -> String {
    let mut nearest = similar_names(asked, names.iter().copied(), MOST_NAMES);
    if nearest.is_empty() {
        nearest.extend(names.iter().take(MOST_NAMES));
    }
    let mut texts: Vec<_> = nearest.iter().map(|name| format!("`{name}`")).collect();
    if texts.len() < names.len() {
        texts.push(format!("{} more", names.len() - texts.len()));
    }
    texts.join(", ")
}

/// The page that lists the rules of a service.
struct RulePage {
    url: String,
    /// The names of the rules, at least one.
    names: Vec<String>,
}

/// Reads the page `/rlconfig`; `None` if it cannot be read, or has no rules.
async fn read_page(hit: &Hit) -> Option<RulePage> {
    let host = match &hit.address {
        Address::Tcp(address) => address.host.clone(),
        Address::Unix(_) => "localhost".to_owned(),
    };
    let page = HostPort { host, port: hit.http_port };
    let url = format!("http://{page}/rlconfig");
    let text = time::timeout(PAGE_TIMEOUT, get(&url)).await.ok()??;
    let mut names = Vec::new();
    for line in text.lines() {
        if let Some((name, _)) = line.split_once(": unit=") {
            names.push(printable(name));
        }
    }
    // A rule with several limits has a line for each.
    names.dedup();
    if names.is_empty() { None } else { Some(RulePage { url, names }) }
}

async fn get(url: &str) -> Option<String> {
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let response = client.get(url.parse().ok()?).await.ok()?;
    if !response.status().is_success() {
        return None;
    }
    let body = body::to_bytes(Body::new(response.into_body()), MOST_PAGE_BYTES).await.ok()?;
    Some(String::from_utf8_lossy(&body).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(key: &'static str) -> Vec<Entry> {
        vec![Entry { key: key.into(), value: "x".into() }]
    }

    #[test]
    fn the_nearest_names_are_told() {
        let names = ["shop.user", "shop.path_/a.address", "api.prod.user"].map(str::to_owned);
        let users = entries("users");
        let cases: [(&[u8], &str); 3] = [
            (b"shop", "the nearest rules that begin with `shop.`: `user`, 1 more"),
            (
                b"Shop",
                "no rule has a name that begins with `Shop.`, the nearest: `shop.user`, 2 more",
            ),
            (
                b"api.prd",
                "no rule has a name that begins with `api.prd.`, the nearest: `api.prod.user`, \
                 2 more",
            ),
        ];
        for (domain, expected) in cases {
            assert_eq!(known(domain, &[&users], &names), expected);
        }
    }

    #[test]
    fn words_of_the_shell_are_quoted() {
        assert_eq!(quoted("user=ann,path=/a"), "user=ann,path=/a");
        assert_eq!(quoted("c=outbound|80||a"), "'c=outbound|80||a'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
