//! The clock, which is only read for writes that are timed.
//!
//! Where every write is, it is read before anything else is done at the end of an operation, so that our own work is not
//! measured; where one in many is, the frame that says so has to be found first.

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_ns};
use prefault_ebpf::timing;

use crate::{
    context::{Frame, frame_flag},
    maps::{TIMED_BELOW, config},
};

/// [`frame_flag::TIMED`] if a write that begins now is to be timed, else 0.
#[inline(always)]
pub fn choose() -> u32 {
    let is_timed = match config!(timing) {
        timing::NONE => false,
        timing::ALL => true,
        // SAFETY: the helper has no preconditions.
        _ => TIMED_BELOW.get(0).is_some_and(|&below| u64::from(unsafe { bpf_get_prandom_u32() }) < below),
    };
    if is_timed { frame_flag::TIMED } else { 0 }
}

/// Now, in nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Now, if every write is timed; else 0.
#[inline(always)]
pub fn early() -> u64 {
    if config!(timing) == timing::ALL { now() } else { 0 }
}

/// When the operation of `frame` ended: `early`, or now if it had to be seen first whether the write is timed.
#[inline(always)]
pub fn end_of(frame: &Frame, early: u64) -> u64 {
    if config!(timing) == timing::SAMPLED && is_timed(frame) { now() } else { early }
}

/// Whether the write that `frame` is part of is timed.
#[inline(always)]
pub fn is_timed(frame: &Frame) -> bool {
    frame.flags & frame_flag::TIMED != 0
}

/// Nanoseconds from `start` to `end`; none if the clock of another CPU is a little behind.
#[inline(always)]
pub fn between(start: u64, end: u64) -> u64 {
    if end > start { end - start } else { 0 }
}
