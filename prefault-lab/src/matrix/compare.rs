//! What the tool counted on one filesystem, compared with what the workload did and with what the tables say.

use anyhow::{Result, ensure};

use super::{
    PAGE,
    expect::PerWrite,
    families::Mode,
    workloads::{Kind, Workload},
};
use crate::{document, truth::Truth};

/// What holds on every kernel and path: each absent page takes one minor fault, in the prefault.
pub(super) fn compare_with_truth(
    differences: &mut Differences,
    counted: &document::Filesystem,
    truth: &Truth,
    workload: &Workload,
) {
    if workload.is_retried {
        differences.compare(
            "write.calls that succeeded",
            counted.write.calls - counted.write.errors - counted.write.error_again,
            truth.writes - truth.errors,
        );
    } else {
        differences.compare("write.calls", counted.write.calls, truth.writes);
        differences.compare("write.errors", counted.write.errors, truth.errors);
    }
    differences.compare("write.bytes", counted.write.bytes, truth.bytes);
    differences.compare("write.kernel_calls", counted.write.kernel_calls, truth.kernel_writes);
    compare_errors(differences, &counted.write, workload);
    compare_rounds(differences, counted, truth, workload);
    if workload.kind == Kind::Absent {
        differences.compare("prefault.needed_minor", counted.prefault.needed_minor, truth.absent_pages);
    }
    // When the other thread drops the page is not known.
    if workload.kind != Kind::Dropped {
        differences.compare("prefault.minor_faults", counted.prefault.minor_faults, truth.absent_pages);
    }
    differences.compare("prefault.needed_major", counted.prefault.needed_major, 0);
    differences.compare("prefault.major_faults", counted.prefault.major_faults, 0);
    if truth.kernel_writes == 0 {
        differences.compare("prefault.kernel_calls", counted.prefault.kernel_calls, 0);
        differences.compare("copy.kernel_calls", counted.copy.kernel_calls, 0);
    }
    // What comes from the kernel's memory is not timed.
    let (write, prefault, copy) = (&counted.write, &counted.prefault, &counted.copy);
    for (name, buckets, calls) in [
        ("write.buckets", &write.buckets, write.calls - write.kernel_calls),
        ("prefault.buckets", &prefault.buckets, prefault.calls - prefault.kernel_calls),
        ("copy.buckets", &copy.buckets, copy.calls - copy.kernel_calls),
        ("latency_needed", &prefault.latency_needed.buckets, prefault.needed_minor + prefault.needed_major),
        (
            "latency_not_needed",
            &prefault.latency_not_needed.buckets,
            prefault.calls - prefault.kernel_calls - prefault.needed_minor - prefault.needed_major,
        ),
    ] {
        differences.compare(name, document::total(buckets), calls);
    }
}

/// Each error is of one class, and those that the workload provokes are of the class of memory that cannot be read.
fn compare_errors(differences: &mut Differences, write: &document::Write, workload: &Workload) {
    let faults = if matches!(workload.kind, Kind::Half | Kind::Bad) { write.errors } else { 0 };
    differences.compare("write.error_fault", write.error_fault, faults);
    for (name, count) in [
        ("write.error_interrupted", write.error_interrupted),
        ("write.error_no_space", write.error_no_space),
        ("write.error_io", write.error_io),
        ("write.error_other", write.error_other),
    ] {
        differences.compare(name, count, 0);
    }
    if !workload.is_retried {
        differences.compare("write.error_again", write.error_again, 0);
    }
}

/// What follows from rounds: all copies are of writes, and what was copied and not written was copied again.
fn compare_rounds(differences: &mut Differences, counted: &document::Filesystem, truth: &Truth, workload: &Workload) {
    let (write, copy) = (&counted.write, &counted.copy);
    differences.compare("write.rounds.sum", write.rounds.sum, copy.calls);
    let n_writes: u64 = write.rounds.buckets.iter().map(|bucket| bucket.count).sum();
    differences.compare("writes by rounds", n_writes, write.calls);
    let short = if workload.kind == Kind::Half { truth.writes - truth.errors } else { 0 };
    differences.compare("write.short", write.short, short);
    if truth.errors == 0 {
        differences.compare("write.bytes_recopied", write.bytes_recopied, copy.bytes_copied - truth.bytes);
    }
    let direct = if workload.kind == Kind::Direct { truth.writes } else { 0 };
    differences.compare("write.direct", write.direct, direct);
    compare_short_after_prefault(differences, counted, truth, workload);
}

/// Only where another thread drops the page all the time is there something between the prefault and the copy. Everything could be
/// faulted in, so that each short copy comes after a prefault in full, but for the first one of a write where that does not prefault
/// before: it always meets the dropped page. A path may go on after a part of a page (seen of btrfs on 6.1), so that a further copy
/// has no prefault right before it.
fn compare_short_after_prefault(
    differences: &mut Differences,
    counted: &document::Filesystem,
    truth: &Truth,
    workload: &Workload,
) {
    let (prefault, copy) = (&counted.prefault, &counted.copy);
    if workload.kind != Kind::Dropped {
        return differences.compare("copy.short_after_prefault", copy.short_after_prefault, 0);
    }
    let is_eager = counted.paths.iter().any(|path| path.mode == Mode::Eager.name());
    let first = if is_eager { 0 } else { truth.writes };
    let most = (copy.zero + copy.partial).saturating_sub(first);
    let without = copy.calls.saturating_sub(prefault.calls + first);
    if !(most.saturating_sub(without)..=most).contains(&copy.short_after_prefault) {
        differences.compare("copy.short_after_prefault", copy.short_after_prefault, most);
    }
}

pub(super) fn compare_with_table(
    differences: &mut Differences,
    counted: &document::Filesystem,
    per_write: PerWrite,
    n_writes: u64,
) {
    let PerWrite { errors: _, prefaults, failed, failed_wholly, copies, copied_pages, zero, partial } = per_write;
    let (prefault, copy) = (&counted.prefault, &counted.copy);
    differences.compare("prefault.calls", prefault.calls, n_writes * prefaults);
    differences.compare("prefault.failed", prefault.failed, n_writes * failed);
    differences.compare("prefault.failed_wholly", prefault.failed_wholly, n_writes * failed_wholly);
    differences.compare("prefault.failed_partly", prefault.failed_partly, n_writes * (failed - failed_wholly));
    differences.compare("copy.calls", copy.calls, n_writes * copies);
    differences.compare("copy.bytes_copied", copy.bytes_copied, n_writes * copied_pages * PAGE);
    differences.compare("copy.zero", copy.zero, n_writes * zero);
    differences.compare("copy.partial", copy.partial, n_writes * partial);
    // A power of two is the bound of its own bucket.
    let le = if copies == 0 { 0 } else { copies.next_power_of_two() };
    let rounds = [document::RoundsBucket { le: Some(le), count: n_writes }];
    if counted.write.rounds.buckets != rounds {
        differences.0.push(format!("write.rounds is {:?}, expected {rounds:?}", counted.write.rounds.buckets));
    }
}

pub(super) fn compare_path(
    differences: &mut Differences,
    counted: &document::Filesystem,
    function: &str,
    mode: Mode,
    per_write: PerWrite,
    n_writes: u64,
) {
    // A path that never came to a copy has not shown when it prefaults.
    let mode = if per_write.copies == 0 { "not seen" } else { mode.name() };
    // The compiler may have put a suffix such as `.isra.0` behind the name.
    let is_function = |path: &&document::Path| path.function.split('.').next() == Some(function);
    match counted.paths.iter().find(is_function) {
        Some(path) => {
            differences.compare(&format!("calls of {function}"), path.calls, n_writes);
            differences.compare(&format!("mode of {function}"), path.mode.as_str(), mode);
        }
        None => {
            let functions: Vec<&str> = counted.paths.iter().map(|path| path.function.as_str()).collect();
            differences.compare("write path", functions.join(" "), function.to_owned());
        }
    }
}

/// All that is not as expected, so that one failure tells the whole story.
#[derive(Default)]
pub(super) struct Differences(Vec<String>);

impl Differences {
    pub(super) fn compare<T: PartialEq + std::fmt::Display>(&mut self, what: &str, is: T, expected: T) {
        if is != expected {
            self.0.push(format!("{what} is {is}, expected {expected}"));
        }
    }

    pub(super) fn finish(self) -> Result<()> {
        ensure!(self.0.is_empty(), "{}", self.0.join("\n"));
        Ok(())
    }
}
