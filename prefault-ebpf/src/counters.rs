//! The one table of counters. Structs, sums, differences, documents and metrics are made of it (`ledgers.rs`).
//!
//! A counter is a line: what it is, in one sentence, its name, its unit, and where it is in the metrics. A metric of several
//! counters has a label that tells them apart; the first of its counters says what the metric is. To add one, add its line here,
//! the line that counts it in the programs, and what the matrix expects of it.

use crate::{Histogram, ledgers::ledger};

ledger! {
    /// Writes of one filesystem: calls of a write path's outer function, nested paths counted once.
    WriteLedger is "write";

    /// Writes that returned.
    calls: Count => "prefault_writes_total";
    /// Bytes written, as write paths returned them.
    bytes: Bytes => "prefault_write_bytes_total";
    /// Writes that returned an error, having written nothing; a repeated try (EAGAIN) is none.
    errors: Count => "prefault_writes_failed_total";
    /// Writes that could not go on without waiting and are tried again (EAGAIN).
    error_again: Count => "prefault_write_errors_total" { "error": "again" } "Writes that returned an error, by what it was.";
    /// Writes that a signal ended (EINTR, ERESTARTSYS).
    error_interrupted: Count => "prefault_write_errors_total" { "error": "interrupted" };
    /// Writes from memory that could not be read (EFAULT).
    error_fault: Count => "prefault_write_errors_total" { "error": "fault" };
    /// Writes for which there was no room (ENOSPC, EDQUOT).
    error_no_space: Count => "prefault_write_errors_total" { "error": "no_space" };
    /// Writes that the device failed (EIO).
    error_io: Count => "prefault_write_errors_total" { "error": "io" };
    /// Writes that returned another error.
    error_other: Count => "prefault_write_errors_total" { "error": "other" };
    /// Writes that returned fewer bytes than they were asked to write, and no error.
    short: Count => "prefault_writes_short_total";
    /// Bytes that were copied more than once: the filesystem refused a copy, or a part of it, and had it repeated.
    bytes_recopied: Bytes => "prefault_write_recopied_bytes_total";
    /// Buffered writes to files opened with O_DIRECT.
    direct: Count => "prefault_writes_direct_total";
    /// Writes, among all, from kernel memory, which have no latency.
    kernel_calls: Count => "prefault_writes_kernel_memory_total";

    latencies:
    /// Latencies of writes from user memory.
    latency flattened "" => "prefault_write_duration_seconds";

    rounds:
    /// Copies that writes took.
    rounds => "prefault_write_rounds";
}

ledger! {
    /// Prefaults of one filesystem.
    PrefaultLedger is "prefault";

    /// Prefaults that returned.
    calls: Count => "prefault_prefaults_total";
    /// Bytes asked to be faulted in.
    bytes: Bytes => "prefault_prefault_bytes_total";
    /// Prefaults of which no byte could be faulted in.
    failed_wholly: Count => "prefault_prefaults_failed_total" { "kind": "wholly" }
        "Prefaults that left bytes unfaulted, wholly if all of them.";
    /// Prefaults of which some, but not all bytes could be faulted in.
    failed_partly: Count => "prefault_prefaults_failed_total" { "kind": "partly" };
    /// Prefaults that took page faults, all of them minor.
    needed_minor: Count => "prefault_prefaults_needed_total" { "kind": "minor" }
        "Prefaults that took page faults, major if one of them was.";
    /// Prefaults that took at least one major page fault.
    needed_major: Count => "prefault_prefaults_needed_total" { "kind": "major" };
    /// Minor page faults taken inside prefaults.
    minor_faults: Count => "prefault_prefault_page_faults_total" { "kind": "minor" }
        "Page faults taken inside prefaults.";
    /// Major page faults taken inside prefaults.
    major_faults: Count => "prefault_prefault_page_faults_total" { "kind": "major" };
    /// Prefaults, among all, of kernel memory, which return at once and have no latency.
    kernel_calls: Count => "prefault_prefaults_kernel_memory_total";

    latencies:
    /// Latencies of prefaults of user memory that took page faults.
    latency_needed => "prefault_prefault_duration_seconds" { "needed": "yes" }
        "Latencies of prefaults of user memory, by whether they took page faults.";
    /// Latencies of prefaults of user memory that took none.
    latency_not_needed => "prefault_prefault_duration_seconds" { "needed": "no" };
}

ledger! {
    /// Atomic copies of one filesystem.
    CopyLedger is "copy";

    /// Atomic copies that returned.
    calls: Count => "prefault_copies_total";
    /// Bytes that atomic copies were asked to copy.
    bytes_asked: Bytes => "prefault_copy_bytes_asked_total";
    /// Bytes that atomic copies copied.
    bytes_copied: Bytes => "prefault_copy_bytes_total";
    /// Copies that copied nothing of what was asked.
    zero: Count => "prefault_copies_short_total" { "kind": "zero" }
        "Atomic copies that copied nothing (zero) or not all (partial) of what was asked.";
    /// Copies that copied some, but not all of what was asked.
    partial: Count => "prefault_copies_short_total" { "kind": "partial" };
    /// Copies that copied less than was asked although the prefault right before had succeeded in full.
    short_after_prefault: Count => "prefault_copies_short_after_prefault_total";
    /// Atomic copies, among all, from kernel memory, which have no latency.
    kernel_calls: Count => "prefault_copies_kernel_memory_total";
    /// Bytes, among those copied, from kernel memory.
    kernel_bytes: Bytes;

    latencies:
    /// Latencies of atomic copies from user memory.
    latency flattened "" => "prefault_copy_duration_seconds";
}

ledger! {
    /// What one write path did for one filesystem; the mode is read from it.
    PathLedger is "path";

    /// Times the path was entered; what has not returned of these is in flight, or its return was lost.
    entered: Count;
    /// Calls of a write path that returned, nested ones included.
    calls: Count => "prefault_path_calls_total";
    /// Calls whose first copy came after a prefault.
    eager: Count => "prefault_path_copying_calls_total" { "mode": "eager" }
        "Calls of a write path that copied, by whether a prefault came before the first copy.";
    /// Calls whose first copy came without a prefault.
    on_demand: Count => "prefault_path_copying_calls_total" { "mode": "on-demand" };
    /// Prefaults that a write path called itself.
    prefaults: Count => "prefault_path_prefaults_total";
    /// Atomic copies that a write path called itself.
    copies: Count => "prefault_path_copies_total";
    /// Calls that began while no window was open, where such calls were counted; no more is known of them.
    passed: Count;
}

/// What operations did for one filesystem.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ledger {
    /// Calls of write paths.
    pub write: WriteLedger,
    /// Calls of the prefault.
    pub prefault: PrefaultLedger,
    /// Calls of the atomic copy.
    pub copy: CopyLedger,
}

impl Ledger {
    /// Nothing was counted.
    pub const ZERO: Self = Self { write: WriteLedger::ZERO, prefault: PrefaultLedger::ZERO, copy: CopyLedger::ZERO };

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, part: &Self) {
        self.write.add(&part.write);
        self.prefault.add(&part.prefault);
        self.copy.add(&part.copy);
    }

    /// What was counted since `earlier`.
    ///
    /// # Errors
    /// Naming the counter, if one is lower than it was then.
    pub fn since(&self, earlier: &Self) -> Result<Self, crate::WentBackwards> {
        Ok(Self {
            write: self.write.since(&earlier.write)?,
            prefault: self.prefault.since(&earlier.prefault)?,
            copy: self.copy.since(&earlier.copy)?,
        })
    }
}

// Counters of a CPU are read while they grow, so that of two which grow together one may be ahead. Hence differences between
// counters of one ledger saturate, unlike those between snapshots.

impl PrefaultLedger {
    /// Prefaults of user memory.
    #[must_use]
    pub const fn user_calls(&self) -> u64 {
        self.calls.saturating_sub(self.kernel_calls)
    }

    /// Latencies of all prefaults of user memory. They have two hills, and no quantile of them means anything.
    #[must_use]
    pub fn latency(&self) -> Histogram {
        let mut all = self.latency_needed;
        all.add(&self.latency_not_needed);
        all
    }

    /// Prefaults that took a page fault.
    #[must_use]
    pub const fn needed(&self) -> u64 {
        self.needed_minor + self.needed_major
    }

    /// Prefaults that left bytes unfaulted.
    #[must_use]
    pub const fn failed(&self) -> u64 {
        self.failed_wholly + self.failed_partly
    }
}

impl CopyLedger {
    /// Copies from user memory.
    #[must_use]
    pub const fn user_calls(&self) -> u64 {
        self.calls.saturating_sub(self.kernel_calls)
    }

    /// Copies that copied less than asked.
    #[must_use]
    pub const fn short(&self) -> u64 {
        self.zero + self.partial
    }

    /// Bytes asked that were not copied.
    #[must_use]
    pub const fn bytes_missed(&self) -> u64 {
        self.bytes_asked.saturating_sub(self.bytes_copied)
    }
}

impl PathLedger {
    /// Calls that were entered and have not returned: they are in flight, or their return was lost. 0 if more returned than were
    /// entered, being in flight at the beginning.
    #[must_use]
    pub const fn not_returned(&self) -> u64 {
        self.entered.saturating_sub(self.calls)
    }

    /// Whether the path ran.
    #[must_use]
    pub fn is_active(&self) -> bool {
        *self != Self::ZERO
    }
}
