//! Latency histograms: difference, sum, mean and quantiles.
//!
//! The bounds come from the ABI and are those the kernel side counted by; how a histogram is drawn is the outputs'
//! matter.

pub use prefault_ebpf::Histogram;
use prefault_ebpf::{N_BUCKETS, upper_bound_ns};

/// One bucket of a histogram, or several adjacent ones taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Exclusive lower bound in nanoseconds, 0 for the first bucket, which does hold a latency of 0.
    pub lower_ns: u64,
    /// Inclusive upper bound in nanoseconds, `None` for the last bucket, which has none.
    pub upper_ns: Option<u64>,
    /// Number of latencies between them.
    pub count: u64,
}

/// What follows from a histogram.
pub trait Quantiles {
    /// Mean latency in nanoseconds, `None` if there is no latency.
    fn mean_ns(&self) -> Option<f64>;

    /// The latency in nanoseconds below which a fraction `q` of all lie; `None` if there is no latency, or if `q` is
    /// not in 0 to 1.
    ///
    /// Inside a bucket latencies are taken to be spread evenly on a logarithmic scale, except in the first bucket, which
    /// begins at 0 and has no such scale: there it is a linear one. In the last bucket, which has no end, the result is
    /// where it begins.
    fn quantile(&self, q: f64) -> Option<f64>;

    /// The bucket at `index`, with its bounds.
    ///
    /// Panics if there are not that many buckets.
    fn bucket(&self, index: usize) -> Bucket;

    /// All buckets that are not empty, shortest latencies first.
    fn non_empty_buckets(&self) -> impl Iterator<Item = Bucket>;
}

impl Quantiles for Histogram {
    fn mean_ns(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.sum_ns as f64 / count as f64)
    }

    fn quantile(&self, q: f64) -> Option<f64> {
        if !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = q * self.count() as f64;
        let mut below = 0;
        let mut result = None;
        for (index, count) in self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0) {
            // Rounding may leave the rank above the last cumulative count; then the last bucket's end is the result.
            let fraction = ((rank - below as f64) / count as f64).clamp(0.0, 1.0);
            result = Some(interpolate(self.bucket(index), fraction));
            below += count;
            if below as f64 >= rank {
                break;
            }
        }
        result
    }

    fn bucket(&self, index: usize) -> Bucket {
        Bucket { lower_ns: lower_bound_ns(index), upper_ns: upper_bound_ns(index), count: self.counts[index] }
    }

    fn non_empty_buckets(&self) -> impl Iterator<Item = Bucket> {
        (0..N_BUCKETS).map(|index| self.bucket(index)).filter(|bucket| bucket.count > 0)
    }
}

/// The exclusive lower bound of a bucket in nanoseconds: the upper bound of the one before it, 0 for the first.
pub fn lower_bound_ns(bucket: usize) -> u64 {
    bucket.checked_sub(1).and_then(upper_bound_ns).unwrap_or(0)
}

fn interpolate(bucket: Bucket, fraction: f64) -> f64 {
    let lower = bucket.lower_ns as f64;
    match bucket.upper_ns.map(|upper_ns| upper_ns as f64) {
        None => lower,
        Some(upper) if bucket.lower_ns == 0 => upper * fraction,
        Some(upper) => lower * (upper / lower).powf(fraction),
    }
}

#[cfg(test)]
mod tests {
    use prefault_ebpf::bucket_of;

    use super::*;

    /// Latencies in nanoseconds, each with how often it occurs.
    type Latencies<'a> = &'a [(u64, u64)];

    fn histogram(latencies: Latencies) -> Histogram {
        let mut histogram = Histogram::default();
        for (ns, count) in latencies {
            histogram.counts[bucket_of(*ns)] += count;
            histogram.sum_ns += ns * count;
        }
        histogram
    }

    fn bound(bucket: usize) -> f64 {
        upper_bound_ns(bucket).expect("bounded") as f64
    }

    #[test]
    fn an_empty_histogram_has_neither_mean_nor_quantile() {
        let empty = Histogram::default();
        assert_eq!(empty.count(), 0);
        assert_eq!(empty.mean_ns(), None);
        for q in [0.0, 0.5, 1.0] {
            assert_eq!(empty.quantile(q), None);
        }
        assert_eq!(empty.non_empty_buckets().count(), 0);
    }

    #[test]
    fn quantiles_at_the_seams() {
        let first_two = [(0, 10), (18, 10)];
        let far_apart = [(100, 50), (1_000_000, 50)];
        let (near, far) = (bucket_of(100), bucket_of(1_000_000));
        let forever = [(1 << 60, 4)];
        let cases: [(&str, Latencies, f64, f64); 12] = [
            ("the first bucket begins at 0", &first_two, 0.0, 0.0),
            ("half of the first bucket, linear", &first_two, 0.25, bound(0) / 2.0),
            ("the end of the first bucket", &first_two, 0.5, bound(0)),
            ("half of the second bucket, geometric", &first_two, 0.75, (bound(0) * bound(1)).sqrt()),
            ("the end of the second bucket", &first_two, 1.0, bound(1)),
            ("the begin of the first that is not empty", &far_apart, 0.0, bound(near - 1)),
            ("empty buckets between: the end of the lower", &far_apart, 0.5, bound(near)),
            ("empty buckets between: just above", &far_apart, 0.5 + 1e-12, bound(far - 1)),
            ("the end of the last that is not empty", &far_apart, 1.0, bound(far)),
            ("the last bucket: its begin", &forever, 0.0, bound(N_BUCKETS - 2)),
            ("the last bucket: its begin for all of it", &forever, 1.0, bound(N_BUCKETS - 2)),
            ("one latency, half way", &[(20, 1)], 0.5, (bound(0) * bound(1)).sqrt()),
        ];
        for (case, latencies, q, expected) in cases {
            let quantile = histogram(latencies).quantile(q).expect("not empty");
            assert!((quantile - expected).abs() <= expected * 1e-9, "{case}: {quantile}, expected {expected}");
        }
    }

    #[test]
    fn a_quantile_outside_0_to_1_is_none() {
        let one = histogram(&[(100, 1)]);
        for q in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(one.quantile(q), None, "{q}");
        }
    }

    #[test]
    fn a_quantile_lies_in_the_bucket_of_the_exact_one() {
        let latencies: Vec<(u64, u64)> = (0..1000).map(|n| (50 + n * n, 1)).collect();
        let histogram = histogram(&latencies);
        for permille in 1..=1000u64 {
            let exact = latencies[permille as usize - 1].0;
            let quantile = histogram.quantile(permille as f64 / 1000.0).expect("not empty");
            let bucket = histogram.bucket(bucket_of(exact));
            assert!(quantile >= bucket.lower_ns as f64, "{permille}: {quantile} below {bucket:?}");
            assert!(quantile <= bucket.upper_ns.expect("bounded") as f64 + 1e-6, "{permille}: {quantile}");
        }
    }

    #[test]
    fn the_mean_is_exact() {
        assert_eq!(histogram(&[(100, 3), (500, 1)]).mean_ns(), Some(200.0));
    }

    #[test]
    fn what_was_added_is_taken_away_by_the_difference() {
        let (earlier, later) = (histogram(&[(100, 3), (0, 1)]), histogram(&[(100, 2), (9000, 7)]));
        let mut sum = earlier;
        sum.add(&later);
        assert_eq!(sum.count(), 13);
        assert_eq!(sum.since(&earlier, "write", "latency"), Ok(later));
        assert!(earlier.since(&sum, "write", "latency").is_err());
        let less_time = Histogram { sum_ns: earlier.sum_ns - 1, ..earlier };
        assert!(less_time.since(&earlier, "write", "latency").is_err());
    }

    #[test]
    fn the_bounds_of_adjacent_buckets_meet() {
        assert_eq!(lower_bound_ns(0), 0);
        for bucket in 1..N_BUCKETS {
            assert_eq!(Some(lower_bound_ns(bucket)), upper_bound_ns(bucket - 1));
        }
    }
}
