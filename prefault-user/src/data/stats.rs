//! What happened in an interval on one filesystem, and the few numbers that follow from its counters alone.
//!
//! Counters mean what the ledger of the same name in the ABI says, over the interval instead of since the beginning.

use std::fmt;

use prefault_ebpf::PathLedger;

use super::{Filesystem, Histogram};

/// When a write path prefaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Before the first copy of a write.
    Eager,
    /// Not before a copy came up short.
    OnDemand,
    /// Both were seen.
    Mixed,
    /// No write was seen to copy, so it cannot be told.
    NotSeen,
}

impl Mode {
    /// The mode that a path's counters show.
    pub fn of(ledger: &PathLedger) -> Self {
        Self::from_seen(ledger.eager > 0, ledger.on_demand > 0)
    }

    fn from_seen(eager: bool, on_demand: bool) -> Self {
        match (eager, on_demand) {
            (true, true) => Self::Mixed,
            (true, false) => Self::Eager,
            (false, true) => Self::OnDemand,
            (false, false) => Self::NotSeen,
        }
    }

    /// Name of [`Mode::Eager`].
    pub const EAGER: &str = "eager";
    /// Name of [`Mode::OnDemand`].
    pub const ON_DEMAND: &str = "on-demand";

    /// The name used in every output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eager => Self::EAGER,
            Self::OnDemand => Self::ON_DEMAND,
            Self::Mixed => "mixed",
            Self::NotSeen => "not seen",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Writes of a filesystem, nested paths counted once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteStats {
    /// Writes that returned.
    pub calls: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Writes that returned an error, having written nothing.
    pub errors: u64,
    /// Writes, among `calls`, from kernel memory.
    pub kernel_calls: u64,
    /// Latencies of the writes from user memory.
    pub latency: Histogram,
}

/// Prefaults of a filesystem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefaultStats {
    /// Prefaults that returned.
    pub calls: u64,
    /// Bytes asked to be faulted in.
    pub bytes: u64,
    /// Prefaults of which no byte could be faulted in.
    pub failed_wholly: u64,
    /// Prefaults of which some, but not all bytes could be faulted in.
    pub failed_partly: u64,
    /// Prefaults that took page faults, all of them minor.
    pub needed_minor: u64,
    /// Prefaults that took at least one major page fault.
    pub needed_major: u64,
    /// Minor page faults taken inside prefaults.
    pub minor_faults: u64,
    /// Major page faults taken inside prefaults.
    pub major_faults: u64,
    /// Prefaults, among `calls`, on kernel memory.
    pub kernel_calls: u64,
    /// Latencies of the prefaults on user memory.
    pub latency: Histogram,
}

/// Atomic copies of a filesystem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyStats {
    /// Copies that returned.
    pub calls: u64,
    /// Bytes asked to be copied.
    pub bytes_asked: u64,
    /// Bytes copied.
    pub bytes_copied: u64,
    /// Copies that copied nothing of what was asked.
    pub zero: u64,
    /// Copies that copied some, but not all of what was asked.
    pub partial: u64,
    /// Copies, among `calls`, from kernel memory.
    pub kernel_calls: u64,
    /// Bytes, among `bytes_copied`, from kernel memory.
    pub kernel_bytes: u64,
    /// Latencies of the copies from user memory.
    pub latency: Histogram,
}

/// One write path of a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStats {
    /// Number of the path in the session.
    pub path: u32,
    /// Its function, `path#N` if its name is not known.
    pub function: String,
    /// When it prefaults, as seen in this interval.
    pub mode: Mode,
    /// Times the path was entered; more than `calls` if some have not returned, or their return was lost.
    pub entered: u64,
    /// Calls of the path that returned, nested ones included.
    pub calls: u64,
    /// Those among `calls` whose first copy came after a prefault.
    pub eager: u64,
    /// Those among `calls` whose first copy did not.
    pub on_demand: u64,
    /// Prefaults called directly by the path.
    pub prefaults: u64,
    /// Copies called by the path.
    pub copies: u64,
    /// Calls that began between windows where such calls were counted; no more is known of them.
    pub passed: u64,
}

/// One filesystem in an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesystemInterval {
    /// Which filesystem.
    pub identity: Filesystem,
    /// Its writes.
    pub write: WriteStats,
    /// Its prefaults.
    pub prefault: PrefaultStats,
    /// Its copies.
    pub copy: CopyStats,
    /// Its write paths, idle ones included.
    pub paths: Vec<PathStats>,
}

// The counters of a CPU are read while they grow, so that of two which grow together one may be ahead. Hence the
// differences between counters of one interval saturate, unlike those between snapshots.

impl PrefaultStats {
    /// Prefaults on user memory.
    pub fn user_calls(&self) -> u64 {
        self.calls.saturating_sub(self.kernel_calls)
    }

    /// Prefaults that took a page fault.
    pub fn needed(&self) -> u64 {
        self.needed_minor + self.needed_major
    }

    /// Prefaults that left bytes unfaulted.
    pub fn failed(&self) -> u64 {
        self.failed_wholly + self.failed_partly
    }
}

impl CopyStats {
    /// Copies from user memory.
    pub fn user_calls(&self) -> u64 {
        self.calls.saturating_sub(self.kernel_calls)
    }

    /// Copies that copied less than asked.
    pub fn short(&self) -> u64 {
        self.zero + self.partial
    }

    /// Bytes asked that were not copied.
    pub fn bytes_missed(&self) -> u64 {
        self.bytes_asked.saturating_sub(self.bytes_copied)
    }
}

impl PathStats {
    /// Calls that were entered and have not returned: they are in flight, or their return was lost. 0 if more returned
    /// than were entered, being in flight at the begin.
    pub fn not_returned(&self) -> u64 {
        self.entered.saturating_sub(self.calls)
    }

    /// Whether the path ran.
    pub fn is_active(&self) -> bool {
        self.entered > 0 || self.passed > 0 || self.calls > 0 || self.prefaults > 0 || self.copies > 0
    }
}

impl FilesystemInterval {
    /// Whether anything was counted.
    pub fn is_active(&self) -> bool {
        self.write.calls > 0 || self.prefault.calls > 0 || self.copy.calls > 0
    }

    /// The paths that ran.
    pub fn active_paths(&self) -> impl Iterator<Item = &PathStats> {
        self.paths.iter().filter(|path| path.is_active())
    }

    /// When the filesystem prefaults, over all its paths.
    ///
    /// A path that prefaults and leaves the copying to a path inside it (f2fs, gfs2) has no mode of its own. If the inner
    /// one is on-demand, there are prefaults of both kinds in one counter: mixed.
    pub fn mode(&self) -> Mode {
        let saw = |mode| self.paths.iter().any(|path| path.mode == mode || path.mode == Mode::Mixed);
        let only_prefaults = self.paths.iter().any(|path| path.mode == Mode::NotSeen && path.prefaults > 0);
        match Mode::from_seen(saw(Mode::Eager), saw(Mode::OnDemand)) {
            Mode::OnDemand if only_prefaults => Mode::Mixed,
            mode => mode,
        }
    }

    /// Time in prefaults as a fraction of the time in writes, both on user memory; `None` if no write returned.
    ///
    /// It may exceed 1 where a write was still running at the end of the interval.
    pub fn prefault_share(&self) -> Option<f64> {
        let write_ns = self.write.latency.sum_ns;
        (write_ns > 0).then(|| self.prefault.latency.sum_ns as f64 / write_ns as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_of_a_path_is_what_its_calls_did_first() {
        for (eager, on_demand, mode, name) in [
            (5, 0, Mode::Eager, "eager"),
            (0, 5, Mode::OnDemand, "on-demand"),
            (1, 9, Mode::Mixed, "mixed"),
            (0, 0, Mode::NotSeen, "not seen"),
        ] {
            let ledger = PathLedger { entered: 10, calls: 10, eager, on_demand, prefaults: 3, copies: 3, passed: 0 };
            assert_eq!(Mode::of(&ledger), mode);
            assert_eq!(mode.to_string(), name);
        }
    }

    #[test]
    fn the_mode_of_a_filesystem_combines_its_paths() {
        let path = |mode, prefaults| PathStats {
            path: 0,
            function: String::new(),
            mode,
            entered: 1,
            calls: 1,
            eager: u64::from(mode == Mode::Eager),
            on_demand: u64::from(mode == Mode::OnDemand),
            prefaults,
            copies: u64::from(mode != Mode::NotSeen),
            passed: 0,
        };
        let cases = [
            (vec![], Mode::NotSeen),
            (vec![path(Mode::Eager, 1), path(Mode::NotSeen, 0)], Mode::Eager),
            (vec![path(Mode::Eager, 1), path(Mode::OnDemand, 0)], Mode::Mixed),
            (vec![path(Mode::Mixed, 1)], Mode::Mixed),
            (vec![path(Mode::OnDemand, 0), path(Mode::NotSeen, 0)], Mode::OnDemand),
            (vec![path(Mode::OnDemand, 0), path(Mode::NotSeen, 1)], Mode::Mixed),
            (vec![path(Mode::Eager, 1), path(Mode::NotSeen, 1)], Mode::Eager),
            (vec![path(Mode::NotSeen, 1)], Mode::NotSeen),
        ];
        for (paths, mode) in cases {
            let filesystem = FilesystemInterval {
                identity: Filesystem::other(),
                write: WriteStats::default(),
                prefault: PrefaultStats::default(),
                copy: CopyStats::default(),
                paths,
            };
            assert_eq!(filesystem.mode(), mode, "{:?}", filesystem.paths);
        }
    }

    #[test]
    fn counters_that_were_read_apart_do_not_underflow() {
        assert_eq!(PrefaultStats { calls: 1, kernel_calls: 2, ..PrefaultStats::default() }.user_calls(), 0);
        let copy = CopyStats { calls: 1, kernel_calls: 2, bytes_asked: 1, bytes_copied: 2, ..CopyStats::default() };
        assert_eq!((copy.user_calls(), copy.bytes_missed()), (0, 0));
    }
}
