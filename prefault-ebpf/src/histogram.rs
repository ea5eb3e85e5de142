//! Bucket arithmetic: which bucket a latency falls into, and where each bucket ends.
//!
//! Buckets are those of a Prometheus native histogram of schema 2: bucket i ends at 2^(i/4) seconds, inclusive, so that
//! one of ours maps one to one onto one of theirs (https://prometheus.io/docs/specs/native_histograms/). A latency is an
//! integer of nanoseconds, so comparing it with the bound's floor is exact.

use crate::{WentBackwards, grown, masked};

/// Number of buckets: 127 with an upper bound, and one for everything above.
pub const N_BUCKETS: usize = 128;

/// Schema index of the first bucket's upper bound: 2^(-103/4) s, 17 ns. The last bound is 2^(23/4) s, 53 s.
pub const FIRST_SCHEMA_INDEX: i32 = -103;

/// 2^(n/4) for n in 0..4, in units of 2^-64, rounded down.
const QUARTER_POWERS: [u128; 4] =
    [0x1_0000_0000_0000_0000, 0x1_306f_e0a3_1b71_52de, 0x1_6a09_e667_f3bc_c908, 0x1_ae89_f995_ad3a_d5e8];

/// Upper bounds in nanoseconds; the last bucket has none, which the greatest number of 63 bits stands for.
static UPPER_BOUNDS_NS: [u64; N_BUCKETS] = upper_bounds();

const fn upper_bounds() -> [u64; N_BUCKETS] {
    let mut bounds = [u64::MAX >> 1; N_BUCKETS];
    let mut bucket = 0;
    while bucket < N_BUCKETS - 1 {
        let schema_index = FIRST_SCHEMA_INDEX + bucket as i32;
        let scaled = 1_000_000_000 * QUARTER_POWERS[schema_index.rem_euclid(4) as usize];
        bounds[bucket] = (scaled >> (64 - schema_index.div_euclid(4))) as u64;
        bucket += 1;
    }
    bounds
}

/// Values that the search tells apart at first glance: a byte of the latency, shifted down by a row's number of digits.
const CELLS: usize = 256;

/// Rows of [`FIRST_BUCKETS`]: shifts by 0, 4, 8 to 28 bits, which reach to 69 s.
const ROWS: usize = 8;

/// For each row and cell the bucket that the cell begins in. From the second row on the cells that are used are those from
/// 16 on, at most a sixteenth of their value wide, so that not more than one bound lies inside; in the first row they are
/// single values.
static FIRST_BUCKETS: [u8; ROWS * CELLS] = first_buckets();

const fn first_buckets() -> [u8; ROWS * CELLS] {
    let mut first = [0; ROWS * CELLS];
    let mut index = 0;
    while index < ROWS * CELLS {
        let begin = ((index % CELLS) as u64) << (4 * (index / CELLS));
        let mut bucket = 0;
        while UPPER_BOUNDS_NS[bucket] < begin {
            bucket += 1;
        }
        first[index] = bucket as u8;
        index += 1;
    }
    first
}

/// The bucket of a latency of `ns` nanoseconds: the first one whose upper bound is not below it. Less than
/// [`N_BUCKETS`] for every `ns` below 2^63, which is 292 years.
#[inline(always)]
pub fn bucket_of(ns: u64) -> usize {
    let mut row: usize = 0;
    while ns >> (4 * row) >= CELLS as u64 {
        row += 1;
        if row == ROWS {
            return N_BUCKETS - 1;
        }
    }
    let cell = row * CELLS + masked::<{ CELLS - 1 }>((ns >> (4 * row)) as usize);
    // SAFETY: the row is below ROWS and the cell below CELLS.
    let first = masked::<{ N_BUCKETS - 1 }>(usize::from(unsafe { *FIRST_BUCKETS.as_ptr().add(cell) }));
    // SAFETY: the bucket is below N_BUCKETS. Its bound is below 2^63 like `ns`, so that the difference has a sign.
    let is_above = unsafe { *UPPER_BOUNDS_NS.as_ptr().add(first) }.wrapping_sub(ns) >> 63;
    masked::<{ N_BUCKETS - 1 }>(first + is_above as usize)
}

/// The inclusive upper bound of `bucket` in nanoseconds, `None` for the last one and beyond.
pub fn upper_bound_ns(bucket: usize) -> Option<u64> {
    (bucket < N_BUCKETS - 1).then(|| UPPER_BOUNDS_NS[bucket])
}

/// Numbers of latencies by bucket.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Sum of all latencies, in nanoseconds.
    pub sum_ns: u64,
    /// Number of latencies in each bucket, see [`bucket_of`].
    pub counts: [u64; N_BUCKETS],
}

impl Histogram {
    /// No latency.
    pub const ZERO: Self = Self { sum_ns: 0, counts: [0; N_BUCKETS] };

    /// Number of latencies.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds the latencies of another one.
    pub fn add(&mut self, part: &Self) {
        self.sum_ns += part.sum_ns;
        self.counts.iter_mut().zip(&part.counts).for_each(|(count, part)| *count += part);
    }

    /// The latencies that were added since `earlier`.
    ///
    /// # Errors
    /// If the sum or any bucket is lower than it was then.
    pub fn since(&self, earlier: &Self, ledger: &'static str, counter: &'static str) -> Result<Self, WentBackwards> {
        let mut difference = Self { sum_ns: grown(ledger, counter, earlier.sum_ns, self.sum_ns)?, ..Self::ZERO };
        for (bucket, count) in difference.counts.iter_mut().enumerate() {
            *count = grown(ledger, counter, earlier.counts[bucket], self.counts[bucket])?;
        }
        Ok(difference)
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::ZERO
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use num_bigint::BigUint;

    use super::*;

    #[test]
    fn a_latency_on_a_bound_is_inside_and_one_above_it_is_in_the_next_bucket() {
        for bucket in 0..N_BUCKETS - 1 {
            let bound = upper_bound_ns(bucket).expect("only the last bucket has no bound");
            assert_eq!(bucket_of(bound), bucket);
            assert_eq!(bucket_of(bound + 1), bucket + 1);
        }
    }

    #[test]
    fn the_bucket_is_the_first_whose_bound_is_not_below() {
        let searched = |ns: u64| UPPER_BOUNDS_NS.partition_point(|bound| *bound < ns);
        for power in 0..63 {
            // Around each power of two, where rows of the table begin, and over the octave.
            for offset in (-3..=3).chain((0..64).map(|part| (1i64 << power) / 64 * part)) {
                let ns = (1i64 << power).saturating_add(offset).max(0) as u64;
                assert_eq!(bucket_of(ns), searched(ns), "{ns} ns");
            }
        }
        for ns in 0..1 << 16 {
            assert_eq!(bucket_of(ns), searched(ns), "{ns} ns");
        }
    }

    #[test]
    fn the_ends_of_the_range_have_a_bucket() {
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of((1 << 63) - 1), N_BUCKETS - 1);
        assert_eq!(upper_bound_ns(N_BUCKETS - 1), None);
        assert_eq!(upper_bound_ns(usize::MAX), None);
    }

    #[test]
    fn bounds_are_the_floor_of_prometheus_schema_2_bounds() {
        // bound = floor(2^(i/4) * 1e9)  <=>  bound^4 <= 2^i * 1e36 < (bound + 1)^4
        for bucket in 0..N_BUCKETS - 1 {
            let bound = upper_bound_ns(bucket).expect("bounded");
            let schema_index = FIRST_SCHEMA_INDEX + bucket as i32;
            let shift_up = schema_index.max(0) as u32;
            let shift_down = (-schema_index).max(0) as u32;
            let exact = BigUint::from(10u32).pow(36) << shift_up;
            assert!(BigUint::from(bound).pow(4) << shift_down <= exact, "bucket {bucket}");
            assert!(BigUint::from(bound + 1).pow(4) << shift_down > exact, "bucket {bucket}");
        }
    }

    #[test]
    fn bounds_grow() {
        for bucket in 1..N_BUCKETS - 1 {
            assert!(upper_bound_ns(bucket) > upper_bound_ns(bucket - 1));
        }
    }
}
