//! The ABI between the kernel side and the user side of prefault: keys, values, names and the bucket arithmetic.
//!
//! Both sides compile this one file. It is pure data and depends on nothing; the maps themselves are in `maps.rs`, and
//! how userspace interprets the numbers is in prefault-user's `data` folder.
//!
//! All times are nanoseconds of CLOCK_MONOTONIC, all sizes bytes. Every counter is cumulative, per CPU, and only grows.
//!
//! Counters are in plain arrays with an element for each CPU, which userspace maps into its memory. Reading per-CPU arrays takes
//! system calls, in which the kernel skips kprobe programs on the CPU of the reader (`bpf_disable_instrumentation`,
//! include/linux/bpf.h): where it preempts, for as long as another task has that CPU.

#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod config;
mod counters;
mod histogram;
mod ledgers;
pub mod names;
mod rounds;
#[cfg(feature = "serde")]
mod serialization;
mod verifier;

pub use config::{CAST_PLACEHOLDER, Config, Offsets, TypeIds, filter, timing, window};
pub use counters::{CopyLedger, Ledger, PathLedger, PrefaultLedger, WriteLedger};
pub use histogram::{FIRST_SCHEMA_INDEX, Histogram, N_BUCKETS, bucket_of, upper_bound_ns};
pub use ledgers::{Counter, Distribution, Metric, Unit, WentBackwards, grown};
pub use names::{CONFIG, map, program};
pub use rounds::{N_ROUND_BUCKETS, Rounds, rounds_bucket_of, upper_bound_of_rounds};
pub use verifier::{masked, opaque};

/// The slot of every filesystem that found none of its own.
pub const OTHER_SLOT: u32 = 0;
/// The slot, in [`map::SLOTS`] and in frames, of a filesystem that is filtered out.
pub const FILTERED_SLOT: u32 = u32::MAX;
/// Filesystems with a slot of their own, from slot 1 on, unless the user says otherwise.
pub const DEFAULT_SLOTS: u32 = 64;
/// The most slots a user may ask for.
pub const MAX_SLOTS: u32 = 4096;
/// Filesystems that are remembered, and counted, as having found no slot.
pub const MAX_WITHOUT_SLOT: u32 = 256;
/// Filesystems that are remembered as filtered out; beyond that a filter is asked anew at each write.
pub const MAX_FILTERED: u32 = 4096;
/// Processes that can be measured at once with [`filter::PROCESSES`].
pub const MAX_PROCESSES: u32 = 16 * 1024;
/// Points whose cookies are looked up by address, on kernels that have no attach cookies.
pub const MAX_POINTS: u32 = 256;
/// Tasks that can be in a write path at once, on kernels without task storage.
pub const MAX_TASKS: u32 = 16 * 1024;
/// Entries of each other filter.
pub const MAX_FILTER_ENTRIES: u32 = 256;
/// Write paths that can be told apart.
pub const MAX_PATHS: u32 = 32;
/// Bytes of kernel text that one run of [`program::READ_TEXT`] reads.
pub const TEXT_CHUNK_BYTES: usize = 16 * 1024;
/// Bytes of the event ring.
pub const EVENT_RING_BYTES: u32 = 512 * 1024;
/// Bytes of the ring that says that modules are loaded: the least that there can be.
pub const MODULE_RING_BYTES: u32 = 4096;

/// Everything counted for one filesystem on one CPU, by operation and by write path. Cache lines are not shared with other CPUs.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct SlotLedger {
    /// By operation.
    pub operations: Ledger,
    /// By number of the write path.
    pub paths: [PathLedger; MAX_PATHS as usize],
}

/// The loss counters of one CPU, indexed by [`Loss`].
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Losses(pub [u64; N_LOSSES]);

/// What identifies a filesystem.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotKey {
    /// Address of the `file_system_type`.
    pub fs_type: u64,
    /// `s_dev` of the superblock, or for a block device file its own device number, as the kernel's `dev_t`
    /// (major << 20 | minor).
    pub dev: u32,
    /// Padding, always 0.
    pub reserved: u32,
}

/// Description of the filesystem in a slot. That of [`OTHER_SLOT`] is none: its `key.fs_type` is the number of filesystems that
/// found no slot, at most [`MAX_WITHOUT_SLOT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SlotInfo {
    /// What identifies it. Its `fs_type` is written last, and once; it is 0 until then.
    pub key: SlotKey,
    /// `file_system_type.name`, NUL-terminated.
    pub fstype: [u8; 32],
    /// `super_block.s_id`, NUL-terminated.
    pub id: [u8; 32],
}

/// Every way to miss something, as an index into the loss counters.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A write left its path, but its entry was not seen.
    WriteEnter,
    /// A write entered its path, but its return was not seen.
    WriteLeave,
    /// A prefault returned, but its call was not seen.
    PrefaultBegin,
    /// A prefault was called, but its return was not seen.
    PrefaultEnd,
    /// A copy returned, but its call was not seen.
    CopyBegin,
    /// A copy was called, but its return was not seen.
    CopyEnd,
    /// A prefault ran outside any write that was entered.
    PrefaultOutside,
    /// A copy ran outside any write that was entered.
    CopyOutside,
    /// Bytes that a write returned, but no copy was seen to copy.
    UncopiedBytes,
    /// The task's context could not be allocated.
    NoContext,
    /// Paths nested deeper than the frames of a task.
    TooDeep,
    /// A write whose filesystem could not be read; it is counted under `other`.
    NoFilesystem,
    /// A process that could not be followed, because too many are.
    NotFollowed,
    /// An event that found the ring full; its counts are complete.
    EventDropped,
    /// Points hit by a task whose write had begun before measuring did.
    BeforeStart,
    /// Prefaults called by a function that is not understood: it may be a write path.
    PrefaultUnattributed,
    /// Copies called by a function that is not understood: it may be a write path.
    CopyUnattributed,
}

/// Number of loss counters.
pub const N_LOSSES: usize = Loss::CopyUnattributed as usize + 1;

/// Latencies that are kept to measure the floor: a power of two.
pub const FLOOR_SAMPLES: usize = 64;

/// What two points with nothing between them measured.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FloorSamples {
    /// Latencies that were taken.
    pub taken: u64,
    /// The latencies, as many as were taken, in nanoseconds.
    pub ns: [u64; FLOOR_SAMPLES],
}

/// What an [`Event`] reports.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A copy from user memory that returned less than asked.
    ShortCopy = 1,
    /// A prefault of user memory that left bytes unfaulted.
    FailedPrefault = 2,
}

/// One short copy or failed prefault.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Event {
    /// When it returned.
    pub timestamp_ns: u64,
    /// Inode number.
    pub inode: u64,
    /// Position in the file of the first byte asked.
    pub position: u64,
    /// Bytes asked.
    pub asked: u64,
    /// Bytes copied or faulted in.
    pub done: u64,
    /// User address of the first byte that was not copied or faulted in, 0 if unknown.
    pub user_address: u64,
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Slot of the filesystem.
    pub slot: u32,
    /// Number of the write path.
    pub path: u32,
    /// An [`EventKind`].
    pub kind: u32,
    /// Padding, always 0.
    pub reserved: u32,
    /// Thread name, NUL-terminated.
    pub comm: [u8; 16],
}

/// Bit of an attach cookie: the path copies, so that each call of it is a buffered write.
pub const COOKIE_COPIES: u64 = 1 << 32;
/// Bit of an attach cookie: the path takes `struct file *` instead of a kiocb.
pub const COOKIE_FILE: u64 = 1 << 33;
/// What holds an argument of an operation, as five bits of the cookie of a point: the number of a register in the encoding of
/// x86-64 instructions. The stack pointer's, which holds no argument, means that it is not known yet: then the cookie of the point
/// behind the call is the register that holds it there.
pub const HELD_BY_NOTHING: u64 = 4;
/// What holds an argument: with this bit, so many words above the stack pointer as the other four bits say.
pub const HELD_BY_STACK: u64 = 16;

/// Cookie of the point before a call, or of the only one, behind it: what holds the bytes asked for (bits 0 to 4) and the
/// iterator (bits 5 to 9).
#[must_use]
pub const fn cookie_of_arguments([asked, iter]: [u64; 2]) -> u64 {
    asked & 31 | (iter & 31) << 5
}

/// In the cookie of a point behind a call, with a number of a register in bits 0 to 3: others come there too, who have not
/// called.
pub const COOKIE_SHARED: u64 = 1 << 4;

/// With [`COOKIE_FILE`]: the position is argument 2, counted from 0, not 1.
pub const COOKIE_POSITION_IS_THIRD: u64 = 1 << 34;
/// In place of a cookie where there is none: the return of whichever path the task entered last.
pub const COOKIE_OF_LAST_ENTRY: u64 = u64::MAX;

// The two sides are compiled for different targets; a difference in layout must not compile.
const _: () = {
    assert!(size_of::<Ledger>() == size_of::<WriteLedger>() + size_of::<PrefaultLedger>() + size_of::<CopyLedger>());
    assert!(size_of::<SlotLedger>().is_multiple_of(64) && size_of::<Losses>() == 192);
    assert!(size_of::<FloorSamples>() == 8 + 8 * FLOOR_SAMPLES);
    assert!(size_of::<SlotKey>() == 16);
    assert!(size_of::<SlotInfo>() == 80);
    assert!(size_of::<Event>() == 88);
    assert!(align_of::<Event>() == 8);
};
