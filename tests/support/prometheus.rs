//! Prometheus' text format, read as strictly as it is written down.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::http;

pub type Labels = BTreeMap<String, String>;

#[derive(Debug)]
pub struct Metrics {
    pub samples: BTreeMap<(String, Labels), f64>,
}

impl Metrics {
    /// What is at `/metrics`.
    pub fn of(to: SocketAddr) -> Self {
        Self::at(to, "/metrics")
    }

    /// What is at `path`.
    pub fn at(to: SocketAddr, path: &str) -> Self {
        let reply = http::get(to, path, &[]);
        let format = "text/plain; version=0.0.4; charset=utf-8";
        assert_eq!(reply.header("content-type").unwrap(), format);
        Self::parse(std::str::from_utf8(&reply.body).unwrap())
    }

    /// The value of the sample with exactly these labels.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let key = (name.to_owned(), labels.iter().map(own).collect());
        *self.samples.get(&key).unwrap_or_else(|| panic!("no {key:?}"))
    }

    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let mut samples = BTreeMap::new();
        let (mut families, mut kind) = (BTreeSet::new(), ("", ""));
        // Only this ends a line.
        for line in text.strip_suffix('\n').unwrap().split('\n') {
            if let Some(help) = line.strip_prefix("# HELP ") {
                assert!(help.split_once(' ').unwrap().1.ends_with('.'), "{line:?}");
            } else if let Some(family) = line.strip_prefix("# TYPE ") {
                kind = family.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram"].contains(&kind.1), "{line:?}");
                assert!(families.insert(kind.0), "{line:?}");
            } else {
                let (name, labels, value) = sample(line).unwrap_or_else(|| panic!("{line:?}"));
                let part = name.strip_prefix(kind.0).unwrap_or_else(|| panic!("{line:?}"));
                let parts: &[_] =
                    if kind.1 == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(parts.contains(&part), "{line:?}");
                assert!(samples.insert((name, labels), value).is_none(), "twice: {line:?}");
            }
        }
        Self { samples }
    }
}

fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, quoted) = rest.split_once("=\"")?;
            let (value, behind) = unquote(quoted)?;
            is_name(label, false).then_some(())?;
            labels.insert(label.to_owned(), value).is_none().then_some(())?;
            rest = match (behind.strip_prefix(','), behind.strip_prefix('}')) {
                (Some(more), _) => more,
                (_, Some(end)) => break rest = end,
                _ => return None,
            };
        }
    }
    is_name(name, true).then_some(())?;
    Some((name.to_owned(), labels, rest.strip_prefix(' ')?.parse().ok()?))
}

fn is_name(name: &str, colons: bool) -> bool {
    let legal = |it: char| it.is_ascii_alphanumeric() || it == '_' || (colons && it == ':');
    name.chars().all(legal) && name.starts_with(|it: char| !it.is_ascii_digit())
}

/// The text up to the closing quote, and what is behind that.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    loop {
        match letters.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match letters.next()?.1 {
                'n' => '\n',
                it @ ('"' | '\\') => it,
                _ => return None,
            }),
            (_, it) => value.push(it),
        }
    }
}
