//! What measuring itself takes.

use std::ops::{Add, Sub};

/// Runs of our BPF programs, cumulative or in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnCost {
    /// Runs of all programs.
    pub runs: u64,
    /// Time in them, in nanoseconds. What the kernel takes to get in and out of them is not included.
    pub run_ns: u64,
}

impl OwnCost {
    /// Share of one processor over `duration_ns`; `None` if no time passed.
    #[must_use]
    pub fn share_of_cpu(self, duration_ns: u64) -> Option<f64> {
        (duration_ns > 0).then(|| self.run_ns as f64 / duration_ns as f64)
    }
}

impl Add for OwnCost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { runs: self.runs + other.runs, run_ns: self.run_ns + other.run_ns }
    }
}

impl Sub for OwnCost {
    type Output = Self;

    /// What came on top of `earlier`. The kernel does not read the numbers of its processors at one moment, so that one of
    /// them can seem to shrink by what was under way.
    fn sub(self, earlier: Self) -> Self {
        Self { runs: self.runs.saturating_sub(earlier.runs), run_ns: self.run_ns.saturating_sub(earlier.run_ns) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_is_of_one_processor() {
        let cost = OwnCost { runs: 10, run_ns: 5_000 } - OwnCost { runs: 4, run_ns: 3_000 };
        assert_eq!(cost, OwnCost { runs: 6, run_ns: 2_000 });
        assert_eq!(cost.share_of_cpu(200_000), Some(0.01));
        assert_eq!(cost.share_of_cpu(0), None);
    }
}
