//! Metrics for an OpenTelemetry collector: one request of OTLP, with exponential histograms of the tool's own buckets.
//!
//! https://opentelemetry.io/docs/specs/otel/metrics/data-model/. Names, units and attributes are those of docs/metrics.md, without the
//! suffixes of Prometheus. Everything is cumulative since measuring began.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, HistogramDataPoint, Metric,
        NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exponential_histogram_data_point::Buckets, metric::Data,
        number_data_point,
    },
    resource::v1::Resource,
};
use prefault_ebpf::{FIRST_SCHEMA_INDEX, N_ROUND_BUCKETS, upper_bound_of_rounds};
use prost::Message as _;

use super::exposition::{FAMILIES, Family, Kind, Sample, Value};
use crate::data::{Exported, Histogram};

/// Four buckets per factor of 2, as schema 2 of Prometheus.
const SCALE: i32 = 2;

const NAME: &str = "prefault";

/// The request, encoded.
pub fn request(exported: &Exported) -> Vec<u8> {
    let times = Times { begin: exported.begin_unix_ns, now: exported.begin_unix_ns + exported.uptime_ns };
    let metrics = FAMILIES.iter().filter_map(|family| metric(family, exported, times)).collect();
    let scope = InstrumentationScope {
        name: NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    };
    let resource = [
        ("service.name", NAME),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("os.type", "linux"),
        ("os.version", &exported.kernel),
    ];
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes: attributes(&resource), ..Default::default() }),
            scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics, ..Default::default() }],
            ..Default::default()
        }],
    };
    request.encode_to_vec()
}

/// In nanoseconds of the Unix clock.
#[derive(Clone, Copy)]
struct Times {
    begin: u64,
    now: u64,
}

/// A family as a metric, `None` if it has no samples.
fn metric(family: &Family, exported: &Exported, times: Times) -> Option<Metric> {
    let samples = family.samples(exported);
    let temporality = AggregationTemporality::Cumulative as i32;
    let (name, unit) = family.base_name();
    let numbers = || samples.iter().map(|sample| number(sample, times)).collect();
    let data = match family.kind() {
        Kind::Counter => {
            Data::Sum(Sum { data_points: numbers(), aggregation_temporality: temporality, is_monotonic: true })
        }
        Kind::Gauge | Kind::Info => Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Histogram if samples.iter().any(|sample| matches!(sample.value, Value::Rounds(_))) => {
            Data::Histogram(opentelemetry_proto::tonic::metrics::v1::Histogram {
                data_points: samples.iter().filter_map(|sample| rounds(sample, times)).collect(),
                aggregation_temporality: temporality,
            })
        }
        Kind::Histogram => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: samples.iter().filter_map(|sample| histogram(sample, times)).collect(),
            aggregation_temporality: temporality,
        }),
    };
    // An info metric is known by its suffix only.
    let suffix = if family.kind() == Kind::Info { "_info" } else { "" };
    (!samples.is_empty()).then(|| Metric {
        name: format!("{name}{suffix}"),
        description: family.help().to_owned(),
        unit: match unit.as_ref().map(|unit| unit.as_str()) {
            Some("seconds") => "s",
            Some("bytes") => "By",
            _ => "",
        }
        .to_owned(),
        data: Some(data),
        ..Default::default()
    })
}

fn number(sample: &Sample<'_>, times: Times) -> NumberDataPoint {
    let value = match sample.value {
        Value::Count(count) => number_data_point::Value::AsInt(count as i64),
        Value::Number(number) => number_data_point::Value::AsDouble(number),
        Value::Latency(histogram) => number_data_point::Value::AsInt(histogram.count() as i64),
        Value::Rounds(rounds) => number_data_point::Value::AsInt(rounds.count() as i64),
    };
    NumberDataPoint {
        attributes: attributes(&sample.labels),
        start_time_unix_nano: times.begin,
        time_unix_nano: times.now,
        value: Some(value),
        ..Default::default()
    }
}

fn histogram(sample: &Sample<'_>, times: Times) -> Option<ExponentialHistogramDataPoint> {
    let Value::Latency(histogram) = sample.value else { return None };
    Some(ExponentialHistogramDataPoint {
        attributes: attributes(&sample.labels),
        start_time_unix_nano: times.begin,
        time_unix_nano: times.now,
        count: histogram.count(),
        sum: Some(super::exposition::seconds(histogram.sum_ns)),
        scale: SCALE,
        positive: Some(buckets(histogram)),
        ..Default::default()
    })
}

fn rounds(sample: &Sample<'_>, times: Times) -> Option<HistogramDataPoint> {
    let Value::Rounds(rounds) = sample.value else { return None };
    Some(HistogramDataPoint {
        attributes: attributes(&sample.labels),
        start_time_unix_nano: times.begin,
        time_unix_nano: times.now,
        count: rounds.count(),
        sum: Some(rounds.sum as f64),
        bucket_counts: rounds.counts.to_vec(),
        explicit_bounds: (0..N_ROUND_BUCKETS).filter_map(upper_bound_of_rounds).map(|bound| bound as f64).collect(),
        ..Default::default()
    })
}

/// All buckets from the first to the last that is not empty. Here bucket i begins at 2^(i/4), where Prometheus' ends.
fn buckets(histogram: &Histogram) -> Buckets {
    let Some(first) = histogram.counts.iter().position(|&count| count > 0) else { return Buckets::default() };
    let last = histogram.counts.iter().rposition(|&count| count > 0).unwrap_or(first);
    Buckets { offset: FIRST_SCHEMA_INDEX - 1 + first as i32, bucket_counts: histogram.counts[first..=last].to_vec() }
}

fn attributes(labels: &[(&str, &str)]) -> Vec<KeyValue> {
    let attribute = |&(key, value): &(&str, &str)| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) }),
        ..Default::default()
    };
    labels.iter().map(attribute).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_begin_where_those_of_prometheus_end() {
        let mut histogram = Histogram::default();
        // From 2^-0.25 to 1 s, and from 1 s to 2^0.25 s: numbers -1 and 0 of OTLP.
        histogram.counts[103] = 2;
        histogram.counts[104] = 3;
        histogram.counts[106] = 1;
        assert_eq!(buckets(&histogram), Buckets { offset: -1, bucket_counts: vec![2, 3, 0, 1] });
        assert_eq!(buckets(&Histogram::default()), Buckets::default());
    }
}
