//! Raw cumulative counters, as read at one moment, and sums of the ABI's ledgers over CPUs.
//!
//! Nothing is derived here: rates, percentages and quantiles come from the difference of two snapshots. The ledgers are
//! plain arrays shared with the kernel side, so what they lack is added here as free functions.

use prefault_ebpf::{
    CopyLedger, Latency, Ledger, N_BUCKETS, N_LOSSES, OTHER_SLOT, PathLedger, PrefaultLedger, SlotInfo, WriteLedger,
};

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

const ZERO_LATENCY: Latency = Latency { sum_ns: 0, buckets: [0; N_BUCKETS] };

/// A ledger in which nothing has been counted.
pub const fn zero_ledger() -> Ledger {
    Ledger {
        write: WriteLedger { calls: 0, bytes: 0, errors: 0, kernel_calls: 0, latency: ZERO_LATENCY },
        prefault: PrefaultLedger {
            calls: 0,
            bytes: 0,
            failed_wholly: 0,
            failed_partly: 0,
            needed_minor: 0,
            needed_major: 0,
            minor_faults: 0,
            major_faults: 0,
            kernel_calls: 0,
            latency: ZERO_LATENCY,
        },
        copy: CopyLedger {
            calls: 0,
            bytes_asked: 0,
            bytes_copied: 0,
            zero: 0,
            partial: 0,
            kernel_calls: 0,
            kernel_bytes: 0,
            latency: ZERO_LATENCY,
        },
    }
}

/// Adds one CPU's ledger to a sum.
pub fn add_ledger(sum: &mut Ledger, part: &Ledger) {
    let Ledger { write, prefault, copy } = part;
    add_write(&mut sum.write, write);
    add_prefault(&mut sum.prefault, prefault);
    add_copy(&mut sum.copy, copy);
}

/// Adds one CPU's path ledger to a sum.
pub fn add_path_ledger(sum: &mut PathLedger, part: &PathLedger) {
    let PathLedger { entered, calls, eager, on_demand, prefaults, copies, passed } = part;
    sum.entered += entered;
    sum.calls += calls;
    sum.eager += eager;
    sum.on_demand += on_demand;
    sum.prefaults += prefaults;
    sum.copies += copies;
    sum.passed += passed;
}

// Each part is taken apart whole, so that a counter added to the ABI cannot be forgotten here.

fn add_write(sum: &mut WriteLedger, part: &WriteLedger) {
    let WriteLedger { calls, bytes, errors, kernel_calls, latency } = part;
    sum.calls += calls;
    sum.bytes += bytes;
    sum.errors += errors;
    sum.kernel_calls += kernel_calls;
    add_latency(&mut sum.latency, latency);
}

fn add_prefault(sum: &mut PrefaultLedger, part: &PrefaultLedger) {
    let PrefaultLedger {
        calls,
        bytes,
        failed_wholly,
        failed_partly,
        needed_minor,
        needed_major,
        minor_faults,
        major_faults,
        kernel_calls,
        latency,
    } = part;
    sum.calls += calls;
    sum.bytes += bytes;
    sum.failed_wholly += failed_wholly;
    sum.failed_partly += failed_partly;
    sum.needed_minor += needed_minor;
    sum.needed_major += needed_major;
    sum.minor_faults += minor_faults;
    sum.major_faults += major_faults;
    sum.kernel_calls += kernel_calls;
    add_latency(&mut sum.latency, latency);
}

fn add_copy(sum: &mut CopyLedger, part: &CopyLedger) {
    let CopyLedger { calls, bytes_asked, bytes_copied, zero, partial, kernel_calls, kernel_bytes, latency } = part;
    sum.calls += calls;
    sum.bytes_asked += bytes_asked;
    sum.bytes_copied += bytes_copied;
    sum.zero += zero;
    sum.partial += partial;
    sum.kernel_calls += kernel_calls;
    sum.kernel_bytes += kernel_bytes;
    add_latency(&mut sum.latency, latency);
}

fn add_latency(sum: &mut Latency, part: &Latency) {
    let Latency { sum_ns, buckets } = part;
    sum.sum_ns += sum_ns;
    for (sum_bucket, bucket) in sum.buckets.iter_mut().zip(buckets) {
        *sum_bucket += bucket;
    }
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

    /// A ledger whose words are 1, 2, 3 and so on, times `factor`.
    fn numbered_ledger(factor: u64) -> Ledger {
        let words: Vec<u64> = (1..=size_of::<Ledger>() as u64 / 8).map(|word| word * factor).collect();
        // SAFETY: the ABI asserts that a ledger is nothing but u64 counters, every value of which is valid, and the
        // vector is as long and aligned as u64.
        unsafe { words.as_ptr().cast::<Ledger>().read() }
    }

    fn words(ledger: &Ledger) -> Vec<u64> {
        let n_words = size_of::<Ledger>() / 8;
        // SAFETY: as above, in the other direction; the slice does not outlive the borrow.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(ledger).cast::<u64>(), n_words) }.to_vec()
    }

    #[test]
    fn adding_ledgers_adds_every_counter_of_them() {
        let mut sum = zero_ledger();
        assert!(words(&sum).iter().all(|word| *word == 0));
        add_ledger(&mut sum, &numbered_ledger(1));
        add_ledger(&mut sum, &numbered_ledger(1000));
        assert_eq!(words(&sum), words(&numbered_ledger(1001)));
    }

    #[test]
    fn adding_path_ledgers_adds_every_counter_of_them() {
        let mut sum = PathLedger { entered: 6, calls: 1, eager: 2, on_demand: 3, prefaults: 4, copies: 5, passed: 7 };
        add_path_ledger(
            &mut sum,
            &PathLedger { entered: 60, calls: 10, eager: 20, on_demand: 30, prefaults: 40, copies: 50, passed: 70 },
        );
        assert_eq!((sum.entered, sum.calls, sum.eager, sum.on_demand), (66, 11, 22, 33));
        assert_eq!((sum.prefaults, sum.copies), (44, 55));
        assert_eq!(sum.passed, 77);
    }
}
