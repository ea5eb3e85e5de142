//! Metrics as Prometheus reads them: OpenMetrics text, the older text format, and protobuf with native histograms.
//!
//! Names, types and labels are those of docs/metrics.md. Data in, bytes out: who asked for which format is decided elsewhere.

mod buckets;
mod catalogue;
mod exemplars;
mod families;
mod labels;
mod native;
mod text;

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{self, DescriptorEncoder, prometheus_protobuf::EncodeError},
    registry::Registry,
};

pub use self::buckets::{Buckets, seconds};
pub use self::catalogue::FAMILIES;
pub use self::families::{Family, Kind, Sample, Value};
use crate::data::Exported;

/// Content type of [`openmetrics`].
pub const OPENMETRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Content type of [`text`].
pub const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Content type of [`protobuf`].
pub const PROTOBUF_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// OpenMetrics text 1.0.0, with classic histograms.
///
/// # Errors
/// Only if the encoder does, which no value is known to make it do.
pub fn openmetrics(exported: &Arc<Exported>, buckets: &Buckets) -> Result<String, fmt::Error> {
    let mut openmetrics = String::new();
    encoding::text::encode(&mut openmetrics, &registry(exported, buckets, true))?;
    Ok(openmetrics)
}

/// The text format 0.0.4, with classic histograms and without exemplars: what node_exporter's textfile collector and promtool read.
///
/// # Errors
/// As [`openmetrics`].
pub fn text(exported: &Arc<Exported>, buckets: &Buckets) -> Result<String, fmt::Error> {
    let mut openmetrics = String::new();
    encoding::text::encode(&mut openmetrics, &registry(exported, buckets, false))?;
    Ok(text::from_openmetrics(&openmetrics))
}

/// Length-delimited protobuf messages, with native and classic histograms.
///
/// # Errors
/// As [`openmetrics`].
pub fn protobuf(exported: &Arc<Exported>, buckets: &Buckets) -> Result<Vec<u8>, EncodeError> {
    encoding::prometheus_protobuf::encode_to_vec(&registry(exported, buckets, true))
}

fn registry(exported: &Arc<Exported>, buckets: &Buckets, with_exemplars: bool) -> Registry {
    let mut registry = Registry::default();
    let scrape = Scrape { exported: Arc::clone(exported), buckets: buckets.clone(), with_exemplars };
    registry.register_collector(Box::new(scrape));
    registry
}

/// One scrape: the encoders take nothing but collectors.
#[derive(Debug)]
struct Scrape {
    exported: Arc<Exported>,
    buckets: Buckets,
    with_exemplars: bool,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let exemplars = if self.with_exemplars { &*self.exported.exemplars } else { &[] };
        FAMILIES.iter().try_for_each(|family| family.encode(&mut encoder, &self.exported, &self.buckets, exemplars))
    }
}
