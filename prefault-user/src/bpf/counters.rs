//! What a session has counted, summed up into a snapshot.

use std::{fs, os::fd::OwnedFd};

use anyhow::Result;
use aya::Ebpf;
use prefault_ebpf::{Ledger, Losses, MAX_PATHS, N_LOSSES, OTHER_SLOT, PathLedger, SlotLedger, map};

use super::{
    mapped::Mapped,
    pods::{PodLosses, PodSlotInfo, PodSlotLedger},
    sight::Sight,
    stats::Programs,
};
use crate::{
    data::{Filesystem, FilesystemCounters, OwnCost, PathCounters, Snapshot},
    host::clock::monotonic_ns,
};

/// What a session has counted. It can be read while the session attaches and detaches, which takes the kernel long.
pub struct Counters {
    programs: Programs,
    ledgers: Mapped<PodSlotLedger>,
    losses: Mapped<PodLosses>,
    slot_info: Mapped<PodSlotInfo>,
    /// Keeps the kernel measuring the runs of our programs.
    runs_measured: Option<OwnedFd>,
    sight: Sight,
}

impl Counters {
    /// Takes the maps of `bpf`; `sight` tells whether its points run.
    pub(super) fn take(
        bpf: &mut Ebpf,
        programs: Programs,
        runs_measured: Option<OwnedFd>,
        sight: Sight,
    ) -> Result<Self> {
        Ok(Self {
            programs,
            ledgers: Mapped::take(bpf, map::LEDGERS)?,
            losses: Mapped::take(bpf, map::LOSSES)?,
            slot_info: Mapped::take(bpf, map::SLOT_INFO)?,
            runs_measured,
            sight,
        })
    }

    /// Whether the points run.
    pub fn sight(&self) -> &Sight {
        &self.sight
    }

    /// Reads all counters, of write paths those of the first `n_paths` of the plan. `events_unread` is what the caller
    /// could not take in.
    pub fn snapshot(&self, n_paths: usize, events_unread: u64) -> Snapshot {
        let identities = self.filesystems().into_iter();
        let filesystems = identities.map(|(slot, identity)| self.filesystem(slot, identity, n_paths)).collect();
        let mut losses = [0; N_LOSSES];
        for processor in 0..self.n_processors() {
            let PodLosses(Losses(part)) = self.losses.get(processor);
            losses.iter_mut().zip(part).for_each(|(sum, n)| *sum += n);
        }
        let programs = self.programs.stats();
        let missed_runs = programs.iter().map(|program| program.missed_runs).sum();
        let own_cost = programs.iter().fold(OwnCost::default(), |sum, program| sum + program.own_cost);
        let own_cost = self.runs_measured.is_some().then_some(own_cost);
        let silenced = self.sight.look();
        Snapshot { at_ns: monotonic_ns(), filesystems, losses, missed_runs, events_unread, own_cost, silenced }
    }

    /// What each slot in use stands for, and the one that takes the rest; by slot.
    pub fn filesystems(&self) -> Vec<(u32, Filesystem)> {
        let mut filesystems = Vec::new();
        for slot in OTHER_SLOT + 1..self.slot_info.len() {
            let Some(PodSlotInfo(info)) = self.slot_info.get_complete(slot) else { continue };
            let mut identity = Filesystem::from_slot_info(&info, None);
            if identity.fstype == "bdev" {
                identity = Filesystem::from_slot_info(&info, block_device_name(info.key.dev).as_deref());
            }
            filesystems.push((slot, identity));
        }
        filesystems.push((OTHER_SLOT, Filesystem::other()));
        filesystems
    }

    /// Filesystems that found no slot and are counted in the one that takes the rest, at most
    /// [`prefault_ebpf::MAX_WITHOUT_SLOT`].
    pub fn n_without_slot(&self) -> u64 {
        let PodSlotInfo(info) = self.slot_info.get(OTHER_SLOT);
        info.key.fs_type
    }

    /// Processors that have parts of their own.
    fn n_processors(&self) -> u32 {
        self.losses.len()
    }

    /// What was counted for one filesystem.
    fn filesystem(&self, slot: u32, identity: Filesystem, n_paths: usize) -> FilesystemCounters {
        let mut ledger = Ledger::ZERO;
        let mut paths = [PathLedger::default(); MAX_PATHS as usize];
        for processor in 0..self.n_processors() {
            let PodSlotLedger(SlotLedger { operations, paths: parts }) =
                self.ledgers.get(slot * self.n_processors() + processor);
            ledger.add(&operations);
            paths.iter_mut().zip(&parts).for_each(|(sum, part)| sum.add(part));
        }
        let paths = (0..).zip(paths).take(n_paths).map(|(path, ledger)| PathCounters { path, ledger });
        let paths = paths.filter(|path| path.ledger.entered != 0 || path.ledger.passed != 0).collect();
        FilesystemCounters { slot, identity, ledger, paths }
    }
}

/// Name of the block device with this kernel device number, `None` if there is none (any more).
fn block_device_name(dev: u32) -> Option<String> {
    let uevent = fs::read(format!("/sys/dev/block/{}:{}/uevent", dev >> 20, dev & 0xf_ffff)).ok()?;
    String::from_utf8_lossy(&uevent).lines().find_map(|line| line.strip_prefix("DEVNAME=")).map(str::to_owned)
}
