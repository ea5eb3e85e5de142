//! From slots to series: which labels a filesystem has, and which filesystems share a series.
//!
//! Two filesystems may have the same labels (every tmpfs is called tmpfs; a module that was loaded again has its
//! filesystems in new slots). They are one series then, whose counters are their sums. Labels are decided when a filesystem
//! is first seen and never changed, so that no counter goes backwards, whatever is unmounted, removed or renamed.

use std::collections::HashMap;

use prefault_ebpf::{Ledger, OTHER_SLOT, PathLedger};

use super::{
    Filesystem, FilesystemCounters, Interval, IntervalError, OwnCost, PathCounters, Silenced, Snapshot,
    exported::{Labels, Series},
};

/// What becomes of a slot, from when it is first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It is counted in the series of that number.
    Series(usize),
    /// It found no series and is counted under `other`.
    Other,
    /// It is not shown.
    LeftOut,
}

/// The series of one session, in the order in which they were first seen.
#[derive(Debug)]
pub struct SeriesTable {
    most: usize,
    with_mount_point: bool,
    labels: Vec<Labels>,
    slots: HashMap<u32, Place>,
    /// The highest seen of what the kernel does not read at one moment.
    own_cost: Option<OwnCost>,
}

/// Totals since measuring began.
#[derive(Debug)]
pub struct Totals {
    /// The series, `other` as the last.
    pub filesystems: Vec<Series>,
    /// Filesystems that are counted under `other` because there are too many.
    pub n_over_limit: u64,
    /// Duration, loss and own cost.
    pub interval: Interval,
}

impl SeriesTable {
    /// A table of at most `most` series, besides `other`, which has no mount point but the label, if it is shown.
    pub fn new(most: usize, with_mount_point: bool) -> Self {
        Self { most, with_mount_point, labels: Vec::new(), slots: HashMap::new(), own_cost: None }
    }

    /// Sums a snapshot up. `begin_ns` is when measuring began. `label` says what a filesystem is called when it is first
    /// seen, `None` if it is not to be shown.
    ///
    /// # Errors
    /// If the snapshot is older than `begin_ns`.
    pub fn totals(
        &mut self,
        begin_ns: u64,
        snapshot: &Snapshot,
        path_names: &[impl AsRef<str>],
        mut label: impl FnMut(&Filesystem) -> Option<Labels>,
    ) -> Result<Totals, IntervalError> {
        for FilesystemCounters { slot, identity, .. } in &snapshot.filesystems {
            if *slot != OTHER_SLOT && !self.slots.contains_key(slot) {
                let place = label(identity).map_or(Place::LeftOut, |labels| self.place(labels));
                self.slots.insert(*slot, place);
            }
        }
        let own_cost = snapshot.own_cost.map(|now| {
            let before = self.own_cost.unwrap_or_default();
            OwnCost { runs: now.runs.max(before.runs), run_ns: now.run_ns.max(before.run_ns) }
        });
        self.own_cost = own_cost;
        let nothing = Snapshot {
            at_ns: begin_ns,
            filesystems: Vec::new(),
            losses: Default::default(),
            missed_runs: 0,
            events_unread: 0,
            own_cost: None,
            silenced: Silenced::default(),
        };
        let summed = Snapshot { filesystems: self.sums(snapshot, path_names), own_cost, ..snapshot.clone() };
        let interval = Interval::between(&nothing, &summed, path_names)?;
        let other = Labels::other(self.with_mount_point);
        let labels = self.labels.iter().cloned().chain([other]);
        let filesystems = labels.zip(&interval.filesystems);
        Ok(Totals {
            filesystems: filesystems.map(|(labels, totals)| Series { labels, totals: totals.clone() }).collect(),
            n_over_limit: self.slots.values().filter(|place| **place == Place::Other).count() as u64,
            interval,
        })
    }

    /// The place of a filesystem with these labels that is seen for the first time.
    fn place(&mut self, labels: Labels) -> Place {
        if let Some(known) = self.labels.iter().position(|known| *known == labels) {
            return Place::Series(known);
        }
        if self.labels.len() == self.most {
            return Place::Other;
        }
        self.labels.push(labels);
        Place::Series(self.labels.len() - 1)
    }

    /// The counters of each series, and of `other` behind them.
    fn sums(&self, snapshot: &Snapshot, path_names: &[impl AsRef<str>]) -> Vec<FilesystemCounters> {
        let of_series = self.labels.iter().enumerate().map(|(index, labels)| FilesystemCounters {
            slot: index as u32 + 1,
            identity: Filesystem {
                fstype: labels.fstype.clone(),
                device: labels.device.clone(),
                ..Filesystem::other()
            },
            ledger: Ledger::ZERO,
            paths: Vec::new(),
        });
        let mut sums: Vec<_> = of_series.chain([FilesystemCounters::other(Ledger::ZERO, Vec::new())]).collect();
        let other = self.labels.len();
        for filesystem in &snapshot.filesystems {
            let index = match self.slots.get(&filesystem.slot).copied() {
                Some(Place::Series(index)) => index,
                Some(Place::LeftOut) => continue,
                Some(Place::Other) | None => other,
            };
            add(&mut sums[index], filesystem, path_names);
        }
        sums
    }
}

impl Labels {
    /// Those of what found no series.
    fn other(with_mount_point: bool) -> Self {
        let Filesystem { fstype, device, .. } = Filesystem::other();
        Self { fstype, device, mount_point: with_mount_point.then(String::new) }
    }
}

fn add(sum: &mut FilesystemCounters, part: &FilesystemCounters, path_names: &[impl AsRef<str>]) {
    sum.ledger.add(&part.ledger);
    for path in &part.paths {
        let number = first_of_that_name(path.path, path_names);
        let index = sum.paths.iter().position(|known| known.path == number).unwrap_or_else(|| {
            sum.paths.push(PathCounters { path: number, ledger: PathLedger::default() });
            sum.paths.len() - 1
        });
        sum.paths[index].ledger.add(&path.ledger);
    }
    sum.paths.sort_by_key(|path| path.path);
}

/// Two modules may have a function of the same name; one series stands for both.
fn first_of_that_name(path: u32, path_names: &[impl AsRef<str>]) -> u32 {
    let name = path_names.get(path as usize).map(AsRef::as_ref);
    let first = name.and_then(|name| path_names.iter().position(|other| other.as_ref() == name));
    first.map_or(path, |first| first as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(slot: u32, device: &str, n_writes: u64, paths: &[u32]) -> FilesystemCounters {
        let mut ledger = Ledger::ZERO;
        ledger.write.calls = n_writes;
        let ledger_of_path = PathLedger { entered: n_writes, calls: n_writes, ..PathLedger::default() };
        let identity = Filesystem { fstype: "fs".to_owned(), device: device.to_owned(), major: 0, minor: slot };
        let paths = paths.iter().map(|&path| PathCounters { path, ledger: ledger_of_path }).collect();
        FilesystemCounters { slot, identity, ledger, paths }
    }

    fn snapshot(filesystems: Vec<FilesystemCounters>) -> Snapshot {
        Snapshot {
            at_ns: 10,
            filesystems,
            losses: Default::default(),
            missed_runs: 0,
            events_unread: 0,
            own_cost: None,
            silenced: Silenced::default(),
        }
    }

    fn label(filesystem: &Filesystem) -> Option<Labels> {
        let Filesystem { fstype, device, .. } = filesystem.clone();
        (device != "hidden").then_some(Labels { fstype, device, mount_point: None })
    }

    /// Device and writes of each series.
    fn writes(table: &mut SeriesTable, filesystems: Vec<FilesystemCounters>) -> (Vec<(String, u64)>, u64) {
        let totals = table.totals(0, &snapshot(filesystems), &["a"], label).expect("in order");
        let of = |series: &Series| (series.labels.device.clone(), series.totals.ledger.write.calls);
        (totals.filesystems.iter().map(of).collect(), totals.n_over_limit)
    }

    fn named(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
        expected.iter().map(|(device, n)| ((*device).to_owned(), *n)).collect()
    }

    #[test]
    fn filesystems_of_the_same_labels_are_one_series() {
        let mut table = SeriesTable::new(8, false);
        let filesystems = vec![counters(1, "x", 5, &[]), counters(2, "y", 6, &[]), counters(3, "x", 7, &[])];
        assert_eq!(writes(&mut table, filesystems).0, named(&[("x", 12), ("y", 6), ("-", 0)]));
    }

    #[test]
    fn what_is_beyond_the_limit_is_other_and_stays_there() {
        let mut table = SeriesTable::new(1, false);
        let other = || FilesystemCounters { slot: OTHER_SLOT, ..counters(0, "-", 1, &[]) };
        let first = vec![counters(1, "x", 5, &[]), counters(2, "y", 6, &[]), other()];
        assert_eq!(writes(&mut table, first), (named(&[("x", 5), ("-", 7)]), 1));
        let second = vec![counters(1, "x", 5, &[]), counters(2, "y", 8, &[]), counters(3, "hidden", 9, &[]), other()];
        assert_eq!(writes(&mut table, second), (named(&[("x", 5), ("-", 9)]), 1));
    }

    #[test]
    fn a_filesystem_keeps_the_labels_it_was_first_seen_with() {
        let mut table = SeriesTable::new(8, false);
        assert_eq!(writes(&mut table, vec![counters(1, "sda", 5, &[])]).0, named(&[("sda", 5), ("-", 0)]));
        assert_eq!(writes(&mut table, vec![counters(1, "bdev", 6, &[])]).0, named(&[("sda", 6), ("-", 0)]));
    }

    #[test]
    fn paths_of_the_same_name_are_one() {
        let mut table = SeriesTable::new(8, false);
        let snapshot = snapshot(vec![counters(1, "x", 5, &[2, 0, 1])]);
        let totals = table.totals(0, &snapshot, &["write", "other", "write"], label).expect("in order");
        let paths = totals.filesystems[0].totals.paths.iter();
        let of = |path: &crate::data::PathStats| (path.function.clone(), path.ledger.calls);
        assert_eq!(paths.map(of).collect::<Vec<_>>(), [("write".to_owned(), 10), ("other".to_owned(), 5)]);
    }

    #[test]
    fn own_cost_does_not_shrink() {
        let mut table = SeriesTable::new(8, false);
        for (runs, expected) in [(5, 5), (4, 5), (6, 6)] {
            let own_cost = Some(OwnCost { runs, run_ns: 1 });
            let snapshot = Snapshot { own_cost, ..snapshot(Vec::new()) };
            let totals = table.totals(0, &snapshot, &["a"], label).expect("in order");
            assert_eq!(totals.interval.own_cost.map(|cost| cost.runs), Some(expected));
        }
    }
}
