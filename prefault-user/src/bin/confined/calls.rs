//! What takes a raw system call to try. None of these may be done.

use std::{ffi::CStr, io, ptr};

use super::check;

const TRUE: &CStr = c"/bin/true";
const FOLDER: &CStr = c"/";
const NONE: &CStr = c"none";
const TMPFS: &CStr = c"tmpfs";
const USER: &CStr = c"user";

/// Commands of bpf(2) (`enum bpf_cmd` in include/uapi/linux/bpf.h).
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_GET_NEXT_ID: libc::c_long = 11;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_MAP_GET_FD_BY_ID: libc::c_long = 14;
const BPF_ENABLE_STATS: libc::c_long = 32;

/// A call, given the number of a process of the same user.
type Call = fn(libc::pid_t) -> io::Result<()>;

/// Names and calls.
pub const CALLS: [(&str, Call); 32] = [
    ("become another program", |_| {
        let arguments = [TRUE.as_ptr(), ptr::null()];
        // SAFETY: both are arrays that end with null and live through the call.
        check(unsafe { libc::execve(TRUE.as_ptr(), arguments.as_ptr(), &raw const arguments[1]) }.into())
    }),
    ("fork", |_| {
        // SAFETY: the child does nothing but end, if there is one.
        match unsafe { libc::syscall(libc::SYS_fork) } {
            // SAFETY: as above.
            0 => unsafe { libc::_exit(0) },
            result => check(result),
        }
    }),
    ("mount", |_| {
        // SAFETY: all pointers are to constants, and no data is passed.
        check(unsafe { libc::mount(NONE.as_ptr(), FOLDER.as_ptr(), TMPFS.as_ptr(), 0, ptr::null()) }.into())
    }),
    // SAFETY: the call takes numbers.
    ("trace process 1", |_| check(unsafe { libc::ptrace(libc::PTRACE_ATTACH, 1, 0, 0) })),
    // SAFETY: as above.
    ("trace a process of the same user", |pid| check(unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, 0, 0) })),
    // SAFETY: as above.
    ("signal process 1", |_| check(unsafe { libc::kill(1, 0) }.into())),
    // SAFETY: as above.
    ("signal a process of the same user", |pid| check(unsafe { libc::kill(pid, 0) }.into())),
    // SAFETY: as above.
    ("signal a thread of it", |pid| check(unsafe { libc::syscall(libc::SYS_tgkill, pid, pid, 0) })),
    // SAFETY: as above.
    ("become root", |_| check(unsafe { libc::setuid(0) }.into())),
    // SAFETY: as above.
    ("enter a new namespace", |_| check(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into())),
    // SAFETY: as above.
    ("enter a new user namespace", |_| check(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into())),
    // SAFETY: the path is a constant.
    ("change the root", |_| check(unsafe { libc::chroot(FOLDER.as_ptr()) }.into())),
    ("load a module", |_| {
        // SAFETY: no bytes are passed.
        check(unsafe { libc::syscall(libc::SYS_init_module, ptr::null::<u8>(), 0, NONE.as_ptr()) })
    }),
    ("make memory executable", |_| mapped(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC)),
    // SAFETY: the call takes numbers.
    ("refer to another process", |pid| check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })),
    // SAFETY: as above.
    ("take a descriptor of another process", |_| check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, 0, 0, 0) })),
    ("read another process's memory", |pid| vm(libc::SYS_process_vm_readv, pid)),
    ("write another process's memory", |pid| vm(libc::SYS_process_vm_writev, pid)),
    ("type into the terminal", |_| {
        // SAFETY: the byte is a constant that lives through the call.
        check(unsafe { libc::ioctl(0, libc::TIOCSTI, NONE.as_ptr()) }.into())
    }),
    ("add a key", |_| {
        // SAFETY: the texts are constants, and no payload is passed.
        check(unsafe { libc::syscall(libc::SYS_add_key, USER.as_ptr(), NONE.as_ptr(), ptr::null::<u8>(), 0, -3) })
    }),
    // SAFETY: the call takes numbers.
    ("use the keys of its user", |_| check(unsafe { libc::syscall(libc::SYS_keyctl, 0, -4, 0) })),
    ("read the limits of another process", |pid| {
        // SAFETY: as above; the limit that is asked for goes nowhere.
        check(unsafe {
            libc::syscall(libc::SYS_prlimit64, pid, libc::RLIMIT_NOFILE, ptr::null::<u8>(), ptr::null::<u8>())
        })
    }),
    ("set its own limits", |_| {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the limit lives through the call.
        check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) }.into())
    }),
    ("make an io_uring", |_| {
        // SAFETY: there are no parameters, which is an error.
        check(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, ptr::null::<u8>()) })
    }),
    // SAFETY: the call takes numbers, and no buffer.
    ("be dumped again", |_| check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }.into())),
    ("walk through BPF programs of others", |_| bpf(BPF_PROG_GET_NEXT_ID)),
    ("take a BPF program of others", |_| bpf(BPF_PROG_GET_FD_BY_ID)),
    ("take a BPF map of others", |_| bpf(BPF_MAP_GET_FD_BY_ID)),
    ("pin a BPF object", |_| bpf(BPF_OBJ_PIN)),
    ("take a pinned BPF object", |_| bpf(BPF_OBJ_GET)),
    ("attach to a cgroup", |_| bpf(BPF_PROG_ATTACH)),
    ("measure all BPF programs", |_| bpf(BPF_ENABLE_STATS)),
];

/// Memory of its own at no given place.
fn mapped(protection: libc::c_int) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: nothing that is mapped already is touched.
    let mapped = unsafe { libc::mmap(ptr::null_mut(), 4096, protection, flags, -1, 0) };
    check(if mapped == libc::MAP_FAILED { -1 } else { 0 })
}

/// No bytes, from or to another process.
fn vm(call: libc::c_long, pid: libc::pid_t) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(call, pid, ptr::null::<u8>(), 0, ptr::null::<u8>(), 0, 0) })
}

/// A command of bpf(2) with an attribute that is all zero.
fn bpf(command: libc::c_long) -> io::Result<()> {
    let attribute = [0_u64; 16];
    // SAFETY: the attribute lives through the call and has the size that is passed.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attribute, size_of_val(&attribute)) })
}
