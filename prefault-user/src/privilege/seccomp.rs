//! seccomp: the system calls that are left. All others answer EPERM, so that a way that was overlooked is an error with a
//! message and not the end.

use std::{collections::BTreeMap, env::consts::ARCH};

use anyhow::{Context as _, Result};
use libc::{
    SYS_accept4, SYS_bpf, SYS_brk, SYS_clock_getres, SYS_clock_gettime, SYS_clock_nanosleep, SYS_clone, SYS_clone3,
    SYS_close, SYS_connect, SYS_dup, SYS_dup3, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2,
    SYS_eventfd2, SYS_exit, SYS_exit_group, SYS_faccessat, SYS_fchmod, SYS_fcntl, SYS_fdatasync, SYS_fstat, SYS_fsync,
    SYS_ftruncate, SYS_futex, SYS_getcwd, SYS_getdents64, SYS_getegid, SYS_geteuid, SYS_getgid, SYS_getpeername,
    SYS_getpid, SYS_getrandom, SYS_getrusage, SYS_getsockname, SYS_getsockopt, SYS_gettid, SYS_gettimeofday,
    SYS_getuid, SYS_ioctl, SYS_lseek, SYS_madvise, SYS_membarrier, SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap,
    SYS_nanosleep, SYS_newfstatat, SYS_openat, SYS_perf_event_open, SYS_pipe2, SYS_ppoll, SYS_prctl, SYS_pread64,
    SYS_prlimit64, SYS_pwrite64, SYS_read, SYS_readlinkat, SYS_readv, SYS_recvfrom, SYS_recvmsg, SYS_renameat2,
    SYS_restart_syscall, SYS_rseq, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sched_getaffinity,
    SYS_sched_yield, SYS_sendmsg, SYS_sendto, SYS_set_robust_list, SYS_setsockopt, SYS_shutdown, SYS_sigaltstack,
    SYS_socket, SYS_socketpair, SYS_statx, SYS_sysinfo, SYS_tgkill, SYS_timerfd_create, SYS_timerfd_settime, SYS_uname,
    SYS_unlinkat, SYS_write, SYS_writev, c_long,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpArgLen::Qword, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};

/// Calls that are allowed with any arguments: files that landlock lets through, sockets that are open, memory, time,
/// waiting, and the two that measuring is made of.
const ALLOWED: &[c_long] = &[
    SYS_accept4,
    SYS_bpf,
    SYS_brk,
    SYS_clock_getres,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_close,
    SYS_connect,
    SYS_dup,
    SYS_dup3,
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_epoll_pwait2,
    SYS_eventfd2,
    SYS_exit,
    SYS_exit_group,
    SYS_faccessat,
    SYS_fchmod,
    SYS_fcntl,
    SYS_fdatasync,
    SYS_fstat,
    SYS_fsync,
    SYS_ftruncate,
    SYS_futex,
    SYS_getcwd,
    SYS_getdents64,
    SYS_getegid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getpeername,
    SYS_getpid,
    SYS_getrandom,
    SYS_getrusage,
    SYS_getsockname,
    SYS_getsockopt,
    SYS_gettid,
    SYS_gettimeofday,
    SYS_getuid,
    SYS_lseek,
    SYS_madvise,
    SYS_membarrier,
    SYS_mremap,
    SYS_munmap,
    SYS_nanosleep,
    SYS_newfstatat,
    SYS_openat,
    SYS_perf_event_open,
    SYS_pipe2,
    SYS_ppoll,
    SYS_pread64,
    SYS_pwrite64,
    SYS_read,
    SYS_readlinkat,
    SYS_readv,
    SYS_recvfrom,
    SYS_recvmsg,
    SYS_renameat2,
    SYS_restart_syscall,
    SYS_rseq,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_sched_getaffinity,
    SYS_sched_yield,
    SYS_sendmsg,
    SYS_sendto,
    SYS_set_robust_list,
    SYS_setsockopt,
    SYS_shutdown,
    SYS_sigaltstack,
    SYS_socketpair,
    SYS_statx,
    SYS_sysinfo,
    SYS_timerfd_create,
    SYS_timerfd_settime,
    SYS_uname,
    SYS_unlinkat,
    SYS_write,
    SYS_writev,
];

/// Older calls for the same, which only this architecture has.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_epoll_wait,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[c_long] = &[];

/// Requests of ioctl(2): programs of perf events, sockets that do not block, and asking whether this is a terminal.
const REQUESTS: [libc::c_ulong; 5] = [0x4004_2408, 0x2400, libc::FIONBIO, libc::FIOCLEX, libc::TCGETS];

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// Restricts this thread and those it starts, and returns the number of calls that are left.
///
/// # Errors
/// If the kernel has no seccomp filters, or refuses them.
pub fn apply(connects: bool) -> Result<usize> {
    let allowed = allowed(connects).context("failed to describe the system calls")?;
    let n_allowed = allowed.len() - 1;
    // What clone3 is to do lies in memory, where a filter cannot look. The C library falls back to clone on this answer.
    let clone3 = Rules::from([(SYS_clone3, Vec::new())]);
    install(clone3, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))?;
    install(allowed, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)?;
    Ok(n_allowed)
}

fn install(rules: Rules, otherwise: SeccompAction, on_match: SeccompAction) -> Result<()> {
    let architecture = ARCH.try_into().context("failed to find this architecture among those of seccomp")?;
    let filter = SeccompFilter::new(rules, otherwise, on_match, architecture)?;
    let program: BpfProgram = filter.try_into()?;
    apply_filter(&program).context("failed to apply the seccomp filter")
}

/// The calls and, of some, with which arguments. It has clone3, which the other filter answers.
fn allowed(connects: bool) -> Result<Rules> {
    let mut rules: Rules = ALLOWED.iter().chain(ALLOWED_HERE).map(|&call| (call, Vec::new())).collect();
    rules.insert(SYS_clone3, Vec::new());
    let threads = libc::CLONE_THREAD as u64;
    rules.insert(SYS_clone, vec![rule(0, SeccompCmpOp::MaskedEq(threads), threads)?]);
    // No memory becomes code.
    for call in [SYS_mmap, SYS_mprotect] {
        rules.insert(call, vec![rule(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)?]);
    }
    // The service manager is told how it goes.
    let mut sockets = vec![rule(0, SeccompCmpOp::Eq, libc::AF_UNIX as u64)?];
    if connects {
        for family in [libc::AF_INET, libc::AF_INET6] {
            sockets.push(rule(0, SeccompCmpOp::Eq, family as u64)?);
        }
        // What looking up a name takes.
        rules.insert(libc::SYS_sendmmsg, Vec::new());
    }
    rules.insert(SYS_socket, sockets);
    rules.insert(SYS_prctl, vec![rule(0, SeccompCmpOp::Eq, libc::PR_SET_NAME as u64)?]);
    rules.insert(SYS_tgkill, vec![rule(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?]);
    // Limits are read and not set: the pointer to the new one is null.
    let no_new_limit = SeccompCondition::new(2, Qword, SeccompCmpOp::Eq, 0)?;
    rules.insert(SYS_prlimit64, vec![SeccompRule::new(vec![no_new_limit])?]);
    let pending = connects.then_some(libc::FIONREAD);
    let requests = REQUESTS.into_iter().chain(pending).map(|request| rule(1, SeccompCmpOp::Eq, request));
    let requests: Result<Vec<SeccompRule>> = requests.collect();
    rules.insert(SYS_ioctl, requests?);
    Ok(rules)
}

fn rule(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule> {
    Ok(SeccompRule::new(vec![SeccompCondition::new(argument, Dword, operator, value)?])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_listed_twice_and_none_that_starts_or_changes_the_system() {
        let rules = allowed(false).expect("good rules");
        assert_eq!(rules.len(), ALLOWED.len() + ALLOWED_HERE.len() + 9);
        let forbidden = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_fork,
            libc::SYS_ptrace,
            libc::SYS_mount,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_setuid,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bind,
            libc::SYS_kill,
            libc::SYS_process_vm_writev,
            libc::SYS_io_uring_setup,
        ];
        for call in forbidden {
            assert!(!rules.contains_key(&call), "{call}");
        }
        assert_eq!(allowed(true).expect("good rules").len(), rules.len() + 1);
    }
}
