//! Tags that every statistic of this process has.

use prometheus::proto::{LabelPair, MetricFamily};

use super::label::push_label;

/// Label names that statistics or Prometheus itself use.
const RESERVED_LABELS: [&str; 11] = [
    "domain",
    "key1",
    "key2",
    "grpc_method",
    "err_type",
    "listener",
    "policy",
    "reason",
    "version",
    "le",
    "quantile",
];

/// The tags of all statistics, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Vec<Tag>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tag {
    /// Without characters that statsd reserves.
    key: String,
    /// Unchanged, as it was set.
    value: String,
}

impl Tags {
    /// Tags with these keys and values. Keys and values must not be empty.
    ///
    /// # Errors
    ///
    /// If two keys are equal, or become equal in statsd or Prometheus.
    pub fn new<'t>(pairs: impl IntoIterator<Item = (&'t str, &'t str)>) -> Result<Self, String> {
        let mut tags = Vec::new();
        let mut labels = Vec::new();
        for (key, value) in pairs {
            let key = clean(key);
            let label = label_name(&key);
            if labels.contains(&label) {
                return Err(format!("expected each key once, but two are {label}"));
            }
            labels.push(label);
            tags.push(Tag { key, value: value.to_owned() });
        }
        tags.sort();
        Ok(Self(tags))
    }

    /// Keys and values without characters that statsd reserves, in order of the keys.
    pub fn clean(&self) -> impl Iterator<Item = (&str, String)> {
        self.0.iter().map(|tag| (tag.key.as_str(), clean(&tag.value)))
    }

    /// The tags as labels in Prometheus' text format, without braces.
    pub(super) fn label_text(&self) -> String {
        let mut text = String::new();
        for Tag { key, value } in &self.0 {
            if !text.is_empty() {
                text.push(',');
            }
            push_label(&mut text, &label_name(key), value);
        }
        text
    }

    /// Adds the tags as labels to all statistics in `families`.
    pub(super) fn add_labels(&self, families: &mut [MetricFamily]) {
        let mut labels = Vec::new();
        for tag in &self.0 {
            let mut label = LabelPair::default();
            label.set_name(label_name(&tag.key));
            label.set_value(tag.value.clone());
            labels.push(label);
        }
        for family in families {
            for metric in family.mut_metric() {
                let mut all = metric.take_label();
                all.extend_from_slice(&labels);
                metric.set_label(all);
            }
        }
    }
}

/// Replaces the characters that separate names, values and tags in statsd and its
/// dialects.
fn clean(text: &str) -> String {
    text.replace(|c: char| c.is_control() || ".:|,#;=[]".contains(c), "_")
}

/// The Prometheus label of the tag `key`: a legal name that has no other meaning.
fn label_name(key: &str) -> String {
    let name = key.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "_");
    let is_reserved = RESERVED_LABELS.contains(&name.as_str()) || name.starts_with("__");
    if is_reserved || name.starts_with(|c: char| c.is_ascii_digit()) {
        return format!("tag_{name}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_sorted_and_without_reserved_characters() {
        let tags = Tags::new([("foo", "bar"), ("a", "1.2:3|4"), ("b.c", "x\ny,z#[=];")]).unwrap();
        let expected =
            [("a", "1_2_3_4"), ("b_c", "x_y_z_____"), ("foo", "bar")].map(|(k, v)| (k, v.into()));
        assert_eq!(tags.clean().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn labels_are_legal_and_unique() {
        for (key, expected) in [
            ("env", "env"),
            ("pod-name", "pod_name"),
            ("ä.b", "tag___b"),
            ("1st", "tag_1st"),
            ("domain", "tag_domain"),
            ("version", "tag_version"),
            ("le", "tag_le"),
            ("listener", "tag_listener"),
            ("reason", "tag_reason"),
            ("__name__", "tag___name__"),
        ] {
            assert_eq!(label_name(&clean(key)), expected);
        }
        for pair in [["a", "a"], ["a.b", "a-b"], ["le", "tag_le"]] {
            assert!(Tags::new(pair.map(|key| (key, "x"))).is_err(), "{pair:?}");
        }
    }
}
