//! What every statistic of this process is marked with.

use prometheus::proto::{LabelPair, Metric, MetricFamily};

use super::series::push_label;

/// The labels that statistics have by themselves, and those of Prometheus.
const OWN: [&str; 9] =
    ["domain", "key1", "key2", "grpc_method", "err_type", "policy", "version", "le", "quantile"];

/// Tags of all statistics, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Vec<Tag>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tag {
    /// Fit for statsd.
    key: String,
    /// As it was given.
    value: String,
}

impl Tags {
    /// These tags: keys, and values, which are not empty.
    ///
    /// # Errors
    ///
    /// If two keys are the same, or look the same to statsd or Prometheus.
    pub fn new<'t>(pairs: impl IntoIterator<Item = (&'t str, &'t str)>) -> Result<Self, String> {
        let tag = |(key, value): (&str, &str)| Tag { key: clean(key), value: value.to_owned() };
        let mut tags: Vec<_> = pairs.into_iter().map(tag).collect();
        tags.sort();
        let mut labels: Vec<_> = tags.iter().map(|it| label_name(&it.key)).collect();
        labels.sort();
        match labels.windows(2).find(|it| it[0] == it[1]) {
            Some(twice) => Err(format!("expected each key once, but two are {}", twice[0])),
            None => Ok(Self(tags)),
        }
    }

    /// Keys and values, fit for statsd, in order of the keys.
    pub fn clean(&self) -> impl Iterator<Item = (&str, String)> {
        self.0.iter().map(|it| (it.key.as_str(), clean(&it.value)))
    }

    /// The labels, as Prometheus' text format has them between braces.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for Tag { key, value } in &self.0 {
            if !text.is_empty() {
                text.push(',');
            }
            push_label(&mut text, &label_name(key), value);
        }
        text
    }

    /// Adds labels of these names to all `families`.
    pub(super) fn label(&self, families: &mut [MetricFamily]) {
        if self.0.is_empty() {
            return;
        }
        let label = |it: &Tag| {
            let mut label = LabelPair::default();
            label.set_name(label_name(&it.key));
            label.set_value(it.value.clone());
            label
        };
        let labels: Vec<_> = self.0.iter().map(label).collect();
        let add = |metric: &mut Metric| {
            let own = metric.take_label().into_iter();
            metric.set_label(own.chain(labels.iter().cloned()).collect());
        };
        for family in families {
            family.mut_metric().iter_mut().for_each(add);
        }
    }
}

/// Without what separates names, values and tags in statsd and in its dialects.
fn clean(text: &str) -> String {
    text.replace(|it: char| it.is_control() || ".:|,#;=[]".contains(it), "_")
}

/// The label that a tag is for Prometheus: one that it allows, and that means
/// nothing else.
fn label_name(key: &str) -> String {
    let legal = |it: char| it.is_ascii_alphanumeric() || it == '_';
    let name = key.replace(|it| !legal(it), "_");
    let taken = OWN.contains(&name.as_str()) || name.starts_with("__");
    if taken || name.starts_with(|it: char| it.is_ascii_digit()) {
        return format!("tag_{name}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_in_order_and_fit_for_statsd() {
        let tags = Tags::new([("foo", "bar"), ("a", "1.2:3|4"), ("b.c", "x\ny,z#[=];")]).unwrap();
        let expected =
            [("a", "1_2_3_4"), ("b_c", "x_y_z_____"), ("foo", "bar")].map(|(k, v)| (k, v.into()));
        assert_eq!(tags.clean().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn no_label_is_illegal_or_there_twice() {
        for (key, expected) in [
            ("env", "env"),
            ("pod-name", "pod_name"),
            ("ä.b", "tag___b"),
            ("1st", "tag_1st"),
            ("domain", "tag_domain"),
            ("version", "tag_version"),
            ("le", "tag_le"),
            ("__name__", "tag___name__"),
        ] {
            assert_eq!(label_name(&clean(key)), expected);
        }
        for pair in [["a", "a"], ["a.b", "a-b"], ["le", "tag_le"]] {
            assert!(Tags::new(pair.map(|it| (it, "x"))).is_err(), "{pair:?}");
        }
    }
}
