//! A limit to what measuring may cost, and what came of it.

use std::time::Duration;

use super::FilesystemEstimates;

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Percent of the time of all processors.
    pub percent: f64,
    /// Processors that are online.
    pub n_processors: u32,
}

impl Limit {
    /// Processors, or a part of one, that measuring may take.
    #[must_use]
    pub fn processors(self) -> f64 {
        self.percent / 100.0 * f64::from(self.n_processors)
    }

    /// Time of all processors in `elapsed`, in nanoseconds; at least 1.
    #[must_use]
    pub fn processors_ns(self, elapsed: Duration) -> f64 {
        (elapsed.as_nanos() as f64 * f64::from(self.n_processors)).max(1.0)
    }
}

/// What came of a limit.
#[derive(Clone, Debug, PartialEq)]
pub struct OverheadReport {
    /// The limit.
    pub limit: Limit,
    /// Processor time that measuring took, with getting in and out of the programs, in nanoseconds.
    pub cost_ns: f64,
    /// The same as a share of the time of all processors.
    pub cost_share: f64,
    /// Time in which what began was counted, in nanoseconds.
    pub open_ns: u64,
    /// Part of the time in which what began was counted.
    pub open_share: f64,
    /// Time between windows in which calls of write paths were counted, in nanoseconds.
    pub passed_ns: u64,
    /// The same as a part of the time between windows.
    pub counted_gap_share: f64,
    /// Windows in which that was a part of the time.
    pub windows: u64,
    /// One write in this many is timed now, `None` if none is to be.
    pub timed_one_in: Option<u32>,
    /// Calls of write paths that had not returned a second after their window began to close; they are not counted.
    pub given_up: u64,
    /// What there was in all.
    pub estimates: Vec<FilesystemEstimates>,
}
