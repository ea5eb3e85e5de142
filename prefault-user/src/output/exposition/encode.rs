//! Samples as the client library's encoders take them, whichever format they write.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::{
    Family, Kind, Sample, Value,
    buckets::{Buckets, seconds},
    native::Sparse,
};
use crate::data::Exported;

impl Family {
    /// Adds all its samples.
    pub fn encode(&self, encoder: &mut DescriptorEncoder<'_>, exported: &Exported, buckets: &Buckets) -> fmt::Result {
        let samples = self.samples(exported);
        // A single value that is not known is not there at all.
        if samples.is_empty() && self.is_optional() {
            return Ok(());
        }
        let kind = match self.kind() {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
            Kind::Info => MetricType::Info,
        };
        let (name, unit) = self.base_name();
        let mut metric = encoder.encode_descriptor(name, self.help(), unit.as_ref(), kind)?;
        samples.iter().try_for_each(|sample| self.encode_sample(&mut metric, sample, buckets))
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
            (Kind::Counter, Value::Count(count)) => metric.encode_counter::<NoLabelSet, _, f64>(&count, None),
            (Kind::Counter, Value::Number(number)) => metric.encode_counter::<NoLabelSet, _, f64>(&number, None),
            (_, Value::Count(count)) => metric.encode_gauge(&count),
            (_, Value::Number(number)) => metric.encode_gauge(&number),
        }
    }
}
