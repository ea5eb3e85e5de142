//! What a session has counted: the maps are read and summed up into a snapshot.

use std::{fs, os::fd::OwnedFd};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{HashMap, MapData},
};
use prefault_ebpf::{MAX_PATHS, N_LOSSES, OTHER_SLOT, map};

use super::{
    batch::{self, ProcessorArray},
    pods::{PodLedger, PodLosses, PodPathLedger, PodSlotInfo},
    session::take,
    stats::Programs,
};
use crate::data::{
    Filesystem, FilesystemCounters, OwnCost, PathCounters, Snapshot, add_ledger, add_path_ledger, zero_ledger,
};

/// What a session has counted. It can be read while the session attaches and detaches, which takes the kernel long.
pub struct Counters {
    programs: Programs,
    ledgers: ProcessorArray<PodLedger>,
    path_ledgers: ProcessorArray<PodPathLedger>,
    losses: ProcessorArray<PodLosses>,
    slot_info: HashMap<MapData, u32, PodSlotInfo>,
    /// Filesystems that have a slot of their own at most.
    slots: u32,
    /// Keeps the kernel measuring the runs of our programs.
    runs_measured: Option<OwnedFd>,
}

impl Counters {
    /// Takes the maps of `bpf`, which has `slots` slots.
    pub(super) fn take(bpf: &mut Ebpf, slots: u32, programs: Programs, runs_measured: Option<OwnedFd>) -> Result<Self> {
        Ok(Self {
            programs,
            ledgers: ProcessorArray::new(take(bpf, map::LEDGERS)?)?,
            path_ledgers: ProcessorArray::new(take(bpf, map::PATH_LEDGERS)?)?,
            losses: ProcessorArray::new(take(bpf, map::LOSSES)?)?,
            slot_info: HashMap::try_from(take(bpf, map::SLOT_INFO)?)?,
            slots,
            runs_measured,
        })
    }

    /// Reads all counters, of write paths those of the first `n_paths` of the plan. `events_unread` is what the caller
    /// could not take in.
    ///
    /// # Errors
    /// If a map cannot be read.
    pub fn snapshot(&self, n_paths: usize, events_unread: u64) -> Result<Snapshot> {
        let identities = self.filesystems()?;
        let end = identities.iter().map(|&(slot, _)| slot + 1).max().unwrap_or_default();
        let mut ledgers = vec![zero_ledger(); end as usize];
        let add = |slot: u32, parts: &[PodLedger]| {
            parts.iter().for_each(|PodLedger(part)| add_ledger(&mut ledgers[slot as usize], part));
        };
        self.ledgers.read(0, end, add).context("failed to read the ledgers")?;
        let mut filesystems = Vec::new();
        for (slot, identity) in identities {
            let paths = self.paths(slot, n_paths).context("failed to read path ledgers")?;
            filesystems.push(FilesystemCounters { slot, identity, ledger: ledgers[slot as usize], paths });
        }
        let mut losses = [0; N_LOSSES];
        let add = |_, parts: &[PodLosses]| {
            let parts = parts.iter().flat_map(|PodLosses(part)| part.iter().enumerate());
            parts.for_each(|(reason, n)| losses[reason] += n);
        };
        self.losses.read(0, 1, add).context("failed to read the loss counters")?;
        let programs = self.programs.stats();
        let missed_runs = programs.iter().map(|program| program.missed_runs).sum();
        let own_cost = programs.iter().fold(OwnCost::default(), |sum, program| sum + program.own_cost);
        let own_cost = self.runs_measured.is_some().then_some(own_cost);
        Ok(Snapshot { at_ns: monotonic_ns(), filesystems, losses, missed_runs, events_unread, own_cost })
    }

    /// What each slot in use stands for, and the one that takes the rest; by slot.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn filesystems(&self) -> Result<Vec<(u32, Filesystem)>> {
        let mut filesystems = vec![(OTHER_SLOT, Filesystem::other())];
        let entries = batch::read_all(&self.slot_info, self.slots).context("failed to read the filesystem slots")?;
        for (slot, PodSlotInfo(info)) in entries {
            let mut identity = Filesystem::from_slot_info(&info, None);
            if identity.fstype == "bdev" {
                identity = Filesystem::from_slot_info(&info, block_device_name(info.key.dev).as_deref());
            }
            filesystems.push((slot, identity));
        }
        filesystems.sort_by_key(|&(slot, _)| (slot == OTHER_SLOT, slot));
        Ok(filesystems)
    }

    /// The paths that writes to this filesystem went through.
    fn paths(&self, slot: u32, n_paths: usize) -> Result<Vec<PathCounters>> {
        let mut paths = Vec::new();
        let first = slot * MAX_PATHS;
        self.path_ledgers.read(first, n_paths.min(MAX_PATHS as usize) as u32, |index, parts| {
            let mut sum = PathCounters { path: index - first, ledger: Default::default() };
            parts.iter().for_each(|PodPathLedger(part)| add_path_ledger(&mut sum.ledger, part));
            if sum.ledger.entered != 0 || sum.ledger.passed != 0 {
                paths.push(sum);
            }
        })?;
        Ok(paths)
    }
}

/// Name of the block device with this kernel device number, `None` if there is none (any more).
fn block_device_name(dev: u32) -> Option<String> {
    let uevent = fs::read_to_string(format!("/sys/dev/block/{}:{}/uevent", dev >> 20, dev & 0xf_ffff)).ok()?;
    uevent.lines().find_map(|line| line.strip_prefix("DEVNAME=")).map(str::to_owned)
}

/// CLOCK_MONOTONIC, the clock of bpf_ktime_get_ns.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure lives through the call, which cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
