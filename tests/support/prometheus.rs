//! A strict parser of the Prometheus text format.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use crate::http::{self, Reply};

pub type Labels = BTreeMap<String, String>;

#[derive(Debug)]
pub struct Metrics {
    pub samples: BTreeMap<(String, Labels), f64>,
}

impl Metrics {
    pub fn scrape(server: SocketAddr, path: &str) -> Self {
        Self::from_reply(&http::get(server, path, &[]))
    }

    /// The metrics on a page.
    pub fn from_reply(reply: &Reply) -> Self {
        let format = "text/plain; version=0.0.4; charset=utf-8";
        assert_eq!(reply.header("content-type").unwrap(), format);
        Self::parse(std::str::from_utf8(&reply.body).unwrap())
    }

    /// The value of the sample with exactly these labels.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or_else(|| panic!("{name} {labels:?} is missing"))
    }

    /// [`Self::value`], if there is such a sample.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut expected = Labels::new();
        for (label, value) in labels {
            expected.insert((*label).to_owned(), (*value).to_owned());
        }
        self.samples.get(&(name.to_owned(), expected)).copied()
    }

    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let mut samples = BTreeMap::new();
        let (mut families, mut family, mut kind) = (BTreeSet::new(), "", "");
        // `lines` would also end a line at a carriage return.
        for line in text.strip_suffix('\n').unwrap().split('\n') {
            if let Some(help) = line.strip_prefix("# HELP ") {
                assert!(help.split_once(' ').unwrap().1.ends_with('.'), "{line:?}");
            } else if let Some(declaration) = line.strip_prefix("# TYPE ") {
                (family, kind) = declaration.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line:?}");
                assert!(families.insert(family), "{line:?}");
            } else {
                let sample = Sample::parse(line).unwrap_or_else(|| panic!("{line:?}"));
                let suffix = sample.name.strip_prefix(family);
                let suffix = suffix.unwrap_or_else(|| panic!("{line:?}"));
                let suffixes: &[_] =
                    if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.contains(&suffix), "{line:?}");
                let key = (sample.name, sample.labels);
                assert!(samples.insert(key, sample.value).is_none(), "twice: {line:?}");
            }
        }
        Self { samples }
    }
}

struct Sample {
    name: String,
    labels: Labels,
    value: f64,
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let end = line.find(['{', ' '])?;
        let (name, mut rest) = line.split_at(end);
        let mut labels = Labels::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            loop {
                let (label, quoted) = rest.split_once("=\"")?;
                let (value, after) = unquote(quoted)?;
                let is_new = labels.insert(label.to_owned(), value).is_none();
                if !is_new || label.contains(':') || !is_name(label) {
                    return None;
                }
                if let Some(next) = after.strip_prefix(',') {
                    rest = next;
                } else {
                    rest = after.strip_prefix('}')?;
                    break;
                }
            }
        }
        let value = rest.strip_prefix(' ')?.parse().ok()?;
        is_name(name).then(|| Self { name: name.to_owned(), labels, value })
    }
}

fn is_name(name: &str) -> bool {
    let legal = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    name.chars().all(legal) && !name.starts_with(|letter: char| letter.is_ascii_digit())
}

/// Splits `text` at the closing quote, and replaces the escapes before it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    loop {
        match letters.next()? {
            (index, '"') => return Some((value, &text[index + 1..])),
            (_, '\\') => match letters.next()?.1 {
                'n' => value.push('\n'),
                escaped @ ('"' | '\\') => value.push(escaped),
                _ => return None,
            },
            (_, letter) => value.push(letter),
        }
    }
}
