//! What the outputs take: an interval with its surroundings, as plain data.
//!
//! The session fills these in; the outputs know nothing else of it.

use prefault_ebpf::{Event, EventKind};

use super::interval::path_name;
use super::snapshot::text_until_nul;
use super::{Filesystem, Floor, Interval, Mechanism, Operation, OverheadReport, Points};

/// All there is to say about a measurement.
#[derive(Clone, Debug)]
pub struct Report {
    /// Release of the kernel, as `uname -r` prints it.
    pub kernel: String,
    /// What was counted.
    pub interval: Interval,
    /// Which of the writes were timed.
    pub timing: Timing,
    /// What came of a limit to the cost, `None` if there was none.
    pub limited: Option<OverheadReport>,
    /// What the points themselves add to latencies, `None` if that was not measured.
    pub floor: Option<Floor>,
    /// Every call site that was found, measured or not.
    pub sites: Vec<SiteReport>,
    /// The single events that were received, in the order of their reception; empty if none were asked for.
    pub events: Vec<EventRecord>,
}

/// Which writes are timed, with their prefaults and copies. All are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timing {
    /// Every one.
    #[default]
    All,
    /// None.
    None,
    /// One in this many, at least 2, chosen at random.
    OneIn(u32),
    /// None, because the clock advances in steps of so many nanoseconds.
    CoarseClock {
        /// The step.
        step_ns: u64,
    },
}

impl Timing {
    /// What follows from what was typed: one in `sample`, or none at all.
    pub fn wished(sample: Option<u32>, none: bool) -> Self {
        match sample {
            _ if none => Self::None,
            None | Some(1) => Self::All,
            Some(n) => Self::OneIn(n),
        }
    }

    /// One in how many writes is timed; `None` if none is.
    pub fn one_in(self) -> Option<u32> {
        match self {
            Self::All => Some(1),
            Self::None | Self::CoarseClock { .. } => None,
            Self::OneIn(n) => Some(n),
        }
    }

    /// The step of the clock, if it is what keeps writes from being timed, in nanoseconds.
    pub fn coarse_step_ns(self) -> Option<u64> {
        match self {
            Self::CoarseClock { step_ns } => Some(step_ns),
            _ => None,
        }
    }
}

/// One call instruction that was found, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteReport {
    /// The function that the call is in.
    pub caller: String,
    /// Distance of the call from the begin of the caller, in bytes.
    pub offset: u64,
    /// The function that is called.
    pub target: String,
    /// What it does.
    pub operation: Operation,
    /// The module of the caller, `None` if it is part of the kernel image.
    pub module: Option<String>,
    /// Functions of the write paths it belongs to.
    pub paths: Vec<String>,
    /// Whether it was measured.
    pub attached: bool,
    /// By what it was measured, `None` if it was not.
    pub mechanism: Option<Mechanism>,
    /// What the kernel has made of its points, `None` if it was not measured or the kernel does not say.
    pub points: Option<Points>,
    /// Why it was not measured, `None` if it was.
    pub why_not: Option<String>,
    /// Whether its operations were counted as lost, because its caller is not understood.
    pub unattributed: bool,
}

/// One short copy or failed prefault, with names in place of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// When it returned, in nanoseconds of CLOCK_MONOTONIC.
    pub timestamp_ns: u64,
    /// What it is.
    pub kind: EventKind,
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Thread name; may hold any characters.
    pub comm: String,
    /// Filesystem type, `other` if the filesystem has no slot of its own.
    pub fstype: String,
    /// Name of the device, `-` if there is none or it is not known.
    pub device: String,
    /// Inode number.
    pub inode: u64,
    /// Position in the file of the first byte asked.
    pub position: u64,
    /// Bytes asked.
    pub asked: u64,
    /// Bytes copied or faulted in.
    pub done: u64,
    /// User address of the first byte that was not copied or faulted in, `None` if it is not known.
    pub user_address: Option<u64>,
    /// Function of the write path, `path#N` if its name is not known.
    pub path: String,
}

impl EventRecord {
    /// Puts names to an event. `filesystem` is what its slot stands for, `None` if the slot is not known, which then
    /// reads as `other`. The result is `None` if the event is of an unknown kind.
    pub fn new(event: &Event, filesystem: Option<&Filesystem>, path_names: &[impl AsRef<str>]) -> Option<Self> {
        let filesystem = filesystem.cloned().unwrap_or_else(Filesystem::other);
        Some(Self {
            timestamp_ns: event.timestamp_ns,
            kind: kind_of(event.kind)?,
            pid: event.pid,
            tid: event.tid,
            comm: text_until_nul(&event.comm),
            fstype: filesystem.fstype,
            device: filesystem.device,
            inode: event.inode,
            position: event.position,
            asked: event.asked,
            done: event.done,
            user_address: (event.user_address != 0).then_some(event.user_address),
            path: path_name(event.path, path_names),
        })
    }

    /// Name of the kind in every output, in snake case.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            EventKind::ShortCopy => "short_copy",
            EventKind::FailedPrefault => "failed_prefault",
        }
    }
}

fn kind_of(kind: u32) -> Option<EventKind> {
    [EventKind::ShortCopy, EventKind::FailedPrefault].into_iter().find(|known| *known as u32 == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_gets_its_names() {
        let mut event = Event { kind: 1, path: 0, pid: 7, tid: 8, user_address: 0x7f00, ..Event::default() };
        event.comm[..3].copy_from_slice(b"tar");
        let tmpfs = Filesystem { fstype: "tmpfs".into(), device: "tmpfs".into(), major: 0, minor: 27 };
        let record = EventRecord::new(&event, Some(&tmpfs), &["generic_perform_write"]).expect("known kind");
        assert_eq!((record.kind_name(), &*record.comm, &*record.fstype), ("short_copy", "tar", "tmpfs"));
        assert_eq!((record.user_address, &*record.path), (Some(0x7f00), "generic_perform_write"));
    }

    #[test]
    fn what_an_event_does_not_know_is_absent() {
        let event = Event { kind: 2, path: 3, ..Event::default() };
        let record = EventRecord::new(&event, None, &[""; 0]).expect("known kind");
        assert_eq!((record.kind_name(), &*record.fstype, &*record.device), ("failed_prefault", "other", "-"));
        assert_eq!((record.user_address, &*record.path), (None, "path#3"));
        assert_eq!(EventRecord::new(&Event { kind: 3, ..event }, None, &[""; 0]), None);
    }
}
