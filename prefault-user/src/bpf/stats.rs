//! What the kernel knows of our programs: runs, their time, and runs that it skipped.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use super::attach::owned;
use crate::data::OwnCost;

/// `enum bpf_cmd` (include/uapi/linux/bpf.h).
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_ENABLE_STATS: libc::c_long = 32;

/// `struct bpf_prog_info` as far as it matters here. Of what stands before, all zero, nothing is asked for.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    before: [u64; 24],
    run_time_ns: u64,
    run_cnt: u64,
    recursion_misses: u64,
}

/// `bpf_attr.info`.
#[repr(C)]
struct InfoAttr {
    fd: u32,
    size: u32,
    info: u64,
}

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
    let mut info = ProgramInfo::default();
    let size = size_of::<ProgramInfo>() as u32;
    let attr = InfoAttr { fd: program.as_raw_fd() as u32, size, info: &raw mut info as u64 };
    // SAFETY: the attribute and what it points to live through the call and have the sizes that are passed. It cannot fail for
    // a program that is loaded.
    unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw const attr, size_of::<InfoAttr>()) };
    let ProgramInfo { before: _, run_time_ns, run_cnt, recursion_misses } = info;
    ProgramStats { own_cost: OwnCost { runs: run_cnt, run_ns: run_time_ns }, missed_runs: recursion_misses }
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
    fn a_number_is_found_behind_its_key() {
        let info = "pos:\t0\nmap_id:\t2\nmemlock:\t1200\n";
        assert_eq!((number(info, "memlock:"), number(info, "frozen:")), (Some(1200), None));
    }

    #[test]
    fn numbers_stand_where_the_kernel_puts_them() {
        let offsets = [
            std::mem::offset_of!(ProgramInfo, run_time_ns),
            std::mem::offset_of!(ProgramInfo, run_cnt),
            std::mem::offset_of!(ProgramInfo, recursion_misses),
        ];
        assert_eq!(offsets, [192, 200, 208]);
    }
}
