//! seccomp: the system calls that are left. All others answer EPERM, so that a way that was overlooked is an error with a
//! message and not the end.

use std::{collections::BTreeMap, env::consts::ARCH};

use anyhow::{Context as _, Result};
use libc::{
    SYS_accept4, SYS_bpf, SYS_brk, SYS_clock_getres, SYS_clock_gettime, SYS_clock_nanosleep, SYS_clone, SYS_clone3,
    SYS_close, SYS_connect, SYS_dup, SYS_dup3, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2,
    SYS_eventfd2, SYS_exit, SYS_exit_group, SYS_faccessat, SYS_fchmod, SYS_fcntl, SYS_fdatasync, SYS_fstat, SYS_fsync,
    SYS_futex, SYS_getcwd, SYS_getdents64, SYS_getegid, SYS_geteuid, SYS_getgid, SYS_getpeername, SYS_getpid,
    SYS_getrandom, SYS_getrusage, SYS_getsockname, SYS_getsockopt, SYS_gettid, SYS_gettimeofday, SYS_getuid, SYS_ioctl,
    SYS_lseek, SYS_madvise, SYS_membarrier, SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap, SYS_nanosleep,
    SYS_newfstatat, SYS_openat, SYS_perf_event_open, SYS_pipe2, SYS_ppoll, SYS_prctl, SYS_pread64, SYS_prlimit64,
    SYS_pwrite64, SYS_read, SYS_readlinkat, SYS_readv, SYS_recvfrom, SYS_renameat, SYS_renameat2, SYS_restart_syscall,
    SYS_rseq, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sched_getaffinity, SYS_sched_yield,
    SYS_sendto, SYS_set_robust_list, SYS_setsockopt, SYS_shutdown, SYS_sigaltstack, SYS_socket, SYS_statx, SYS_sysinfo,
    SYS_tgkill, SYS_timerfd_create, SYS_timerfd_settime, SYS_uname, SYS_unlinkat, SYS_write, SYS_writev, c_long,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpArgLen::Qword, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};

use super::Confinement;

/// Calls that are allowed with any arguments: files and sockets that are open, memory, time, waiting, and making probes.
///
/// Nothing is here that asks other processes for something: no socket is made, no descriptor passed or taken
/// (sendmsg, recvmsg), and what a datagram socket sends goes to the peer that it was connected to before.
const ALLOWED: &[c_long] = &[
    SYS_accept4,
    SYS_brk,
    SYS_clock_getres,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_close,
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
    SYS_fstat,
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
    SYS_perf_event_open,
    SYS_pipe2,
    SYS_ppoll,
    SYS_pread64,
    SYS_pwrite64,
    SYS_read,
    SYS_readlinkat,
    SYS_readv,
    SYS_recvfrom,
    SYS_restart_syscall,
    SYS_rseq,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_sched_getaffinity,
    SYS_sched_yield,
    SYS_set_robust_list,
    SYS_setsockopt,
    SYS_shutdown,
    SYS_sigaltstack,
    SYS_statx,
    SYS_sysinfo,
    SYS_timerfd_create,
    SYS_timerfd_settime,
    SYS_uname,
    SYS_write,
    SYS_writev,
];

/// Older calls for the same, which only this architecture has.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_epoll_wait,
    libc::SYS_lstat,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_stat,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[c_long] = &[];

/// Calls that replace a file, where one is written.
const REPLACING: &[c_long] = &[SYS_fdatasync, SYS_fsync, SYS_renameat, SYS_renameat, SYS_renameat2, SYS_unlinkat];
#[cfg(target_arch = "x86_64")]
const REPLACING_HERE: &[c_long] = &[libc::SYS_rename, libc::SYS_unlink];
#[cfg(not(target_arch = "x86_64"))]
const REPLACING_HERE: &[c_long] = &[];

/// The mode that a file can be given: everybody may read it.
const FILE_MODE: u64 = 0o644;

/// Requests of fcntl(2). Left out are owners and signals of descriptors (F_SETOWN, F_SETSIG), by which the superuser signals
/// any process, and locks and leases, by which others wait.
const FCNTL: [libc::c_int; 6] =
    [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];

/// Commands of bpf(2), as `enum bpf_cmd` numbers them (include/uapi/linux/bpf.h): what making maps and programs, and reading
/// them, takes. Left out are those that reach objects of others (by number, or pinned in a filesystem), that attach without
/// a link, and that ask what others have attached. A program of the type BPF_PROG_TYPE_SYSCALL can reach a map by its number,
/// but the kernel wants CAP_SYS_ADMIN for that.
const BPF: [u64; 12] = [
    0,  // BPF_MAP_CREATE
    1,  // BPF_MAP_LOOKUP_ELEM
    2,  // BPF_MAP_UPDATE_ELEM
    3,  // BPF_MAP_DELETE_ELEM
    4,  // BPF_MAP_GET_NEXT_KEY
    5,  // BPF_PROG_LOAD
    10, // BPF_PROG_TEST_RUN: the text of modules is read so
    15, // BPF_OBJ_GET_INFO_BY_FD
    17, // BPF_RAW_TRACEPOINT_OPEN
    18, // BPF_BTF_LOAD
    22, // BPF_MAP_FREEZE
    28, // BPF_LINK_CREATE
];

/// Requests of ioctl(2): programs of perf events, sockets that do not block, and asking whether this is a terminal.
const REQUESTS: [libc::c_ulong; 5] = [0x4004_2408, 0x2400, libc::FIONBIO, libc::FIOCLEX, libc::TCGETS];

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// Restricts this thread and those it starts, and returns the number of calls that are left.
///
/// # Errors
/// If the kernel has no seccomp filters, or refuses them.
pub fn apply(confinement: &Confinement) -> Result<usize> {
    let writes = !confinement.writable.is_empty();
    let allowed = allowed(confinement.connects, writes).context("failed to describe the system calls")?;
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
fn allowed(connects: bool, writes: bool) -> Result<Rules> {
    let mut rules: Rules = ALLOWED.iter().chain(ALLOWED_HERE).map(|&call| (call, Vec::new())).collect();
    rules.insert(SYS_clone3, Vec::new());
    let threads = libc::CLONE_THREAD as u64;
    rules.insert(SYS_clone, vec![rule(0, SeccompCmpOp::MaskedEq(threads), threads)?]);
    // No memory becomes code.
    for call in [SYS_mmap, SYS_mprotect] {
        rules.insert(call, vec![rule(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)?]);
    }
    rules.insert(SYS_bpf, one_of(0, BPF)?);
    rules.insert(SYS_fcntl, one_of(1, FCNTL.map(|request| request as u64))?);
    // To the peer that the socket is connected to: the address is null.
    rules.insert(SYS_sendto, vec![SeccompRule::new(vec![SeccompCondition::new(4, Qword, SeccompCmpOp::Eq, 0)?])?]);
    if connects {
        rules.insert(SYS_connect, Vec::new());
        rules.insert(SYS_socket, [libc::AF_INET, libc::AF_INET6].map(tcp).into_iter().collect::<Result<_>>()?);
    }
    opening(&mut rules, writes)?;
    rules.insert(SYS_prctl, vec![rule(0, SeccompCmpOp::Eq, libc::PR_SET_NAME as u64)?]);
    rules.insert(SYS_tgkill, vec![rule(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?]);
    // Limits of this process are read and not set: the pointer to the new one is null.
    let itself = SeccompCondition::new(0, Dword, SeccompCmpOp::Eq, 0)?;
    let no_new_limit = SeccompCondition::new(2, Qword, SeccompCmpOp::Eq, 0)?;
    rules.insert(SYS_prlimit64, vec![SeccompRule::new(vec![itself, no_new_limit])?]);
    let pending = connects.then_some(libc::FIONREAD);
    rules.insert(SYS_ioctl, one_of(1, REQUESTS.into_iter().chain(pending))?);
    Ok(rules)
}

/// Files are opened to be read. Where one is written, new ones are made besides: a file that is there, be it another's, a
/// setting of the kernel or the memory of a process, is never opened to be written, with landlock or without.
fn opening(rules: &mut Rules, writes: bool) -> Result<()> {
    let writing = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as u64;
    let new = (libc::O_CREAT | libc::O_EXCL) as u64;
    let opens = |flags: u8| -> Result<Vec<SeccompRule>> {
        let mut opens = vec![rule(flags, SeccompCmpOp::MaskedEq(writing), libc::O_RDONLY as u64)?];
        if writes {
            opens.push(rule(flags, SeccompCmpOp::MaskedEq(new), new)?);
        }
        Ok(opens)
    };
    rules.insert(SYS_openat, opens(2)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, opens(1)?);
    if writes {
        rules.extend(REPLACING.iter().chain(REPLACING_HERE).map(|&call| (call, Vec::new())));
        rules.insert(SYS_fchmod, vec![rule(1, SeccompCmpOp::Eq, FILE_MODE)?]);
    }
    Ok(())
}

/// socket(2) for TCP over `family`.
fn tcp(family: libc::c_int) -> Result<SeccompRule> {
    // The flags beside the type: it does not block, and is closed when a program is started.
    let kind = !((libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) as u32);
    let family = SeccompCondition::new(0, Dword, SeccompCmpOp::Eq, family as u64)?;
    let stream = SeccompCmpOp::MaskedEq(kind.into());
    Ok(SeccompRule::new(vec![family, SeccompCondition::new(1, Dword, stream, libc::SOCK_STREAM as u64)?])?)
}

/// Rules for an argument that has one of the values.
fn one_of(argument: u8, values: impl IntoIterator<Item = u64>) -> Result<Vec<SeccompRule>> {
    values.into_iter().map(|value| rule(argument, SeccompCmpOp::Eq, value)).collect()
}

fn rule(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule> {
    Ok(SeccompRule::new(vec![SeccompCondition::new(argument, Dword, operator, value)?])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls that start something, change the system, or ask other processes.
    const FORBIDDEN: [c_long; 28] = [
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
        libc::SYS_pidfd_getfd,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_send_signal,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_io_uring_setup,
        libc::SYS_openat2,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_sendmsg,
        libc::SYS_recvmsg,
        libc::SYS_sendmmsg,
        libc::SYS_socketpair,
    ];

    #[test]
    fn no_call_is_listed_twice_and_none_that_starts_or_changes_the_system_or_asks_others() {
        let rules = allowed(false, false).expect("good rules");
        assert_eq!(rules.len(), ALLOWED.len() + ALLOWED_HERE.len() + 12 + usize::from(cfg!(target_arch = "x86_64")));
        let all = allowed(true, true).expect("good rules");
        for call in FORBIDDEN {
            assert!(!all.contains_key(&call), "{call}");
        }
        let added =
            [libc::SYS_socket, libc::SYS_connect, libc::SYS_fchmod].into_iter().chain(REPLACING.iter().copied());
        for call in added.chain(REPLACING_HERE.iter().copied()) {
            assert!(all.contains_key(&call) && !rules.contains_key(&call), "{call}");
        }
    }
}
