//! Classic buckets: which of the tool's own bounds they end at.

use prefault_ebpf::{FIRST_SCHEMA_INDEX, N_BUCKETS, bucket_of, upper_bound_ns};

use crate::data::Histogram;

/// The most classic buckets: each is a series of its own, for each of three histograms of each filesystem.
const MOST: usize = 64;

/// Bounds of classic buckets, each at the end of one of the tool's own, so that counts are exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets {
    /// Numbers of the own buckets that end a classic one, ascending.
    ends: Vec<usize>,
}

impl Default for Buckets {
    /// Twelve, a factor of 4 apart, from 238 ns to 1 s.
    fn default() -> Self {
        let second = -FIRST_SCHEMA_INDEX as usize;
        // Eight own buckets are a factor of 4.
        Self { ends: (0..12).rev().map(|step| second - 8 * step).collect() }
    }
}

impl Buckets {
    /// Buckets that end at these latencies in nanoseconds; each is moved up to the next bound of the tool's own.
    ///
    /// # Errors
    /// If there are none, too many, one is beyond the last bound, or two become the same.
    pub fn up_to(bounds_ns: &[u64]) -> Result<Self, String> {
        if bounds_ns.is_empty() || bounds_ns.len() > MOST {
            return Err(format!("give 1 to {MOST} bounds"));
        }
        let ends: Vec<usize> = bounds_ns.iter().map(|&bound| bucket_of(bound)).collect();
        if ends.contains(&(N_BUCKETS - 1)) {
            return Err("the last bound is 53 s; what is longer is in the bucket without a bound".to_owned());
        }
        match ends.windows(2).all(|pair| pair[0] < pair[1]) {
            true => Ok(Self { ends }),
            false => Err("they have to ascend, and be at least a factor of 1.19 apart".to_owned()),
        }
    }

    /// Upper bound in seconds and count of each bucket, the last one without bound; counts are of each bucket alone.
    pub fn of(&self, histogram: &Histogram) -> Vec<(f64, u64)> {
        let mut begin = 0;
        let mut classic: Vec<(f64, u64)> = self
            .ends
            .iter()
            .map(|&end| {
                let count = histogram.counts[begin..=end].iter().sum();
                begin = end + 1;
                (seconds(upper_bound_ns(end).unwrap_or(u64::MAX)), count)
            })
            .collect();
        classic.push((f64::INFINITY, histogram.counts[begin..].iter().sum()));
        classic
    }
}

/// Nanoseconds in seconds.
pub fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_twelve_from_238_ns_to_a_second() {
        let bounds: Vec<f64> = Buckets::default().of(&Histogram::default()).iter().map(|bucket| bucket.0).collect();
        assert_eq!((bounds.len(), bounds[0], bounds[11], bounds[12]), (13, 2.38e-7, 1.0, f64::INFINITY));
    }

    #[test]
    fn every_latency_is_in_one_bucket() {
        let mut histogram = Histogram::default();
        histogram.counts.iter_mut().zip(1..).for_each(|(count, n)| *count = n);
        for buckets in [Buckets::default(), Buckets::up_to(&[17, 21]).expect("ascending")] {
            assert_eq!(buckets.of(&histogram).iter().map(|bucket| bucket.1).sum::<u64>(), histogram.count());
        }
        let buckets = Buckets::up_to(&[17, 25]).expect("ascending").of(&histogram);
        assert_eq!((buckets[0].1, buckets[1].1), (1, 2 + 3));
    }

    #[test]
    fn bounds_move_up_to_the_next_own_one() {
        let buckets = Buckets::up_to(&[1_000, 1_000_000]).expect("ascending").of(&Histogram::default());
        let up = |ns| seconds(upper_bound_ns(bucket_of(ns)).expect("bounded"));
        assert_eq!((buckets[0].0, buckets[1].0), (up(1_000), up(1_000_000)));
        assert!(buckets[0].0 >= 1e-6 && buckets[0].0 < 1.2e-6);
    }

    #[test]
    fn bounds_that_make_no_sense_are_refused() {
        for bad in [&[][..], &[5, 6], &[100, 100], &[200, 100], &[54_000_000_000], &[1_000; 65]] {
            assert!(Buckets::up_to(bad).is_err(), "{bad:?}");
        }
    }
}
