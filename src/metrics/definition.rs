//! The declaration of a statistic: its names, its labels and its help text.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, Result,
    core::Collector,
    proto::{Counter, Gauge, Metric, MetricFamily, MetricType},
};

use super::latency::BUCKET_SECONDS;

/// The names and the help text of one statistic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Definition {
    /// The name of the family on the Prometheus page.
    pub(super) prometheus: &'static str,
    /// The name sent to statsd. Each `{}` stands for the value of a label, in their order.
    pub(super) statsd: &'static str,
    /// The names of the labels by whose values the statistic is counted, in alphabetical
    /// order.
    pub(super) labels: &'static [&'static str],
    /// The text behind `# HELP` on the Prometheus page.
    pub(super) help: &'static str,
}

/// A Prometheus collector that can be built from a [`Definition`].
pub(super) trait Statistic: Collector + Clone + 'static {
    fn build(definition: &Definition) -> Result<Self>;
}

/// Builds a statistic and adds it to `registry`.
pub(super) fn register<S: Statistic>(registry: &Registry, definition: &Definition) -> S {
    let statistic = S::build(definition).expect("the names in the table are legal");
    let collector = Box::new(statistic.clone());
    registry.register(collector).expect("the names in the table are unique");
    statistic
}

/// A family of one sample without labels.
pub(super) fn family(name: &str, help: &str, kind: MetricType, value: f64) -> MetricFamily {
    let mut metric = Metric::default();
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(vec![metric]);
    family
}

fn options(definition: &Definition) -> Opts {
    Opts::new(definition.prometheus, definition.help)
}

fn histogram_options(definition: &Definition) -> HistogramOpts {
    HistogramOpts::from(options(definition)).buckets(BUCKET_SECONDS.to_vec())
}

impl Statistic for IntCounter {
    fn build(definition: &Definition) -> Result<Self> {
        Self::with_opts(options(definition))
    }
}

impl Statistic for IntGauge {
    fn build(definition: &Definition) -> Result<Self> {
        Self::with_opts(options(definition))
    }
}

impl Statistic for Histogram {
    fn build(definition: &Definition) -> Result<Self> {
        Self::with_opts(histogram_options(definition))
    }
}

impl Statistic for IntCounterVec {
    fn build(definition: &Definition) -> Result<Self> {
        Self::new(options(definition), definition.labels)
    }
}

impl Statistic for IntGaugeVec {
    fn build(definition: &Definition) -> Result<Self> {
        Self::new(options(definition), definition.labels)
    }
}

impl Statistic for HistogramVec {
    fn build(definition: &Definition) -> Result<Self> {
        Self::new(histogram_options(definition), definition.labels)
    }
}

/// Declares a struct of statistics, one row for each field:
/// `field: type, optionally by "label", "label" => Prometheus name, statsd name, help text`.
macro_rules! statistics {
    ($(#[$attribute:meta])* struct $group:ident {
        $($field:ident: $kind:ident $(by $($label:literal),+)? =>
            $prometheus:literal, $statsd:literal, $help:literal;)+
    }) => {
        $(#[$attribute])*
        #[derive(Debug)]
        pub(super) struct $group {
            $(pub(super) $field: $kind,)+
        }

        impl $group {
            pub(super) const DEFINITIONS: &[Definition] = &[$(Definition {
                prometheus: $prometheus,
                statsd: $statsd,
                labels: &[$($($label),+)?],
                help: $help,
            },)+];

            /// Builds the statistics and adds them to `registry`.
            pub(super) fn register(registry: &Registry) -> Self {
                let mut definitions = Self::DEFINITIONS.iter();
                let mut next = || definitions.next().expect("each field has a definition");
                Self { $($field: register(registry, next()),)+ }
            }
        }
    };
}

pub(super) use statistics;
