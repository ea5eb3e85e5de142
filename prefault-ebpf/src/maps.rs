//! All maps and globals of the programs, and where in them each processor counts.
//!
//! What userspace reads or changes while the programs run is mapped into its memory; see the ABI for why.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::generated::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, CgroupArray, HashMap, Queue, RingBuf},
};
use prefault_ebpf::{
    Config, DEFAULT_SLOTS, EVENT_RING_BYTES, FloorSamples, Losses, MAX_FILTER_ENTRIES, MAX_FILTERED, MAX_PATHS,
    MAX_PROCESSES, MAX_WITHOUT_SLOT, MODULE_RING_BYTES, PathLedger, SlotInfo, SlotKey, SlotLedger, TEXT_CHUNK_BYTES,
    masked,
};

/// Facts of the running kernel and options, set by userspace before loading.
///
/// Each member is read on its own and volatile: the compiler must not assume the zeros it sees here, and the verifier
/// treats the read as a constant.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config {
    offsets: prefault_ebpf::Offsets {
        kiocb_filp: 0,
        kiocb_pos: 0,
        file_mapping: 0,
        mapping_host: 0,
        inode_sb: 0,
        inode_ino: 0,
        inode_rdev: 0,
        sb_dev: 0,
        sb_type: 0,
        sb_id: 0,
        type_name: 0,
        task_min_flt: 0,
        task_maj_flt: 0,
        task_start_time: 0,
        iter_type: 0,
        iter_offset: 0,
        iter_count: 0,
        iter_base: 0,
        task_pid: 0,
        task_tgid: 0,
        kiocb_flags: 0,
        file_flags: 0,
        task_group_leader: 0,
        task_comm: 0,
    },
    types: prefault_ebpf::TypeIds { kiocb: 0, file: 0, iov_iter: 0 },
    user_iter_types: 0,
    ubuf_iter_type: 0,
    iter_type_ignored: 0,
    copy_bytes_argument: 0,
    copy_iter_argument: 0,
    copy_keeps_iter: 0,
    prefault_returns_errno: 0,
    events: 0,
    filter: 0,
    only_process: 0,
    timing: prefault_ebpf::timing::ALL,
    windows: 0,
    floor_process: 0,
    single_points: 0,
    n_processors: 1,
};

/// Reads one member of [`CONFIG`].
macro_rules! config {
    ($($member:ident).+) => {
        $crate::maps::read_config(&raw const $crate::maps::CONFIG.$($member).+)
    };
}
pub(crate) use config;

/// What [`config!`] expands to.
#[inline(always)]
pub fn read_config(member: *const u32) -> u32 {
    // SAFETY: the macro passes a member of a static, which is valid and aligned.
    unsafe { core::ptr::read_volatile(member) }
}

/// As many as there are slots, and one, times as many as there are processors; userspace knows how many.
#[map]
static LEDGERS: Array<SlotLedger> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// As many as there are processors.
#[map]
static LOSSES: Array<Losses> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What is counted for the filesystem in `slot` on this processor.
#[inline(always)]
pub fn ledger_of(slot: u32) -> Option<*mut SlotLedger> {
    LEDGERS.get_ptr_mut(slot * config!(n_processors) + processor())
}

/// The part of `ledger`, a live map value, for the write path of this number.
#[inline(always)]
pub fn path_of(ledger: *mut SlotLedger, path: u32) -> *mut PathLedger {
    const { assert!(MAX_PATHS.is_power_of_two()) };
    let path = masked::<{ MAX_PATHS as usize - 1 }>(path as usize);
    // SAFETY: the plan has no more paths than there are parts.
    unsafe { (&raw mut (*ledger).paths).cast::<PathLedger>().add(path) }
}

/// The loss counters of this processor.
#[inline(always)]
pub fn losses() -> Option<*mut Losses> {
    LOSSES.get_ptr_mut(processor())
}

/// The number of this processor.
#[inline(always)]
pub fn processor() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_smp_processor_id() }
}

#[map]
pub static SLOTS: HashMap<SlotKey, u32> = HashMap::with_max_entries(DEFAULT_SLOTS + MAX_WITHOUT_SLOT + MAX_FILTERED, 0);

#[map]
pub static SLOT_INFO: Array<SlotInfo> = Array::with_max_entries(DEFAULT_SLOTS + 1, BPF_F_MMAPABLE);

#[map]
pub static FREE_SLOTS: Queue<u32> = Queue::with_max_entries(DEFAULT_SLOTS, 0);

#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_RING_BYTES, 0);

#[map]
pub static MODULES: RingBuf = RingBuf::with_byte_size(MODULE_RING_BYTES, 0);

#[map]
pub static FLOOR: Array<FloorSamples> = Array::with_max_entries(2, 0);

#[map]
pub static TEXT: Array<[u8; TEXT_CHUNK_BYTES]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
pub static PROCESSES: HashMap<u32, u8> = HashMap::with_max_entries(MAX_PROCESSES, 0);

#[map]
pub static COMMS: HashMap<[u8; 16], u8> = HashMap::with_max_entries(MAX_FILTER_ENTRIES, 0);

#[map]
pub static CGROUPS: CgroupArray = CgroupArray::with_max_entries(1, 0);

#[map]
pub static FSTYPES: HashMap<[u8; 32], u8> = HashMap::with_max_entries(MAX_FILTER_ENTRIES, 0);

#[map]
pub static TIMED_BELOW: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
pub static WINDOW: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
pub static DEVICES: HashMap<u32, u8> = HashMap::with_max_entries(MAX_FILTER_ENTRIES, 0);
