//! The event ring: short copies and failed prefaults, one by one.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_probe_read_kernel},
};
use prefault_ebpf::{EVENT_RING_BYTES, Event, EventKind, Loss};

use crate::{
    clock,
    context::{Frame, TaskContext},
    loss::lose,
    maps::{EVENTS, config},
    memory::{Memory, Untyped},
};

/// Sends an event of the operation that has just returned, having done `done` bytes.
#[inline(always)]
pub fn send(kind: EventKind, context: &TaskContext, frame: &Frame, done: u64) {
    if config!(events) == 0 {
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        lose(Loss::EventDropped, 1);
        return;
    };
    let ids = bpf_get_current_pid_tgid();
    // A copy has advanced the iterator by what it copied, except on kernels that leave that to the caller.
    let advanced = if kind == EventKind::ShortCopy && config!(copy_keeps_iter) == 0 { done } else { 0 };
    let remaining = iter_member(context.iter, config!(offsets.iter_count));
    entry.write(Event {
        timestamp_ns: clock::now(),
        inode: Untyped::read(frame.inode as *const u8, config!(offsets.inode_ino)).unwrap_or(0),
        position: frame.position.wrapping_add(frame.iter_count.wrapping_sub(remaining)).wrapping_sub(advanced),
        asked: context.asked,
        done,
        user_address: user_address(context.iter).map_or(0, |address| address.wrapping_add(done - advanced)),
        pid: (ids >> 32) as u32,
        tid: ids as u32,
        slot: frame.slot,
        path: frame.path,
        kind: kind as u32,
        reserved: 0,
        comm: bpf_get_current_comm().unwrap_or_default(),
    });
    // Waking the reader for each event costs more than all the rest: it looks from time to time, and is woken if it does not
    // keep up.
    let is_half_full = EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) > u64::from(EVENT_RING_BYTES / 2);
    entry.submit(u64::from(if is_half_full { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP }));
}

#[inline(always)]
fn iter_member(iter: u64, offset: u32) -> u64 {
    Untyped::read(iter as *const u8, offset).unwrap_or(0)
}

/// The user address the iterator stands at: of its buffer (ITER_UBUF) or of its first segment (ITER_IOVEC).
#[inline(always)]
fn user_address(iter: u64) -> Option<u64> {
    let kind: u8 = Untyped::read(iter as *const u8, config!(offsets.iter_type))?;
    let base = iter_member(iter, config!(offsets.iter_base));
    let offset = iter_member(iter, config!(offsets.iter_offset));
    if u32::from(kind) & !config!(iter_type_ignored) == config!(ubuf_iter_type) {
        return Some(base.wrapping_add(offset));
    }
    // SAFETY: the helper checks the address; iov_base is the first member of struct iovec.
    unsafe { bpf_probe_read_kernel(base as *const u64) }.ok().map(|segment| segment.wrapping_add(offset))
}
