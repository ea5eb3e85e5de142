//! Filesystem slots: which ledger a superblock's numbers go to.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_EXIST, BPF_NOEXIST},
    helpers::{
        bpf_probe_read_kernel_str_bytes,
        generated::{bpf_get_prandom_u32, bpf_map_lookup_elem},
    },
};
use prefault_ebpf::{FILTERED_SLOT, Loss, OTHER_SLOT, SlotInfo, SlotKey};

use crate::{
    context::LastSlot,
    filters::measures_filesystem,
    loss::{add_preemptible, lose},
    maps::{FREE_SLOTS, SLOT_INFO, SLOTS, config},
    memory::{Memory, Target, Untyped},
    messages::info,
};

/// One in so many writes to a filesystem that had no slot looks for one again.
const LOOKED_UP_AGAIN: u32 = 64;

/// The slot of the filesystem that `target` is on, claimed if it has none yet; [`OTHER_SLOT`] if all are taken or it cannot be
/// read, [`FILTERED_SLOT`] if it is not measured.
#[inline(always)]
pub fn slot_of<M: Memory, C: EbpfContext>(context: &C, target: Option<&Target>, last: &mut LastSlot) -> u32 {
    let Some((target, key)) = target.and_then(|target| Some((target, key_of::<M>(target)?))) else {
        lose(Loss::NoFilesystem, 1);
        return OTHER_SLOT;
    };
    // That all slots were taken may have been wrong: another processor was claiming one for this filesystem at that moment.
    let is_known = || last.slot != OTHER_SLOT || !is_looked_up_again();
    if last.fs_type == key.fs_type && last.dev == key.dev && is_known() {
        return last.slot;
    }
    let slot = match lookup(&key) {
        Some(slot) => slot,
        None => claim(context, target, &key),
    };
    *last = LastSlot { fs_type: key.fs_type, dev: key.dev, slot };
    slot
}

/// Whether a task whose filesystem had no slot is to look for one again.
#[inline(always)]
fn is_looked_up_again() -> bool {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_prandom_u32() }.is_multiple_of(LOOKED_UP_AGAIN)
}

#[inline(always)]
fn key_of<M: Memory>(target: &Target) -> Option<SlotKey> {
    let (fs_type, sb_dev): (u64, u32) =
        M::read_both(target.superblock, config!(offsets.sb_type), config!(offsets.sb_dev))?;
    // All block devices share one superblock; only their inodes have a device number of their own here.
    let dev = if target.rdev == 0 { sb_dev } else { target.rdev };
    (fs_type != 0).then_some(SlotKey { fs_type, dev, reserved: 0 })
}

#[inline(always)]
fn lookup(key: &SlotKey) -> Option<u32> {
    let map = core::ptr::from_ref(&SLOTS).cast_mut();
    // SAFETY: the map's key is a SlotKey and its value a u32.
    let slot = unsafe { bpf_map_lookup_elem(map.cast(), core::ptr::from_ref(key).cast()).cast::<u32>() };
    // SAFETY: a value that was found stays valid until the program ends.
    (!slot.is_null()).then(|| unsafe { *slot })
}

/// Claims a free slot. Two CPUs may claim for the same filesystem at once: the second gives its slot back.
///
/// Free slots are in a queue, because trying one after the other is a loop that the verifier walks through in each program:
/// ten thousand of fifteen thousand instructions that it looked at.
#[inline(never)]
fn claim<C: EbpfContext>(context: &C, target: &Target, key: &SlotKey) -> u32 {
    let mut info = SlotInfo { key: *key, ..SlotInfo::default() };
    describe(target.superblock, key, &mut info);
    if !measures_filesystem(&info) {
        // If there is no room to remember it, it is judged anew next time.
        let _unused = SLOTS.insert(key, FILTERED_SLOT, 0);
        return FILTERED_SLOT;
    }
    let Ok(Some(slot)) = FREE_SLOTS.pop() else { return remember_without_slot(key) };
    if SLOTS.insert(key, slot, u64::from(BPF_NOEXIST)).is_err() {
        // Another processor may have found none left because this one was being claimed.
        if lookup(key) != Some(OTHER_SLOT) || SLOTS.insert(key, slot, u64::from(BPF_EXIST)).is_err() {
            let _unused = FREE_SLOTS.push(slot, 0);
            return lookup(key).unwrap_or(OTHER_SLOT);
        }
        count_without_slot(-1);
    }
    describe_slot(slot, &info);
    info!(context, "slot {} is device {}:{}", slot, key.dev >> 20, key.dev & 0xf_ffff);
    slot
}

/// Remembers, if there is room, a filesystem for which no slot is left, and counts it then.
fn remember_without_slot(key: &SlotKey) -> u32 {
    if SLOTS.insert(key, OTHER_SLOT, u64::from(BPF_NOEXIST)).is_ok() {
        count_without_slot(1);
    }
    lookup(key).unwrap_or(OTHER_SLOT)
}

/// Adds to the number of filesystems without a slot, see [`SlotInfo`].
#[inline(always)]
fn count_without_slot(n: i64) {
    if let Some(place) = SLOT_INFO.get_ptr_mut(OTHER_SLOT) {
        // SAFETY: the place is a live map value.
        add_preemptible(unsafe { &raw mut (*place).key.fs_type }, n as u64);
    }
}

/// Says what is in a slot, once, to whoever reads it at any time: its type comes last. Volatile: in this order, in which x86-64
/// also stores.
#[inline(always)]
fn describe_slot(slot: u32, info: &SlotInfo) {
    let Some(place) = SLOT_INFO.get_ptr_mut(slot) else { return };
    // SAFETY: the place is a live map value, and the slot was claimed just now, by this program.
    unsafe {
        (&raw mut (*place).key.dev).write_volatile(info.key.dev);
        (&raw mut (*place).fstype).write_volatile(info.fstype);
        (&raw mut (*place).id).write_volatile(info.id);
        (&raw mut (*place).key.fs_type).write_volatile(info.key.fs_type);
    }
}

#[inline(always)]
fn describe(superblock: *const u8, key: &SlotKey, info: &mut SlotInfo) {
    let fs_type = key.fs_type as *const u8;
    // SAFETY: the helper checks every address; an unreadable name stays empty.
    unsafe {
        if let Some(name) = Untyped::read::<*const u8>(fs_type, config!(offsets.type_name)) {
            let _unused = bpf_probe_read_kernel_str_bytes(name, &mut info.fstype);
        }
        let _unused = bpf_probe_read_kernel_str_bytes(superblock.add(config!(offsets.sb_id) as usize), &mut info.id);
    }
}
