//! Attaching by absolute address and with a cookie, which aya 0.14 has no calls for.
//!
//! Names will not do: two modules may have a function of the same name, and a site is an address inside a function. Every
//! attachment is a file descriptor, so that nothing stays attached after any kind of end.

use crate::host::environment::KPROBE_PMU;
use std::{
    fs, io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// The kprobe PMU of the running kernel.
#[derive(Clone, Copy, Debug)]
pub struct KprobePmu {
    kind: u32,
    return_bit: u32,
}

/// An attachment; closing it detaches.
#[derive(Debug)]
pub struct Link {
    /// Where the kprobe is, `None` if it is none.
    pub address: Option<u64>,
    _link: Option<OwnedFd>,
    _event: Option<OwnedFd>,
}

/// The first members of `struct perf_event_attr` (include/uapi/linux/perf_event.h), as far as its second version goes.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    /// kprobe_func: a name, or 0 to take the address.
    config1: u64,
    /// kprobe_addr.
    config2: u64,
}

/// `bpf_attr.link_create` (include/uapi/linux/bpf.h) for perf events and for tracing programs.
#[repr(C)]
#[derive(Default)]
struct LinkCreateAttr {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    /// perf_event.bpf_cookie, or tracing.target_btf_id.
    first: u64,
    /// tracing.cookie
    second: u64,
}

const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_TRACE_FENTRY: u32 = 24;
const BPF_TRACE_FEXIT: u32 = 25;
const BPF_PERF_EVENT: u32 = 41;
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;
const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;

impl KprobePmu {
    /// Finds the PMU.
    ///
    /// # Errors
    /// If the kernel has none: it was built without CONFIG_KPROBE_EVENTS or CONFIG_PERF_EVENTS.
    pub fn open() -> io::Result<Self> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "unexpected contents of the kprobe PMU's files");
        let kind = fs::read_to_string(format!("{KPROBE_PMU}/type"))?.trim().parse().map_err(|_| invalid())?;
        let format = fs::read_to_string(format!("{KPROBE_PMU}/format/retprobe"))?;
        let return_bit = format.trim().strip_prefix("config:").and_then(|bit| bit.parse().ok()).ok_or_else(invalid)?;
        Ok(Self { kind, return_bit })
    }

    /// Makes a kprobe at `address`, or a kretprobe on the function at `address`, which runs nothing yet.
    ///
    /// # Errors
    /// EINVAL: the function has no ftrace location; EILSEQ: no instruction starts there; EPERM: privilege or lockdown.
    pub fn open_event(self, address: u64, on_return: bool) -> io::Result<OwnedFd> {
        let attr = PerfEventAttr {
            kind: self.kind,
            size: size_of::<PerfEventAttr>() as u32,
            config: u64::from(on_return) << self.return_bit,
            config2: address,
            ..PerfEventAttr::default()
        };
        // SAFETY: the attribute lives through the call and has the size it says. The event counts on CPU 0 by name
        // only: BPF programs of a kprobe event run on every CPU.
        owned(unsafe {
            let no_group = -1;
            libc::syscall(libc::SYS_perf_event_open, &raw const attr, -1, 0, no_group, PERF_FLAG_FD_CLOEXEC)
        })
    }
}

/// Runs `program` at `event`, which is at `address`.
///
/// # Errors
/// As the kernel answers.
pub fn attach_event(event: OwnedFd, program: BorrowedFd<'_>, address: u64, cookie: u64) -> io::Result<Link> {
    let linked = link_create(&LinkCreateAttr {
        program: program.as_raw_fd() as u32,
        target: event.as_raw_fd() as u32,
        attach_type: BPF_PERF_EVENT,
        first: cookie,
        ..LinkCreateAttr::default()
    });
    match linked {
        Ok(link) => Ok(Link { address: Some(address), _link: Some(link), _event: Some(event) }),
        // Before 5.15 perf events have no links (b89fbfbb854c "bpf: Implement minimal BPF perf link").
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            set_program(&event, program)?;
            Ok(Link { address: Some(address), _link: None, _event: Some(event) })
        }
        Err(error) => Err(error),
    }
}

/// Attaches a tracing program to the function that it was loaded for.
///
/// # Errors
/// As the kernel answers: EBUSY if the function has no ftrace location, EINVAL before 5.19, which has no cookies.
pub fn attach_tracing(program: BorrowedFd<'_>, on_return: bool, cookie: u64) -> io::Result<Link> {
    let link = link_create(&LinkCreateAttr {
        program: program.as_raw_fd() as u32,
        attach_type: if on_return { BPF_TRACE_FEXIT } else { BPF_TRACE_FENTRY },
        second: cookie,
        ..LinkCreateAttr::default()
    })?;
    Ok(Link { address: None, _link: Some(link), _event: None })
}

/// Runs `program` at `event` and enables it; what it does without a link is without a cookie.
fn set_program(event: &OwnedFd, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both descriptors are open, and the requests take a number.
    let results = unsafe {
        [
            libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()),
            libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_ENABLE, 0),
        ]
    };
    if results.contains(&-1) { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn link_create(attr: &LinkCreateAttr) -> io::Result<OwnedFd> {
    // SAFETY: the attribute lives through the call and has the size that is passed.
    owned(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_LINK_CREATE, core::ptr::from_ref(attr), size_of::<LinkCreateAttr>())
    })
}

/// The descriptor that a system call returned, or its error.
pub(super) fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}
