//! What an exporter shows: totals since measuring began, with labels that stay.
//!
//! Plain data; `series` makes the filesystems of it, commands the rest.

use super::{
    EventRecord, FilesystemInterval, Floor, LossReport, Mechanism, Operation, OverheadReport, OwnCost, Silenced, Timing,
};

/// Everything an exporter shows at one moment.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Release of the kernel, as `uname -r` prints it.
    pub kernel: String,
    /// Time since measuring began, in nanoseconds.
    pub uptime_ns: u64,
    /// When measuring began, in nanoseconds of the Unix clock.
    pub begin_unix_ns: u64,
    /// Which writes are timed.
    pub timing: Timing,
    /// What the points themselves add to latencies, `None` if that was not measured.
    pub floor: Option<Floor>,
    /// The series of filesystems, `other` as the last.
    pub filesystems: Vec<Series>,
    /// Filesystems beyond the limit, counted under `other`.
    pub n_over_limit: u64,
    /// Filesystems that found no slot and are counted under `other` too, at most [`prefault_ebpf::MAX_WITHOUT_SLOT`].
    pub n_without_slot: u64,
    /// The latest short copies and failed prefaults, if they are wanted.
    pub exemplars: Vec<Exemplar>,
    /// What was missed.
    pub loss: LossReport,
    /// For how long points were silenced, and whether they are.
    pub silenced: Silenced,
    /// What measuring took, if that is measured.
    pub own_cost: Option<OwnCost>,
    /// What came of a limit to the cost, if there is one.
    pub limited: Option<OverheadReport>,
    /// Call sites by operation and mechanism.
    pub sites: Vec<SiteCount>,
    /// What the process itself takes, if it can be read.
    pub process: Option<ProcessUse>,
}

impl Exported {
    /// One in how many writes is timed; `None` if none is.
    #[must_use]
    pub fn timed_one_in(&self) -> Option<u32> {
        match &self.limited {
            Some(limited) if self.timing == Timing::All => limited.timed_one_in,
            _ => self.timing.one_in(),
        }
    }
}

/// Totals of the filesystems that have the same labels.
#[derive(Clone, Debug)]
pub struct Series {
    /// Labels.
    pub labels: Labels,
    /// Counters since measuring began. Of the identity only type and device mean something.
    pub totals: FilesystemInterval,
}

/// What tells series apart. A filesystem keeps the labels it was first seen with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels {
    /// Name of the filesystem type.
    pub fstype: String,
    /// Name of the device, `-` if there is none.
    pub device: String,
    /// Where it was first seen mounted, empty if nowhere; `None` if mount points are not shown.
    pub mount_point: Option<String>,
}

/// One of those that a counter has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// When it returned, in nanoseconds of the Unix clock.
    pub unix_ns: u64,
    /// What it was.
    pub event: EventRecord,
}

/// Number of call sites of one operation that are measured by one mechanism.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteCount {
    /// What is measured there.
    pub operation: Operation,
    /// By what, or that it is not.
    pub mechanism: SiteMechanism,
    /// How many.
    pub count: u64,
}

/// By what a call site is measured, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteMechanism {
    /// By this.
    By(Mechanism),
    /// It could not be measured.
    None,
    /// Its caller is not understood: its operations are counted as lost.
    Unattributed,
    /// It is part of no buffered write and need not be measured.
    NotAWrite,
}

impl SiteMechanism {
    /// Its name in every output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::By(mechanism) => mechanism.name(),
            Self::None => "none",
            Self::Unattributed => "unattributed",
            Self::NotAWrite => "not a write",
        }
    }
}

/// What a process takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessUse {
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Processor time, of user and kernel, in seconds.
    pub cpu_seconds: f64,
    /// When it started, in seconds of the Unix clock.
    pub start_seconds: f64,
}
