//! The floor: what the points themselves add to a latency. Two points with next to nothing between them are met by userspace
//! itself; what comes between their readings of the clock is what comes on top of every prefault and every copy.
//!
//! The order is that of `operation.rs`: the clock is the last thing at the beginning, and the first at the end.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use prefault_ebpf::FLOOR_SAMPLES;

use crate::{
    clock,
    maps::{FLOOR, config},
    tasks::{CONTEXTS, current_task},
    windows,
};

/// The first of two points.
#[inline(always)]
pub fn begin() {
    if (bpf_get_current_pid_tgid() >> 32) as u32 != config!(floor_process) {
        return;
    }
    let context = CONTEXTS.get_or_create(current_task());
    if !context.is_null() {
        // SAFETY: the context belongs to this task.
        unsafe { (*context).start_ns = clock::now() };
    }
}

/// The second of two points; `pair` is their number. `result` means nothing: taking it along is what the end of an operation does
/// before it reads the clock, as is looking whether a window is open.
#[inline(always)]
pub fn end(pair: u32, result: u64) {
    if windows::now().is_shut() {
        return;
    }
    let early = clock::early();
    let context = CONTEXTS.get(current_task());
    if context.is_null() {
        return;
    }
    // SAFETY: the context belongs to this task.
    let begun = unsafe { (*context).start_ns };
    let now = if early == 0 { clock::now() } else { early };
    if begun == 0 || (bpf_get_current_pid_tgid() >> 32) as u32 != config!(floor_process) {
        return;
    }
    let Some(samples) = FLOOR.get_ptr_mut(pair) else { return };
    // SAFETY: the samples are a live map value; only the one task that userspace measures the floor with is here.
    unsafe {
        (*context).start_ns = 0;
        (*context).asked = result;
        let taken = (*samples).taken;
        if taken < FLOOR_SAMPLES as u64 {
            let ns = (&raw mut (*samples).ns).cast::<u64>();
            *ns.add(prefault_ebpf::masked::<{ FLOOR_SAMPLES - 1 }>(taken as usize)) = now - begun;
            (*samples).taken = taken + 1;
        }
    }
    CONTEXTS.release(context);
}
