//! The difference of two snapshots, which everything shown is derived from.
//!
//! Counters only grow while a session lasts; one that is lower than before is an error of whoever read it, and is
//! reported rather than hidden.

use prefault_ebpf::{Ledger, WentBackwards, grown};

use super::{FilesystemCounters, FilesystemInterval, LossReport, OwnCost, PathCounters, PathStats, Snapshot};

/// What happened between two snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Time between the two, in nanoseconds.
    pub duration_ns: u64,
    /// Every filesystem of the later snapshot in its order, idle ones included.
    pub filesystems: Vec<FilesystemInterval>,
    /// What was missed.
    pub loss: LossReport,
    /// What measuring took, if that was measured.
    pub own_cost: Option<OwnCost>,
}

/// Why two snapshots have no difference: they are not of one session in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntervalError {
    /// A counter was higher in the earlier snapshot.
    #[error("counter {}.{} went backwards, from {} to {}", .0.ledger, .0.counter, .0.earlier, .0.later)]
    WentBackwards(WentBackwards),
    /// The earlier snapshot has a slot that the later one has not.
    #[error("slot {slot} vanished")]
    SlotVanished {
        /// Its number.
        slot: u32,
    },
    /// The earlier snapshot has a path that the later one has not.
    #[error("path {path} of slot {slot} vanished")]
    PathVanished {
        /// Number of the slot.
        slot: u32,
        /// Number of the path.
        path: u32,
    },
}

impl Interval {
    /// What happened after `earlier` up to `later`. A slot or path that `earlier` lacks counts from 0.
    ///
    /// `path_names` are the paths' functions, indexed by the number of the path.
    ///
    /// Fails if the two are not of one session in this order.
    pub fn between(
        earlier: &Snapshot,
        later: &Snapshot,
        path_names: &[impl AsRef<str>],
    ) -> Result<Self, IntervalError> {
        let in_later = |slot| later.filesystems.iter().any(|filesystem| filesystem.slot == slot);
        if let Some(vanished) = earlier.filesystems.iter().find(|filesystem| !in_later(filesystem.slot)) {
            return Err(IntervalError::SlotVanished { slot: vanished.slot });
        }
        let filesystems = later.filesystems.iter().map(|filesystem| {
            let before = earlier.filesystems.iter().find(|before| before.slot == filesystem.slot);
            filesystem_between(before, filesystem, path_names)
        });
        Ok(Self {
            duration_ns: of_session("time", earlier.at_ns, later.at_ns)?,
            filesystems: filesystems.collect::<Result<_, _>>()?,
            loss: loss_between(earlier, later)?,
            own_cost: later.own_cost.map(|own_cost| own_cost - earlier.own_cost.unwrap_or_default()),
        })
    }

    /// The filesystems on which anything was counted.
    pub fn active(&self) -> impl Iterator<Item = &FilesystemInterval> {
        self.filesystems.iter().filter(|filesystem| filesystem.is_active())
    }
}

impl From<WentBackwards> for IntervalError {
    fn from(error: WentBackwards) -> Self {
        Self::WentBackwards(error)
    }
}

/// Of what is counted beside the ledgers.
fn of_session(counter: &'static str, earlier: u64, later: u64) -> Result<u64, WentBackwards> {
    grown("session", counter, earlier, later)
}

fn loss_between(earlier: &Snapshot, later: &Snapshot) -> Result<LossReport, IntervalError> {
    let mut loss = LossReport {
        kernel_missed_runs: of_session("missed runs", earlier.missed_runs, later.missed_runs)?,
        events_unread: of_session("events unread", earlier.events_unread, later.events_unread)?,
        silenced_ns: later.silenced.ns,
        ..LossReport::default()
    };
    for (index, counter) in loss.counters.iter_mut().enumerate() {
        *counter = of_session("loss", earlier.losses[index], later.losses[index])?;
    }
    for (ns, before) in loss.silenced_ns.iter_mut().zip(earlier.silenced.ns) {
        *ns = of_session("silenced", before, *ns)?;
    }
    Ok(loss)
}

fn filesystem_between(
    earlier: Option<&FilesystemCounters>,
    later: &FilesystemCounters,
    path_names: &[impl AsRef<str>],
) -> Result<FilesystemInterval, IntervalError> {
    let before = earlier.map_or(&Ledger::ZERO, |earlier| &earlier.ledger);
    Ok(FilesystemInterval {
        identity: later.identity.clone(),
        ledger: later.ledger.since(before)?,
        paths: paths_between(earlier, later, path_names)?,
    })
}

fn paths_between(
    earlier: Option<&FilesystemCounters>,
    later: &FilesystemCounters,
    path_names: &[impl AsRef<str>],
) -> Result<Vec<PathStats>, IntervalError> {
    let earlier_paths = earlier.map_or(&[][..], |earlier| &earlier.paths);
    let in_later = |path| later.paths.iter().any(|counters| counters.path == path);
    if let Some(vanished) = earlier_paths.iter().find(|counters| !in_later(counters.path)) {
        return Err(IntervalError::PathVanished { slot: later.slot, path: vanished.path });
    }
    let between = |counters: &PathCounters| {
        let before = earlier_paths.iter().find(|before| before.path == counters.path);
        let ledger = counters.ledger.since(&before.map(|before| before.ledger).unwrap_or_default())?;
        Ok(PathStats { path: counters.path, function: path_name(counters.path, path_names), ledger })
    };
    later.paths.iter().map(between).collect()
}

/// The function of a path, `path#N` if `path_names` does not have it.
pub(super) fn path_name(path: u32, path_names: &[impl AsRef<str>]) -> String {
    path_names.get(path as usize).map_or_else(|| format!("path#{path}"), |name| name.as_ref().to_owned())
}

#[cfg(test)]
mod tests {
    use prefault_ebpf::{Loss, N_LOSSES, OTHER_SLOT, PathLedger};

    use super::*;
    use crate::data::{Filesystem, Mode};

    const NAMES: [&str; 2] = ["generic_perform_write", "btrfs_buffered_write"];

    fn filesystem(slot: u32, calls: u64) -> FilesystemCounters {
        let mut ledger = Ledger::ZERO;
        ledger.write.calls = calls;
        ledger.write.latency.counts[30] = calls;
        ledger.write.latency.sum_ns = calls * 3000;
        let path = PathLedger {
            entered: calls,
            calls,
            eager: calls,
            on_demand: 0,
            prefaults: calls,
            copies: calls,
            passed: 0,
        };
        let identity = Filesystem { fstype: format!("fs{slot}"), ..Filesystem::other() };
        FilesystemCounters { slot, identity, ledger, paths: vec![PathCounters { path: 1, ledger: path }] }
    }

    fn snapshot(at_ns: u64, filesystems: Vec<FilesystemCounters>) -> Snapshot {
        Snapshot {
            at_ns,
            filesystems,
            losses: [0; N_LOSSES],
            missed_runs: 0,
            events_unread: 0,
            own_cost: None,
            silenced: crate::data::Silenced::default(),
        }
    }

    fn between(earlier: &Snapshot, later: &Snapshot) -> Result<Interval, IntervalError> {
        Interval::between(earlier, later, &NAMES)
    }

    #[test]
    fn a_slot_seen_before_counts_from_then_and_a_new_one_from_0() {
        let earlier = snapshot(1_000, vec![filesystem(1, 100), filesystem(2, 5)]);
        let later = snapshot(3_000, vec![filesystem(1, 130), filesystem(2, 5), filesystem(OTHER_SLOT, 7)]);
        let interval = between(&earlier, &later).expect("in order");
        assert_eq!(interval.duration_ns, 2_000);
        let calls: Vec<u64> = interval.filesystems.iter().map(|filesystem| filesystem.ledger.write.calls).collect();
        assert_eq!(calls, [30, 0, 7]);
        assert_eq!(interval.filesystems[0].ledger.write.latency.count(), 30);
        assert_eq!(interval.filesystems[0].prefault_share(), Some(0.0));
        assert_eq!(interval.filesystems[1].prefault_share(), None);
        let active: Vec<&str> = interval.active().map(|filesystem| &*filesystem.identity.fstype).collect();
        assert_eq!(active, ["fs1", "fs0"]);
    }

    #[test]
    fn the_mode_is_that_of_the_interval_and_names_come_from_the_list() {
        let mut earlier = snapshot(0, vec![filesystem(0, 100)]);
        let mut later = earlier.clone();
        later.filesystems[0].paths[0].ledger.calls = 110;
        later.filesystems[0].paths[0].ledger.on_demand = 10;
        earlier.filesystems[0].paths.push(PathCounters { path: 9, ledger: PathLedger::default() });
        later.filesystems[0].paths.push(PathCounters { path: 9, ledger: PathLedger::default() });
        let interval = between(&earlier, &later).expect("in order");
        let [first, unnamed] = &interval.filesystems[0].paths[..] else { panic!("two paths") };
        assert_eq!((first.mode(), first.ledger.calls, &*first.function), (Mode::OnDemand, 10, "btrfs_buffered_write"));
        assert_eq!((unnamed.mode(), &*unnamed.function), (Mode::NotSeen, "path#9"));
        let active: Vec<u32> = interval.filesystems[0].active_paths().map(|path| path.path).collect();
        assert_eq!(active, [1]);
    }

    #[test]
    fn losses_are_those_of_the_interval() {
        let mut earlier = snapshot(0, vec![]);
        earlier.losses[Loss::CopyEnd as usize] = 4;
        let mut later = earlier.clone();
        assert!(between(&earlier, &later).expect("in order").loss.is_empty());
        later.losses[Loss::CopyEnd as usize] = 6;
        later.missed_runs = 3;
        later.events_unread = 1;
        let loss = between(&earlier, &later).expect("in order").loss;
        assert_eq!((loss.count(Loss::CopyEnd), loss.kernel_missed_runs, loss.events_unread), (2, 3, 1));
    }

    #[test]
    fn what_cannot_be_one_session_is_an_error() {
        let base = snapshot(10, vec![filesystem(0, 100)]);
        let error = |later: &Snapshot| between(&base, later).expect_err("not one session").to_string();
        assert_eq!(error(&snapshot(9, vec![filesystem(0, 100)])), "counter session.time went backwards, from 10 to 9");
        assert_eq!(error(&snapshot(10, vec![])), "slot 0 vanished");
        assert_eq!(error(&snapshot(10, vec![filesystem(0, 99)])), "counter write.calls went backwards, from 100 to 99");
        let mut no_path = base.clone();
        no_path.filesystems[0].paths.clear();
        assert_eq!(error(&no_path), "path 1 of slot 0 vanished");
        let mut lower_bucket = base.clone();
        lower_bucket.filesystems[0].ledger.write.latency.counts[30] = 1;
        assert_eq!(error(&lower_bucket), "counter write.latency went backwards, from 100 to 1");
    }
}
