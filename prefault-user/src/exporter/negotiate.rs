//! Which format a client gets, by its Accept header (RFC 9110, 12.5.1).

use std::sync::Arc;

use anyhow::Result;
use hyper::body::Bytes;

use crate::{
    data::Exported,
    output::exposition::{self, Buckets},
};

/// Formats of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format 0.0.4.
    Text,
    /// OpenMetrics text 1.0.0.
    OpenMetrics,
    /// Protobuf messages with native histograms.
    Protobuf,
}

impl Format {
    /// The one that the header wants most; of equal ones the first. Whoever wants none of them gets text.
    pub fn wanted(accept: &str) -> Self {
        let mut best = (0.0, Self::Text);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
            let parameter = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.trim().trim_matches('"'))
            };
            let weight = parameter("q").map_or(Some(1.0), |q| q.parse().ok());
            // What is no weight wants nothing.
            let weight = weight.filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(0.0);
            let is = |name, expected: &[&str]| parameter(name).is_none_or(|value| expected.contains(&value));
            let format = match &*media_type {
                "application/vnd.google.protobuf"
                    if parameter("proto") == Some("io.prometheus.client.MetricFamily")
                        && parameter("encoding") == Some("delimited") =>
                {
                    Self::Protobuf
                }
                "application/openmetrics-text" if is("version", &["1.0.0", "0.0.1"]) => Self::OpenMetrics,
                "text/plain" if is("version", &["0.0.4"]) => Self::Text,
                "text/*" | "*/*" => Self::Text,
                _ => continue,
            };
            if weight > best.0 {
                best = (weight, format);
            }
        }
        best.1
    }

    /// What is answered as Content-Type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => exposition::TEXT_TYPE,
            Self::OpenMetrics => exposition::OPENMETRICS_TYPE,
            Self::Protobuf => exposition::PROTOBUF_TYPE,
        }
    }

    /// The metrics in it.
    ///
    /// # Errors
    /// Only if the encoder fails, which no value is known to make it do.
    pub fn encode(self, exported: &Arc<Exported>, buckets: &Buckets) -> Result<Bytes> {
        Ok(match self {
            Self::Text => exposition::text(exported, buckets)?.into(),
            Self::OpenMetrics => exposition::openmetrics(exported, buckets)?.into(),
            Self::Protobuf => exposition::protobuf(exported, buckets)?.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::source::changed;

    #[test]
    fn clients_get_what_they_want_most() {
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        // What Prometheus 2.53 sends with and without native histograms, and Prometheus 3 without.
        let native = format!(
            "{protobuf};q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,\
             application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        );
        for (accept, expected) in [
            (&*native, Format::Protobuf),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.2", Format::OpenMetrics),
            ("text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.8", Format::Text),
            ("*/*", Format::Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text),
            ("", Format::Text),
            ("application/openmetrics-text; version=\"1.0.0\"", Format::OpenMetrics),
            ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", Format::Text),
            ("application/vnd.google.protobuf", Format::Text),
            ("application/vnd.google.protobuf;proto=other;encoding=delimited", Format::Text),
            ("application/openmetrics-text;q=0, text/plain;q=0.1", Format::Text),
            (";;;,,=;q=,application/openmetrics-text;q=nan", Format::Text),
            ("application/openmetrics-text;q=0.9,text/plain;q=2,*/*;q=inf", Format::OpenMetrics),
        ] {
            assert_eq!(Format::wanted(accept), expected, "{accept}");
        }
    }

    #[test]
    fn nothing_is_wanted_more_than_what_is_wanted_first_and_fully() {
        const EXAMPLE: &[u8] =
            b"text/plain;version=0.0.4;q=0.9, application/openmetrics-text;version=\"1.0.0\";q=0.8,*/*;q=0.1";
        bolero::check!().for_each(|input: &[u8]| {
            let rest = changed(EXAMPLE, input);
            let accept = format!("application/openmetrics-text,{}", String::from_utf8_lossy(&rest));
            assert_eq!(Format::wanted(&accept), Format::OpenMetrics, "{accept}");
            let _format = Format::wanted(&String::from_utf8_lossy(&rest));
        });
    }
}
