//! How many rounds, which are copies, a write took: buckets by powers of two.

use crate::{WentBackwards, grown};

/// Number of buckets: none, one, two, up to 4, up to 8 and so on to 8192, and one for everything above.
pub const N_ROUND_BUCKETS: usize = 16;

/// A distribution of numbers of rounds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounds {
    /// Sum of all rounds.
    pub sum: u64,
    /// Writes by how many rounds they took, see [`rounds_bucket_of`].
    pub counts: [u64; N_ROUND_BUCKETS],
}

/// The bucket of a write of so many rounds: below [`N_ROUND_BUCKETS`].
#[inline(always)]
#[must_use]
pub fn rounds_bucket_of(rounds: u32) -> usize {
    // Nearly all writes take one round. The target has no instruction for the logarithm.
    if rounds <= 1 {
        return rounds as usize;
    }
    let (mut bucket, mut rest) = (1, rounds - 1);
    if rest >= 1 << 13 {
        return N_ROUND_BUCKETS - 1;
    }
    if rest >= 1 << 8 {
        (bucket, rest) = (bucket + 8, rest >> 8);
    }
    if rest >= 1 << 4 {
        (bucket, rest) = (bucket + 4, rest >> 4);
    }
    if rest >= 1 << 2 {
        (bucket, rest) = (bucket + 2, rest >> 2);
    }
    bucket + if rest >= 2 { 2 } else { rest as usize }
}

/// The inclusive upper bound of a bucket in rounds, `None` for the last one and beyond.
#[must_use]
pub const fn upper_bound_of_rounds(bucket: usize) -> Option<u64> {
    match bucket {
        0 => Some(0),
        _ if bucket < N_ROUND_BUCKETS - 1 => Some(1 << (bucket - 1)),
        _ => None,
    }
}

impl Rounds {
    /// No write.
    pub const ZERO: Self = Self { sum: 0, counts: [0; N_ROUND_BUCKETS] };

    /// Number of writes.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, part: &Self) {
        self.sum += part.sum;
        self.counts.iter_mut().zip(&part.counts).for_each(|(count, part)| *count += part);
    }

    /// What was counted since `earlier`.
    ///
    /// # Errors
    /// If any count is lower than it was then.
    pub fn since(&self, earlier: &Self, ledger: &'static str, counter: &'static str) -> Result<Self, WentBackwards> {
        let mut difference = Self { sum: grown(ledger, counter, earlier.sum, self.sum)?, ..Self::ZERO };
        for (bucket, count) in difference.counts.iter_mut().enumerate() {
            *count = grown(ledger, counter, earlier.counts[bucket], self.counts[bucket])?;
        }
        Ok(difference)
    }
}

impl Default for Rounds {
    fn default() -> Self {
        Self::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_is_the_first_whose_bound_is_not_below() {
        for rounds in (0..70_000).chain([u32::MAX - 1, u32::MAX]) {
            let searched = (0..N_ROUND_BUCKETS)
                .find(|&bucket| upper_bound_of_rounds(bucket).is_none_or(|bound| u64::from(rounds) <= bound));
            assert_eq!(Some(rounds_bucket_of(rounds)), searched, "{rounds}");
        }
        assert_eq!(upper_bound_of_rounds(N_ROUND_BUCKETS - 2), Some(8192));
        assert_eq!(upper_bound_of_rounds(usize::MAX), None);
    }
}
