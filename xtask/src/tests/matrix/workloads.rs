//! The workloads of the matrix. One entry adds one to every kernel and filesystem.

use crate::truth::Kind;

/// One run of the workload on every filesystem, measured as a whole.
#[derive(Debug)]
pub struct Workload {
    /// What is written from.
    pub kind: Kind,
    /// Writes to each filesystem.
    pub n_writes: u64,
}

/// All of them.
pub const WORKLOADS: [Workload; 5] = [
    Workload { kind: Kind::Resident, n_writes: 100 },
    Workload { kind: Kind::Absent, n_writes: 100 },
    Workload { kind: Kind::Vector, n_writes: 100 },
    Workload { kind: Kind::Half, n_writes: 100 },
    Workload { kind: Kind::Bad, n_writes: 100 },
];
