//! The parts of the tool's JSON document that are compared. It is read on its own terms, as any user would, and not with the
//! tool's own types.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use serde::Deserialize;

/// Every way to miss something.
pub const LOSSES: [&str; 21] = [
    "write_enter",
    "write_leave",
    "prefault_begin",
    "prefault_end",
    "copy_begin",
    "copy_end",
    "prefault_outside",
    "copy_outside",
    "uncopied_bytes",
    "no_context",
    "too_deep",
    "no_filesystem",
    "not_followed",
    "event_dropped",
    "before_start",
    "prefault_unattributed",
    "copy_unattributed",
    "kernel_missed_runs",
    "events_unread",
    "ftrace_off_ns",
    "kprobes_off_ns",
];

/// The document.
#[derive(Debug, Deserialize)]
pub struct Document {
    /// The kernel's release.
    pub kernel: String,
    /// What the points add to latencies.
    pub floor: Option<Floor>,
    /// How many writes there are to one that is timed.
    pub timed_one_in: Option<u32>,
    /// The step of a clock that is too coarse to time anything, in nanoseconds.
    pub clock_step_ns: Option<u64>,
    /// What was counted, by filesystem.
    pub filesystems: Vec<Filesystem>,
    /// What was missed, by reason.
    pub loss: BTreeMap<String, u64>,
    /// What came of a limit to the cost.
    pub limit: Option<Limit>,
    /// The last short copies and failed prefaults.
    pub events: Vec<Event>,
}

/// What the points add to latencies.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "docs/format.md describes each field")]
pub struct Floor {
    pub jump_ns: Option<u64>,
}

/// What came of a limit to the cost.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "docs/format.md describes each field")]
pub struct Limit {
    pub percent: f64,
    pub cost_share: f64,
    pub open_share: f64,
    pub counted_gap_share: f64,
    pub windows: u64,
    pub estimates: Vec<Estimates>,
}

/// What there was in all on one filesystem.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "docs/format.md describes each field")]
pub struct Estimates {
    pub writes: Estimate,
    pub bytes: Estimate,
    pub copies: Estimate,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[expect(missing_docs, reason = "docs/format.md describes each field")]
pub struct Estimate {
    pub total: f64,
    pub standard_error: Option<f64>,
}

/// What was counted on one filesystem.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "docs/format.md describes each field")]
pub struct Filesystem {
    pub fstype: String,
    pub device: String,
    pub major: u32,
    pub minor: u32,
    pub paths: Vec<Path>,
    pub write: Write,
    pub prefault: Prefault,
    pub copy: Copies,
}

/// What one write path did.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "docs/format.md describes each field")]
pub struct Path {
    pub function: String,
    pub mode: String,
    pub calls: u64,
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "docs/format.md describes each field")]
pub struct Write {
    pub calls: u64,
    pub bytes: u64,
    pub errors: u64,
    pub error_again: u64,
    pub error_interrupted: u64,
    pub error_fault: u64,
    pub error_no_space: u64,
    pub error_io: u64,
    pub error_other: u64,
    pub short: u64,
    pub bytes_recopied: u64,
    pub direct: u64,
    pub kernel_calls: u64,
    pub buckets: Vec<Bucket>,
    pub rounds: Rounds,
}

/// How many copies writes took.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "docs/format.md describes each field")]
pub struct Rounds {
    pub sum: u64,
    pub buckets: Vec<RoundsBucket>,
}

/// How many writes took up to that many.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct RoundsBucket {
    /// Copies; the last has no bound.
    pub le: Option<u64>,
    /// How many, those of other buckets not included.
    pub count: u64,
}

/// Latencies of one kind.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "docs/format.md describes each field")]
pub struct Latencies {
    pub buckets: Vec<Bucket>,
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "docs/format.md describes each field")]
pub struct Prefault {
    pub calls: u64,
    pub needed_minor: u64,
    pub needed_major: u64,
    pub failed: u64,
    pub failed_wholly: u64,
    pub failed_partly: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    pub kernel_calls: u64,
    pub latency_needed: Latencies,
    pub latency_not_needed: Latencies,
    pub sum_ns: u64,
    pub buckets: Vec<Bucket>,
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "docs/format.md describes each field")]
pub struct Copies {
    pub calls: u64,
    pub bytes_copied: u64,
    pub zero: u64,
    pub partial: u64,
    pub short_after_prefault: u64,
    pub kernel_calls: u64,
    pub sum_ns: u64,
    pub buckets: Vec<Bucket>,
}

/// How many took up to that long.
#[derive(Debug, Deserialize)]
pub struct Bucket {
    /// Nanoseconds; the last has no bound.
    pub le_ns: Option<u64>,
    /// How many, those of other buckets not included.
    pub count: u64,
}

/// A short copy or a failed prefault.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "docs/format.md describes each field")]
pub struct Event {
    pub kind: String,
    pub pid: u32,
    pub tid: u32,
    pub comm: String,
    pub fstype: String,
    pub inode: u64,
    pub position: u64,
    pub asked: u64,
    pub done: u64,
    pub user_address: Option<String>,
    pub path: String,
}

/// Sum of all buckets.
#[must_use]
pub fn total(buckets: &[Bucket]) -> u64 {
    buckets.iter().map(|bucket| bucket.count).sum()
}

impl Document {
    /// The one filesystem of that type.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn filesystem(&self, fstype: &str) -> Result<&Filesystem> {
        self.only(fstype, |_| true)
    }

    /// The one filesystem of that type for which `is_wanted`.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn only(&self, fstype: &str, is_wanted: impl Fn(&Filesystem) -> bool) -> Result<&Filesystem> {
        let of_type = |filesystem: &&Filesystem| filesystem.fstype == fstype;
        let found: Vec<&Filesystem> =
            self.filesystems.iter().filter(of_type).filter(|filesystem| is_wanted(filesystem)).collect();
        let all: Vec<String> =
            self.filesystems.iter().map(|other| format!("{} on {}", other.fstype, other.device)).collect();
        ensure!(found.len() == 1, "{} such {fstype} were counted, expected one of: {}", found.len(), all.join(", "));
        Ok(found[0])
    }

    /// Demands that nothing was missed.
    ///
    /// # Errors
    /// Naming what was.
    pub fn expect_no_loss(&self) -> Result<()> {
        self.expect_no_loss_but("")
    }

    /// Demands that nothing was missed but for `allowed` reason.
    ///
    /// # Errors
    /// Naming what was.
    pub fn expect_no_loss_but(&self, allowed: &str) -> Result<()> {
        let lost: Vec<String> = self
            .loss
            .iter()
            .filter(|(reason, count)| **count > 0 && *reason != allowed)
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        let (keys, known) = (self.loss.keys().map(String::as_str), LOSSES.into_iter());
        let (keys, known): (BTreeSet<&str>, BTreeSet<&str>) = (keys.collect(), known.collect());
        ensure!(keys == known, "the losses are {keys:?}, expected {known:?}");
        ensure!(allowed.is_empty() || known.contains(allowed), "{allowed} is no loss");
        ensure!(lost.is_empty(), "lost: {}", lost.join(", "));
        Ok(())
    }
}
