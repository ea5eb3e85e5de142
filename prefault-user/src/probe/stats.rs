//! What the kernel knows of our programs: runs, their time, and runs that it skipped.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use super::attach::owned;
use crate::data::OwnCost;

/// `enum bpf_cmd` (include/uapi/linux/bpf.h).
const BPF_ENABLE_STATS: libc::c_long = 32;

/// Descriptors of all programs that were loaded, to which more come while others look at them.
#[derive(Clone, Debug, Default)]
pub struct Programs(Arc<Mutex<Vec<OwnedFd>>>);

impl Programs {
    /// Adds one.
    pub fn push(&self, program: OwnedFd) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(program);
    }

    /// What the kernel knows of each.
    #[must_use]
    pub fn stats(&self) -> Vec<ProgramStats> {
        let programs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        programs.iter().map(|program| program_stats(program.as_fd())).collect()
    }
}

/// What the kernel knows of one program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramStats {
    /// Runs and their time, of the time during which the kernel measured them.
    pub own_cost: OwnCost,
    /// Runs that the kernel skipped, because one was already running on the CPU; 0 where it does not count them (before
    /// 5.12, 9ed9e9ba2337 "bpf: Count the number of times recursion was prevented").
    pub missed_runs: u64,
}

/// Makes the kernel measure the runs of all BPF programs until the descriptor is closed. It takes two readings of the
/// clock per run.
///
/// # Errors
/// EINVAL before 5.8 (d46edd671a14 "bpf: Sharing bpf runtime stats with BPF_ENABLE_STATS"), EPERM without CAP_SYS_ADMIN.
pub fn measure_runs() -> io::Result<OwnedFd> {
    // BPF_STATS_RUN_TIME
    let kind: u32 = 0;
    // SAFETY: the attribute is a number that lives through the call, of the size that is passed.
    owned(unsafe { libc::syscall(libc::SYS_bpf, BPF_ENABLE_STATS, &raw const kind, size_of_val(&kind)) })
}

fn program_stats(program: BorrowedFd<'_>) -> ProgramStats {
    parse(&fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).unwrap_or_default())
}

fn parse(info: &str) -> ProgramStats {
    let number = |key| number(info, key).unwrap_or(0);
    ProgramStats {
        own_cost: OwnCost { runs: number("run_cnt:"), run_ns: number("run_time_ns:") },
        missed_runs: number("recursion_misses:"),
    }
}

/// The number behind `key` in the text of a file below /proc/self/fdinfo.
#[must_use]
pub fn number(info: &str, key: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix(key))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_program_are_read_from_its_fdinfo() {
        let info = "pos:\t0\nprog_type:\t2\nrun_time_ns:\t1200\nrun_cnt:\t3\nrecursion_misses:\t1\n";
        assert_eq!(parse(info), ProgramStats { own_cost: OwnCost { runs: 3, run_ns: 1200 }, missed_runs: 1 });
        assert_eq!(parse("prog_type:\t2\n"), ProgramStats::default());
    }
}
