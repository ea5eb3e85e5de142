//! A row of the self-test: what was written to one folder, and what was counted.

use crate::{
    data::Interval,
    workload::{Kind, Truth},
};

/// What was written and what was counted.
pub struct Row {
    pub place: String,
    pub kind: Kind,
    pub truth: Truth,
    pub counted: Counts,
    pub lost: u64,
}

/// The numbers that are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    calls: u64,
    bytes: u64,
    errors: u64,
    absent: u64,
}

impl Counts {
    fn of_truth(truth: &Truth) -> Self {
        Self { calls: truth.writes, bytes: truth.bytes, errors: truth.errors, absent: truth.absent_pages }
    }

    /// Everything that was counted: no other writes pass the filter, whichever filesystem they end up on.
    pub fn of_interval(interval: &Interval) -> Self {
        interval.filesystems.iter().fold(Self::default(), |sum, filesystem| Self {
            calls: sum.calls + filesystem.ledger.write.calls,
            bytes: sum.bytes + filesystem.ledger.write.bytes,
            errors: sum.errors + filesystem.ledger.write.errors,
            absent: sum.absent + filesystem.ledger.prefault.minor_faults + filesystem.ledger.prefault.major_faults,
        })
    }
}

impl Row {
    /// Whether everything was counted as it was.
    pub fn is_exact(&self) -> bool {
        self.counted == Counts::of_truth(&self.truth) && self.lost == 0
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let truth = Counts::of_truth(&self.truth);
        let kind = format!("{:?}", self.kind).to_lowercase();
        let verdict = match self.counted {
            _ if self.is_exact() => "exact".to_owned(),
            Counts { calls: 0, .. } => {
                "NOT SEEN: no write path ran (uncached network mount, DAX), or none that is probed".to_owned()
            }
            Counts { calls, bytes, errors, absent } => {
                format!("DIFFERS: counted {calls} calls, {bytes} bytes, {errors} errors, {absent} absent")
            }
        };
        writeln!(
            f,
            "{:<34} {kind:<9} {:>7} {:>12} {:>7} {:>7}   {:>5}  {verdict}",
            self.place, truth.calls, truth.bytes, truth.errors, truth.absent, self.lost
        )
    }
}
