//! Raw cumulative counters, as read at one moment.
//!
//! Nothing is derived here: rates, percentages and quantiles come from the difference of two snapshots.

use prefault_ebpf::{Ledger, N_LOSSES, OTHER_SLOT, PathLedger, SlotInfo};

use super::{OwnCost, Silenced};

/// Bits of a kernel `dev_t` that hold the minor number.
const MINOR_BITS: u32 = 20;

/// Every counter of a session, cumulative since it began.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was read, in nanoseconds of CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// The filesystems that had a slot; one that is absent had not been written to.
    pub filesystems: Vec<FilesystemCounters>,
    /// The loss counters summed over CPUs, indexed by [`prefault_ebpf::Loss`].
    pub losses: [u64; N_LOSSES],
    /// Runs of a program that the kernel itself skipped (`recursion_misses` of the program).
    pub missed_runs: u64,
    /// Events that reached the ring but were not read by userspace.
    pub events_unread: u64,
    /// What measuring took so far, if that is measured.
    pub own_cost: Option<OwnCost>,
    /// For how long points were silenced.
    pub silenced: Silenced,
}

/// Counters of one filesystem, cumulative.
#[derive(Clone, Debug)]
pub struct FilesystemCounters {
    /// Number of its slot, [`OTHER_SLOT`] for all that found none.
    pub slot: u32,
    /// What is in the slot.
    pub identity: Filesystem,
    /// Its ledger, summed over CPUs.
    pub ledger: Ledger,
    /// Its write paths; one that is absent was not called.
    pub paths: Vec<PathCounters>,
}

/// Counters of one write path for one filesystem, cumulative.
#[derive(Clone, Copy, Debug)]
pub struct PathCounters {
    /// Number of the path, an index into the session's path names.
    pub path: u32,
    /// Its ledger, summed over CPUs.
    pub ledger: PathLedger,
}

/// What a slot stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Filesystem {
    /// Name of the filesystem type, `other` for the slot that takes what found none.
    pub fstype: String,
    /// The superblock's short name, mostly that of its device; `-` if there is none.
    pub device: String,
    /// Major device number of the superblock, 0 if it has no block device and for `other`.
    pub major: u32,
    /// Minor device number of the superblock, 0 for `other`.
    pub minor: u32,
}

impl Filesystem {
    /// Reads a slot's description. `resolved_device` replaces the name in the superblock, which for a block device
    /// file (fstype `bdev`) is that of the bdev filesystem and not of the device.
    pub fn from_slot_info(info: &SlotInfo, resolved_device: Option<&str>) -> Self {
        let device = resolved_device.map_or_else(|| text_until_nul(&info.id), str::to_owned);
        Self {
            fstype: text_until_nul(&info.fstype),
            device: if device.is_empty() { "-".to_owned() } else { device },
            major: info.key.dev >> MINOR_BITS,
            minor: info.key.dev & ((1 << MINOR_BITS) - 1),
        }
    }

    /// What [`OTHER_SLOT`] stands for: every filesystem that found no slot of its own.
    pub fn other() -> Self {
        Self { fstype: "other".to_owned(), device: "-".to_owned(), major: 0, minor: 0 }
    }
}

impl FilesystemCounters {
    /// The counters of [`OTHER_SLOT`].
    pub fn other(ledger: Ledger, paths: Vec<PathCounters>) -> Self {
        Self { slot: OTHER_SLOT, identity: Filesystem::other(), ledger, paths }
    }
}

/// The text before the first NUL of a fixed-size kernel string, or all of it; what is not UTF-8 is replaced.
pub fn text_until_nul(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use prefault_ebpf::SlotKey;

    use super::*;

    fn slot_info(fstype: &[u8], id: &[u8], dev: u32) -> SlotInfo {
        let mut info = SlotInfo { key: SlotKey { fs_type: 1, dev, reserved: 0 }, ..SlotInfo::default() };
        info.fstype[..fstype.len()].copy_from_slice(fstype);
        info.id[..id.len()].copy_from_slice(id);
        info
    }

    #[test]
    fn a_slot_is_described_by_its_type_name_device_and_numbers() {
        let long = [b'x'; 32];
        let long_text = "x".repeat(32);
        for (info, resolved, (expected_type, device, major, minor)) in [
            (slot_info(b"ext4", b"vdb1", (254 << 20) | 17), None, ("ext4", "vdb1", 254, 17)),
            (slot_info(b"tmpfs", b"tmpfs", 27), None, ("tmpfs", "tmpfs", 0, 27)),
            (slot_info(b"bdev", b"bdev", (8 << 20) | 0xf_ffff), Some("sda"), ("bdev", "sda", 8, 0xf_ffff)),
            (slot_info(b"fuse", b"", 41), None, ("fuse", "-", 0, 41)),
            (slot_info(b"a\0b", b"\xff", 0), None, ("a", "\u{fffd}", 0, 0)),
            (slot_info(&long, b"x", u32::MAX), None, (&long_text, "x", 4095, 0xf_ffff)),
        ] {
            let expected = Filesystem { fstype: expected_type.into(), device: device.into(), major, minor };
            assert_eq!(Filesystem::from_slot_info(&info, resolved), expected);
        }
    }
}
