//! What cannot be taken from a process that makes probes: changing programs of others by breakpoints in their code.

use std::{ffi::CString, fs, io, os::unix::ffi::OsStrExt as _, path::Path};

use super::check;

const UPROBE_TYPE: &str = "/sys/bus/event_source/devices/uprobe/type";
const PT_LOAD: u32 = 1;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;

/// The place in a program at which it begins.
pub struct Entry {
    path: CString,
    offset: u64,
}

/// `struct perf_event_attr` (include/uapi/linux/perf_event.h) as far as its second version goes.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    /// config, sample_period, sample_type, read_format, flags, wakeup_events and bp_type.
    between: [u64; 6],
    /// uprobe_path.
    config1: u64,
    /// probe_offset.
    config2: u64,
}

impl Entry {
    /// Finds it in an ELF file of this architecture.
    pub fn of(path: &Path) -> io::Result<Self> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "no program");
        let path = fs::canonicalize(path)?;
        let image = fs::read(&path)?;
        let number = |at: u64, length: usize| {
            let bytes = image.get(at as usize..at as usize + length)?;
            Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
        };
        let offset = || {
            let (entry, table, n_entries) = (number(0x18, 8)?, number(0x20, 8)?, number(0x38, 2)?);
            (0..n_entries).find_map(|index| {
                let at = table + index * 56;
                let (kind, offset, address, length) =
                    (number(at, 4)?, number(at + 8, 8)?, number(at + 16, 8)?, number(at + 32, 8)?);
                let is_there = kind == u64::from(PT_LOAD) && (address..address + length).contains(&entry);
                is_there.then(|| entry - address + offset)
            })
        };
        let offset = offset().ok_or_else(invalid)?;
        Ok(Self { path: CString::new(path.as_os_str().as_bytes()).map_err(|_| invalid())?, offset })
    }

    /// Makes an event of a breakpoint there.
    pub fn break_at(&self) -> io::Result<()> {
        let kind = fs::read_to_string(UPROBE_TYPE)?.trim().parse();
        let attr = PerfEventAttr {
            kind: kind.map_err(|_| io::Error::other("no number"))?,
            size: size_of::<PerfEventAttr>() as u32,
            config1: self.path.as_ptr() as u64,
            config2: self.offset,
            ..PerfEventAttr::default()
        };
        // SAFETY: the attribute and the path in it live through the call. The descriptor is closed when the process ends.
        check(unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC) })
    }
}
