//! What happened in an interval on one filesystem, and the few numbers that follow from its counters alone.
//!
//! Counters mean what the ledger of the same name in the ABI says, over the interval instead of since the beginning.

use std::fmt;

use prefault_ebpf::{Ledger, PathLedger};

use super::Filesystem;

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

/// One write path of a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStats {
    /// Number of the path in the session.
    pub path: u32,
    /// Its function, `path#N` if its name is not known.
    pub function: String,
    /// What it did.
    pub ledger: PathLedger,
}

/// One filesystem in an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesystemInterval {
    /// Which filesystem.
    pub identity: Filesystem,
    /// Its writes, prefaults and copies.
    pub ledger: Ledger,
    /// Its write paths, idle ones included.
    pub paths: Vec<PathStats>,
}

impl PathStats {
    /// When it prefaults, as seen in this interval.
    pub fn mode(&self) -> Mode {
        Mode::of(&self.ledger)
    }
}

impl FilesystemInterval {
    /// Whether anything was counted.
    pub fn is_active(&self) -> bool {
        let Ledger { write, prefault, copy } = &self.ledger;
        write.calls > 0 || prefault.calls > 0 || copy.calls > 0
    }

    /// The paths that ran.
    pub fn active_paths(&self) -> impl Iterator<Item = &PathStats> {
        self.paths.iter().filter(|path| path.ledger.is_active())
    }

    /// When the filesystem prefaults, over all its paths.
    ///
    /// A path that prefaults and leaves the copying to a path inside it (f2fs, gfs2) has no mode of its own. If the inner
    /// one is on-demand, there are prefaults of both kinds in one counter: mixed.
    pub fn mode(&self) -> Mode {
        let saw = |mode| self.paths.iter().any(|path| [mode, Mode::Mixed].contains(&path.mode()));
        let only_prefaults = self.paths.iter().any(|path| path.mode() == Mode::NotSeen && path.ledger.prefaults > 0);
        match Mode::from_seen(saw(Mode::Eager), saw(Mode::OnDemand)) {
            Mode::OnDemand if only_prefaults => Mode::Mixed,
            mode => mode,
        }
    }

    /// Time in prefaults as a fraction of the time in writes, both on user memory; `None` if no write returned.
    ///
    /// It may exceed 1 where a write was still running at the end of the interval.
    pub fn prefault_share(&self) -> Option<f64> {
        let Ledger { write, prefault, .. } = &self.ledger;
        let prefault_ns = prefault.latency_needed.sum_ns + prefault.latency_not_needed.sum_ns;
        (write.latency.sum_ns > 0).then(|| prefault_ns as f64 / write.latency.sum_ns as f64)
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
            ledger: PathLedger {
                entered: 1,
                calls: 1,
                eager: u64::from(mode == Mode::Eager || mode == Mode::Mixed),
                on_demand: u64::from(mode == Mode::OnDemand || mode == Mode::Mixed),
                prefaults,
                copies: u64::from(mode != Mode::NotSeen),
                passed: 0,
            },
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
            let filesystem = FilesystemInterval { identity: Filesystem::other(), ledger: Ledger::ZERO, paths };
            assert_eq!(filesystem.mode(), mode, "{:?}", filesystem.paths);
        }
    }
}
