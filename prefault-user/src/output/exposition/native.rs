//! Native histograms of schema 2: spans and deltas from the tool's own buckets, one to one.
//!
//! https://prometheus.io/docs/specs/native_histograms/

use prefault_ebpf::FIRST_SCHEMA_INDEX;
use prometheus_client::encoding::{NativeHistogram, NativeHistogramBuckets};

use crate::data::Histogram;

/// Schema 2: four buckets per factor of 2.
const SCHEMA: i32 = 2;

/// Breadth of the zero bucket, 2^-128, the default of the Go client. It says, too, that a histogram without observations is
/// a native one.
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// Sparse buckets: runs of non-empty ones, and the differences of successive counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sparse {
    spans: Vec<(i32, u32)>,
    deltas: Vec<i64>,
}

impl From<&Histogram> for Sparse {
    fn from(histogram: &Histogram) -> Self {
        let mut sparse = Self::default();
        // The first offset counts from bucket 0, further ones from the end of the span before.
        let mut end = 0;
        let mut previous = 0;
        for (index, &count) in (FIRST_SCHEMA_INDEX..).zip(&histogram.counts).filter(|(_, count)| **count > 0) {
            match sparse.spans.last_mut() {
                Some((_, length)) if index == end => *length += 1,
                _ => sparse.spans.push((index - end, 1)),
            }
            end = index + 1;
            sparse.deltas.push(count as i64 - previous);
            previous = count as i64;
        }
        sparse
    }
}

impl Sparse {
    /// What the encoder takes.
    pub fn native(&self) -> NativeHistogram<'_> {
        NativeHistogram {
            schema: SCHEMA,
            zero_threshold: ZERO_THRESHOLD,
            zero_count: 0,
            negative: NativeHistogramBuckets { spans: &[], deltas: &[] },
            positive: NativeHistogramBuckets { spans: &self.spans, deltas: &self.deltas },
            created: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use prefault_ebpf::N_BUCKETS;

    use super::*;

    #[test]
    fn runs_of_buckets_are_spans_and_counts_are_differences() {
        let mut histogram = Histogram::default();
        for (bucket, count) in [(0, 3), (1, 5), (103, 2), (104, 2), (N_BUCKETS - 1, 1)] {
            histogram.counts[bucket] = count;
        }
        let expected = Sparse { spans: vec![(-103, 2), (101, 2), (22, 1)], deltas: vec![3, 2, -3, 0, -1] };
        assert_eq!(Sparse::from(&histogram), expected);
        assert_eq!(Sparse::from(&Histogram::default()), Sparse::default());
    }
}
