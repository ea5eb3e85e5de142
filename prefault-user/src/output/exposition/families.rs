//! What a metric is, and how its samples are read out of what is exported.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use super::{
    buckets::{Buckets, seconds},
    exemplars,
    labels::Set,
    native::Sparse,
};
use prefault_ebpf::{PathLedger, Rounds, upper_bound_of_rounds};

use crate::data::{
    Exemplar, Exported, FilesystemInterval, Histogram, Labels, LossUnit, PathStats, Points, Series, SiteCount,
    silence::{SILENCES, SilenceRow},
};

/// One sample of a family.
#[derive(Clone, Debug)]
pub struct Sample<'a> {
    /// Names and values of its labels.
    pub labels: Set<'a>,
    /// Its value.
    pub value: Value<'a>,
}

/// The value of a sample.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A whole number.
    Count(u64),
    /// Any number.
    Number(f64),
    /// Latencies.
    Latency(&'a Histogram),
    /// Numbers of rounds.
    Rounds(&'a Rounds),
}

/// A metric family.
pub struct Family {
    /// Name of its samples, but for the suffixes of histograms.
    pub name: &'static str,
    pub(super) help: &'static str,
    pub(super) values: Values,
}

/// What a family is, for documentation and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Latencies.
    Histogram,
    /// Always 1; the labels say it.
    Info,
}

/// One of several values of a family, and the label that tells it from the others, if there are others.
pub(super) struct Labelled<F> {
    pub(super) label: Option<(&'static str, &'static str)>,
    /// What it is, in a sentence.
    pub(super) help: &'static str,
    pub(super) value: F,
}

/// Reads a counter of a filesystem.
pub(super) type Count = Box<dyn Fn(&FilesystemInterval) -> u64 + Send + Sync>;
/// Reads latencies of a filesystem.
pub(super) type Latency = Box<dyn Fn(&FilesystemInterval) -> &Histogram + Send + Sync>;
/// Reads numbers of rounds of a filesystem.
pub(super) type RoundsOf = Box<dyn Fn(&FilesystemInterval) -> &Rounds + Send + Sync>;
/// Reads a counter of a write path.
pub(super) type PathCount = fn(&PathLedger) -> u64;

/// How the samples of a family are read.
pub(super) enum Values {
    /// Counters per filesystem.
    Counters(Vec<Labelled<Count>>),
    /// Histograms per filesystem.
    Latencies(Vec<Labelled<Latency>>),
    /// Numbers of rounds per filesystem.
    Rounds(RoundsOf),
    /// Counters per filesystem and path.
    PathCounters(Vec<Labelled<PathCount>>),
    /// One counter per filesystem and path, absent without a limit to the cost.
    PathCounterOfGaps(PathCount),
    /// One gauge per filesystem and path.
    PathGauge(PathCount),
    /// The mode of each path of each filesystem.
    PathMode,
    /// Call sites by operation and mechanism.
    Sites,
    /// Loss by cause.
    Loss,
    /// Times in which points were silenced, by cause.
    Silenced,
    /// One counter, absent if its value is not known.
    Counter(fn(&Exported) -> Option<f64>),
    /// What the points add to latencies, by what they are.
    Floor,
    /// One gauge, absent if its value is not known.
    Gauge(fn(&Exported) -> Option<f64>),
    /// One label that says something of the whole.
    Info(&'static str, fn(&Exported) -> &str),
}

impl Family {
    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.values {
            Values::Counters(_)
            | Values::PathCounters(_)
            | Values::PathCounterOfGaps(_)
            | Values::Loss
            | Values::Silenced
            | Values::Counter(_) => Kind::Counter,
            Values::PathGauge(_) | Values::Sites | Values::Floor | Values::Gauge(_) => Kind::Gauge,
            Values::Latencies(_) | Values::Rounds(_) => Kind::Histogram,
            Values::PathMode | Values::Info(..) => Kind::Info,
        }
    }

    /// Names of its labels, those that a histogram adds and `mountpoint` excepted.
    pub fn labels(&self) -> Vec<&'static str> {
        let of_first = |label: Option<&(&'static str, &'static str)>| label.map(|(name, _)| *name);
        let (common, own): (&[&str], _) = match &self.values {
            Values::Counters(values) => (&["fstype", "device"], of_first(values[0].label.as_ref())),
            Values::Latencies(values) => (&["fstype", "device"], of_first(values[0].label.as_ref())),
            Values::Rounds(_) => (&["fstype", "device"], None),
            Values::PathCounters(values) => (&["fstype", "device", "path"], of_first(values[0].label.as_ref())),
            Values::PathCounterOfGaps(_) | Values::PathGauge(_) => (&["fstype", "device", "path"], None),
            Values::PathMode => (&["fstype", "device", "path", "mode"], None),
            Values::Sites => (&["operation", "mechanism"], None),
            Values::Loss | Values::Silenced => (&["cause"], None),
            Values::Floor => (&["points"], None),
            Values::Info("version", _) => (&["version"], None),
            Values::Info(..) => (&["release"], None),
            Values::Counter(_) | Values::Gauge(_) => (&[], None),
        };
        common.iter().copied().chain(own).collect()
    }

    /// Name and unit as OpenMetrics and OTLP take them, without the suffix of its kind.
    pub fn base_name(&self) -> (&'static str, Option<Unit>) {
        let suffix = match self.kind() {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        let name = self.name.strip_suffix(suffix).unwrap_or(self.name);
        // Units are a word of their own there.
        let units = [("_seconds", Unit::Seconds), ("_bytes", Unit::Bytes)];
        let found = units.into_iter().find_map(|(suffix, unit)| Some((name.strip_suffix(suffix)?, Some(unit))));
        found.unwrap_or((name, None))
    }

    /// What it is for, a sentence.
    pub fn help(&self) -> &'static str {
        self.help
    }

    /// The values of its own label, if it has one, and what each stands for.
    pub fn label_values(&self) -> Vec<(&'static str, &'static str)> {
        fn of<F>(values: &[Labelled<F>]) -> Vec<(&'static str, &'static str)> {
            values.iter().filter_map(|value| Some((value.label?.1, value.help))).collect()
        }
        match &self.values {
            Values::Counters(values) => of(values),
            Values::Latencies(values) => of(values),
            Values::PathCounters(values) => of(values),
            _ => Vec::new(),
        }
    }

    /// All its samples; none if their value is not known.
    pub fn samples<'a>(&self, exported: &'a Exported) -> Vec<Sample<'a>> {
        match &self.values {
            Values::Counters(values) => of_filesystems(exported, values, |value, of| Value::Count(value(&of.totals))),
            Values::Latencies(values) => {
                of_filesystems(exported, values, |value, of| Value::Latency(value(&of.totals)))
            }
            Values::Rounds(rounds) => {
                let sample =
                    |of: &'a Series| Sample { labels: of.labels.set(), value: Value::Rounds(rounds(&of.totals)) };
                exported.filesystems.iter().map(sample).collect()
            }
            Values::PathCounters(values) => {
                let of_value = |&Labelled { label, value, .. }: &Labelled<PathCount>| {
                    of_paths(exported, move |labels, path| {
                        let path_label = [("path", &*path.function)];
                        let all: Vec<_> = path_label.into_iter().chain(label).collect();
                        Sample { labels: labels.with(&all), value: Value::Count(value(&path.ledger)) }
                    })
                };
                values.iter().flat_map(of_value).collect()
            }
            Values::PathCounterOfGaps(_) if exported.limited.is_none() => Vec::new(),
            Values::PathCounterOfGaps(value) | Values::PathGauge(value) => of_paths(exported, |labels, path| Sample {
                labels: labels.with(&[("path", &path.function)]),
                value: Value::Count(value(&path.ledger)),
            }),
            Values::PathMode => of_paths(exported, |labels, path| Sample {
                labels: labels.with(&[("path", &path.function), ("mode", path.mode().name())]),
                value: Value::Count(1),
            }),
            Values::Sites => {
                let labels = |site: &'a SiteCount| {
                    vec![("operation", site.operation.name()), ("mechanism", site.mechanism.name())]
                };
                let sample = |site| Sample { labels: labels(site), value: Value::Count(site.count) };
                exported.sites.iter().map(sample).collect()
            }
            Values::Loss => {
                let counted = exported.loss.entries().filter(|entry| entry.unit == LossUnit::Times);
                counted
                    .map(|entry| Sample { labels: vec![("cause", entry.key)], value: Value::Count(entry.count) })
                    .collect()
            }
            Values::Silenced => {
                let times = SILENCES.iter().zip(exported.loss.silenced_ns);
                let sample = |(row, ns): (&SilenceRow, u64)| Sample {
                    labels: vec![("cause", row.key)],
                    value: Value::Number(seconds(ns)),
                };
                times.map(sample).collect()
            }
            Values::Floor => {
                let floor = exported.floor.unwrap_or_default();
                let known = [(Points::Jumps, floor.jump_ns), (Points::Traps, floor.trap_ns)].into_iter();
                let known = known.filter_map(|(points, ns)| Some((points.name(), Value::Number(seconds(ns?)))));
                known.map(|(points, value)| Sample { labels: vec![("points", points)], value }).collect()
            }
            Values::Counter(value) | Values::Gauge(value) => {
                let sample = |value| Sample { labels: Vec::new(), value: Value::Number(value) };
                value(exported).map(sample).into_iter().collect()
            }
            Values::Info(label, value) => {
                vec![Sample { labels: vec![(label, value(exported))], value: Value::Count(1) }]
            }
        }
    }

    /// Adds all its samples; `exemplars` are those of all families.
    pub fn encode(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        exported: &Exported,
        buckets: &Buckets,
        exemplars: &[Exemplar],
    ) -> fmt::Result {
        let samples = self.samples(exported);
        // A single value that is not known is not there at all.
        if samples.is_empty() && matches!(self.values, Values::Counter(_) | Values::Floor | Values::Gauge(_)) {
            return Ok(());
        }
        let kind = match self.kind() {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
            Kind::Info => MetricType::Info,
        };
        let (name, unit) = self.base_name();
        let mut metric = encoder.encode_descriptor(name, self.help, unit.as_ref(), kind)?;
        samples.iter().try_for_each(|sample| match exemplars::of(exemplars, self.name, sample) {
            Some((count, exemplar)) => exemplars::encode(&mut metric.encode_family(&sample.labels)?, count, exemplar),
            None => self.encode_sample(&mut metric, sample, buckets),
        })
    }

    fn encode_sample(&self, metric: &mut MetricEncoder<'_>, sample: &Sample<'_>, buckets: &Buckets) -> fmt::Result {
        if self.kind() == Kind::Info {
            return metric.encode_info(&sample.labels);
        }
        // A family of no labels would be written with empty braces.
        if sample.labels.is_empty() {
            return self.encode_value(metric, sample.value, buckets);
        }
        self.encode_value(&mut metric.encode_family(&sample.labels)?, sample.value, buckets)
    }

    fn encode_value(&self, metric: &mut MetricEncoder<'_>, value: Value<'_>, buckets: &Buckets) -> fmt::Result {
        match (self.kind(), value) {
            (_, Value::Latency(histogram)) => metric.encode_histogram_with_native::<NoLabelSet>(
                seconds(histogram.sum_ns),
                histogram.count(),
                &buckets.of(histogram),
                None,
                Sparse::from(histogram).native(),
            ),
            (_, Value::Rounds(rounds)) => {
                let bound = |bucket| upper_bound_of_rounds(bucket).map_or(f64::INFINITY, |bound| bound as f64);
                let buckets: Vec<(f64, u64)> =
                    rounds.counts.iter().enumerate().map(|(bucket, &count)| (bound(bucket), count)).collect();
                metric.encode_histogram::<NoLabelSet>(rounds.sum as f64, rounds.count(), &buckets, None)
            }
            (Kind::Counter, Value::Count(count)) => metric.encode_counter::<NoLabelSet, _, f64>(&count, None),
            (Kind::Counter, Value::Number(number)) => metric.encode_counter::<NoLabelSet, _, f64>(&number, None),
            (_, Value::Count(count)) => metric.encode_gauge(&count),
            (_, Value::Number(number)) => metric.encode_gauge(&number),
        }
    }
}

/// One sample for each value of each filesystem.
fn of_filesystems<'a, F>(
    exported: &'a Exported,
    values: &[Labelled<F>],
    read: impl Fn(&F, &'a Series) -> Value<'a>,
) -> Vec<Sample<'a>> {
    let mut samples = Vec::new();
    for of in &exported.filesystems {
        samples.extend(values.iter().map(|Labelled { label, value, .. }| {
            let labels = of.labels.with(label.as_slice());
            Sample { labels, value: read(value, of) }
        }));
    }
    samples
}

/// One sample for each path of each filesystem.
fn of_paths<'a>(exported: &'a Exported, sample: impl Fn(&'a Labels, &'a PathStats) -> Sample<'a>) -> Vec<Sample<'a>> {
    let mut samples = Vec::new();
    for of in &exported.filesystems {
        samples.extend(of.totals.active_paths().map(|path| sample(&of.labels, path)));
    }
    samples
}
