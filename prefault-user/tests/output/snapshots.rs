//! Hand-made snapshots that look like real ones.

use prefault_ebpf::{Event, EventKind, Histogram, Ledger, Loss, N_LOSSES, PathLedger, PrefaultLedger, bucket_of};
use prefault_user::data::{
    Estimate, EventRecord, Filesystem, FilesystemCounters, FilesystemEstimates, Floor, Limit, Mechanism, Operation,
    OverheadReport, OwnCost, PathCounters, Points, Silenced, SiteReport, Snapshot,
};

/// Functions of the paths, by number.
pub const PATH_NAMES: [&str; 4] =
    ["generic_perform_write", "iomap_file_buffered_write", "btrfs_buffered_write", "btrfs_direct_write"];

const SECOND_NS: u64 = 1_000_000_000;

/// The first snapshot of a session: only ext4 has been written to.
pub fn begin() -> Snapshot {
    Snapshot {
        at_ns: 5_000 * SECOND_NS,
        filesystems: vec![ext4(40)],
        losses: [0; N_LOSSES],
        missed_runs: 2,
        events_unread: 0,
        own_cost: Some(OwnCost { runs: 6_000, run_ns: 2_000_000 }),
        silenced: Silenced::default(),
    }
}

/// One second on, all but `other` have been.
pub fn middle() -> Snapshot {
    let mut snapshot = begin();
    snapshot.at_ns += SECOND_NS;
    snapshot.filesystems = vec![ext4(40 + 101), xfs(7), tmpfs(0), btrfs()];
    snapshot
}

/// 12.3 seconds on.
pub fn end() -> Snapshot {
    let mut snapshot = begin();
    snapshot.at_ns += 12_345 * SECOND_NS / 1000;
    snapshot.filesystems = vec![ext4(40 + 202), xfs(1_200), tmpfs(300), btrfs(), other()];
    snapshot.losses[Loss::PrefaultEnd as usize] = 3;
    snapshot.losses[Loss::UncopiedBytes as usize] = 12_288;
    snapshot.losses[Loss::EventDropped as usize] = 1_871;
    snapshot.losses[Loss::BeforeStart as usize] = 2;
    snapshot.missed_runs += 1;
    snapshot.own_cost = Some(OwnCost { runs: 16_212, run_ns: 7_432_100 });
    snapshot.silenced.ns = [2_104_000_000, 0];
    snapshot
}

/// Latencies in nanoseconds, each with how often it occurs.
fn latency(latencies: &[(u64, u64)]) -> Histogram {
    let mut latency = Histogram::ZERO;
    for (ns, n) in latencies {
        latency.counts[bucket_of(*ns)] += n;
        latency.sum_ns += ns * n;
    }
    latency
}

/// `n` latencies around `ns`, with a tail.
fn around(ns: u64, n: u64) -> Vec<(u64, u64)> {
    let shares = [(80, 40), (95, 210), (112, 450), (135, 190), (170, 70), (240, 30), (410, 8), (1400, 2)];
    let mut left = n;
    let mut latencies: Vec<(u64, u64)> = shares
        .iter()
        .map(|(percent, permille)| {
            let n_share = n * permille / 1000;
            left -= n_share;
            (ns * percent / 100, n_share)
        })
        .collect();
    latencies[2].1 += left;
    latencies
}

fn identity(fstype: &str, device: &str, major: u32, minor: u32) -> Filesystem {
    Filesystem { fstype: fstype.to_owned(), device: device.to_owned(), major, minor }
}

fn path(path: u32, ledger: PathLedger) -> PathCounters {
    PathCounters { path, ledger }
}

/// `n_calls` writes of 4 KiB with one prefault and one copy each, of which none took a page fault.
fn plain_writes(n_calls: u64, write_ns: u64, prefault_ns: u64, copy_ns: u64) -> Ledger {
    let mut ledger = Ledger::ZERO;
    ledger.write.calls = n_calls;
    ledger.write.bytes = n_calls * 4096;
    ledger.write.latency = latency(&around(write_ns, n_calls));
    (ledger.write.rounds.sum, ledger.write.rounds.counts[1]) = (n_calls, n_calls);
    ledger.prefault.calls = n_calls;
    ledger.prefault.bytes = n_calls * 4096;
    ledger.prefault.latency_not_needed = latency(&around(prefault_ns, n_calls));
    ledger.copy.calls = n_calls;
    ledger.copy.bytes_asked = n_calls * 4096;
    ledger.copy.bytes_copied = n_calls * 4096;
    ledger.copy.latency = latency(&around(copy_ns, n_calls));
    ledger
}

/// Eager: of each 100 writes one was from a page that was not resident.
fn ext4(n_hundreds: u64) -> FilesystemCounters {
    let n_calls = n_hundreds * 100;
    let mut ledger = plain_writes(n_calls, 4_200, 140, 420);
    let mut needed = Ledger::ZERO;
    let faulted = latency(&around(1_900, n_hundreds));
    ledger.prefault.latency_not_needed = latency(&around(140, n_calls - n_hundreds));
    needed.prefault.latency_needed = faulted;
    needed.prefault.needed_minor = n_hundreds - n_hundreds / 40;
    needed.prefault.needed_major = n_hundreds / 40;
    needed.prefault.minor_faults = n_hundreds - n_hundreds / 40;
    needed.prefault.major_faults = n_hundreds / 40;
    ledger.add(&needed);
    let mut counts = PathLedger { entered: n_calls, calls: n_calls, eager: n_calls, ..PathLedger::ZERO };
    counts.add(&PathLedger { prefaults: n_calls, copies: n_calls, ..PathLedger::ZERO });
    FilesystemCounters { slot: 1, identity: identity("ext4", "vdb", 254, 16), ledger, paths: vec![path(0, counts)] }
}

/// Eager, large and always resident, but for two writes from an address that is not mapped.
fn xfs(n_thousands: u64) -> FilesystemCounters {
    let n_calls = n_thousands * 1000;
    let mut ledger = plain_writes(n_calls, 61_000, 130, 2_600);
    ledger.write.errors = 2;
    ledger.prefault.failed_wholly = 2;
    ledger.prefault.failed_partly = 1;
    let n_bytes = n_calls * 65_536;
    (ledger.write.bytes, ledger.prefault.bytes) = (n_bytes, n_bytes);
    (ledger.copy.bytes_asked, ledger.copy.bytes_copied) = (n_bytes, n_bytes);
    let counts = PathLedger {
        entered: n_calls,
        calls: n_calls,
        eager: n_calls,
        on_demand: 0,
        prefaults: n_calls,
        copies: n_calls,
        passed: 0,
    };
    FilesystemCounters { slot: 2, identity: identity("xfs", "nvme0n1p3", 259, 3), ledger, paths: vec![path(1, counts)] }
}

/// On demand: 20,000 writes from resident memory, then `n_short` whose first copy came up short.
fn tmpfs(n_short: u64) -> FilesystemCounters {
    let n_calls = 20_000 + n_short;
    let mut ledger = plain_writes(n_calls, 1_900, 100, 410);
    ledger.prefault = PrefaultLedger::ZERO;
    ledger.prefault.calls = n_short;
    ledger.prefault.bytes = n_short * 4096;
    ledger.prefault.needed_minor = n_short;
    ledger.prefault.minor_faults = n_short;
    ledger.prefault.latency_needed = latency(&around(850, n_short));
    ledger.copy.calls += n_short;
    ledger.copy.zero = n_short * 2 / 3;
    ledger.copy.partial = n_short - ledger.copy.zero;
    ledger.copy.bytes_asked += n_short * 4096;
    ledger.copy.bytes_copied += ledger.copy.partial * 1000;
    ledger.copy.latency = latency(&around(410, n_calls + n_short));
    let counts = PathLedger {
        entered: n_calls,
        calls: n_calls,
        eager: 0,
        on_demand: n_calls,
        prefaults: n_short,
        copies: n_calls + n_short,
        passed: 0,
    };
    FilesystemCounters { slot: 3, identity: identity("tmpfs", "tmpfs", 0, 27), ledger, paths: vec![path(0, counts)] }
}

/// Eager, with a third of the writes from kernel memory, and a direct write that fell back.
fn btrfs() -> FilesystemCounters {
    let mut ledger = plain_writes(2_000, 18_000, 150, 900);
    ledger.write.calls += 1_000;
    ledger.write.bytes += 1_000 * 4096;
    ledger.write.kernel_calls = 1_000;
    ledger.prefault.calls += 1_000;
    ledger.prefault.kernel_calls = 1_000;
    ledger.copy.calls += 1_000;
    ledger.copy.bytes_asked += 1_000 * 4096;
    ledger.copy.bytes_copied += 1_000 * 4096;
    ledger.copy.kernel_calls = 1_000;
    ledger.copy.kernel_bytes = 1_000 * 4096;
    let buffered = PathLedger {
        entered: 3_000,
        calls: 3_000,
        eager: 3_000,
        on_demand: 0,
        prefaults: 2_999,
        copies: 3_000,
        passed: 0,
    };
    let direct = PathLedger { entered: 1, calls: 1, eager: 0, on_demand: 0, prefaults: 1, copies: 0, passed: 0 };
    FilesystemCounters {
        slot: 4,
        identity: identity("btrfs", "sda2", 0, 41),
        ledger,
        paths: vec![path(2, buffered), path(3, direct), path(1, PathLedger::default())],
    }
}

/// Whatever found no slot: eager and on-demand filesystems together, with one write that hung.
fn other() -> FilesystemCounters {
    let mut ledger = plain_writes(900, 5_000, 145, 400);
    ledger.write.latency.counts[bucket_of(60 * SECOND_NS)] += 1;
    ledger.write.latency.sum_ns += 60 * SECOND_NS;
    ledger.write.calls += 1;
    let first =
        PathLedger { entered: 500, calls: 500, eager: 100, on_demand: 400, prefaults: 500, copies: 500, passed: 0 };
    let second =
        PathLedger { entered: 401, calls: 401, eager: 400, on_demand: 0, prefaults: 400, copies: 400, passed: 0 };
    FilesystemCounters::other(ledger, vec![path(0, first), path(1, second)])
}

/// What the points add.
pub fn floor() -> Option<Floor> {
    Some(Floor { jump_ns: Some(90), trap_ns: Some(310) })
}

/// Call sites of which some could not be measured.
pub fn sites() -> Vec<SiteReport> {
    let prefault = "fault_in_iov_iter_readable";
    let copy = "copy_folio_from_iter_atomic";
    let site = |caller: &str, offset, target: &str, module: Option<&str>, why_not: Option<&str>| SiteReport {
        caller: caller.to_owned(),
        offset,
        target: target.to_owned(),
        operation: if target == prefault { Operation::Prefault } else { Operation::Copy },
        module: module.map(str::to_owned),
        paths: vec![caller.to_owned()],
        attached: why_not.is_none(),
        mechanism: why_not.is_none().then_some(Mechanism::CallSite),
        points: why_not.is_none().then_some(Points::Jumps),
        why_not: why_not.map(str::to_owned),
        unattributed: false,
    };
    vec![
        site("generic_perform_write", 157, prefault, None, None),
        site("generic_perform_write", 335, copy, None, None),
        site("iomap_file_buffered_write", 412, prefault, None, None),
        site("iomap_file_buffered_write", 640, copy, None, None),
        site("btrfs_buffered_write", 803, prefault, Some("btrfs"), None),
        site("bio_iov_iter_bounce", 221, copy, None, Some("not a buffered write")),
        site("f2fs_file_write_iter", 402, prefault, Some("f2fs"), Some("the kernel refuses a probe there (EINVAL)")),
    ]
}

/// A short copy, and a failed prefault whose address is not known, by a thread with an unpleasant name.
pub fn events() -> Vec<EventRecord> {
    let mut short = Event {
        timestamp_ns: 5_003 * SECOND_NS + 123_456_789,
        inode: 1_048_593,
        position: 65_536,
        asked: 4096,
        done: 1000,
        user_address: 0x7f3a_9c40_13e8,
        pid: 4711,
        tid: 4712,
        slot: 3,
        path: 0,
        kind: EventKind::ShortCopy as u32,
        ..Event::default()
    };
    short.comm[..8].copy_from_slice(b"postgres");
    let mut failed = Event {
        timestamp_ns: 5_012 * SECOND_NS + 5_000,
        user_address: 0,
        done: 0,
        pid: 9,
        tid: 9,
        path: 7,
        kind: EventKind::FailedPrefault as u32,
        ..short
    };
    failed.comm = *b"bad \x1b[31mname\"\0\0";
    let tmpfs = identity("tmpfs", "tmpfs", 0, 27);
    let xfs = identity("xfs", "nvme0n1p3", 259, 3);
    let records =
        [EventRecord::new(&short, Some(&tmpfs), &PATH_NAMES), EventRecord::new(&failed, Some(&xfs), &PATH_NAMES)];
    records.into_iter().map(|record| record.expect("known kind")).collect()
}

/// One percent of two processors, which a tenth of the time was counted for.
pub fn limited() -> OverheadReport {
    let estimate = |total: f64, error: Option<f64>| Estimate { total, standard_error: error };
    let identity = Filesystem { fstype: "ext4".into(), device: "sda1".into(), major: 8, minor: 1 };
    OverheadReport {
        limit: Limit { percent: 1.0, n_processors: 2 },
        cost_ns: 45e9,
        cost_share: 0.0094,
        open_ns: 240_000_000_000,
        open_share: 0.1,
        passed_ns: 2_160_000_000_000,
        counted_gap_share: 1.0,
        windows: 2400,
        timed_one_in: Some(1),
        given_up: 1,
        estimates: vec![FilesystemEstimates {
            identity,
            estimates: [
                estimate(1_234_567.8, Some(12_345.6)),
                estimate(5_056_789_012.3, Some(60_000_000.0)),
                estimate(1_234_567.8, Some(12_345.6)),
                estimate(250.0, Some(50.0)),
                estimate(1_234_817.8, None),
                estimate(0.0, Some(0.0)),
            ],
        }],
    }
}
