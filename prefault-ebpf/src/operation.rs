//! Probe bodies of the prefault and the copy: begin and end, on whichever point they were attached to.

use aya_ebpf::bindings::task_struct;
use prefault_ebpf::{EventKind, Loss};

use crate::{
    clock,
    context::{Frame, Pending, TaskContext, UNKNOWN, frame_at, frame_flag},
    counting::{count_copy, count_prefault},
    events,
    filters::measures_task,
    loss::lose,
    maps::{config, ledger_of},
    memory::{Cast, Memory, Untyped, cast, faults_of},
    tasks::{CONTEXTS, current_task},
    windows::{self, Window},
};

/// The prefault or the copy is called with `asked` bytes of `iter`.
#[inline(always)]
pub fn begin(operation: Pending, asked: u64, iter: u64) {
    let Some((task, context, frame)) = called(operation, asked, iter) else { return };
    context.pending = operation as u32;
    if operation == Pending::Prefault {
        (context.min_flt, context.maj_flt) = faults_of(task);
    }
    // The clock is read last, so that our own work is not measured.
    if clock::is_timed(frame) {
        context.start_ns = clock::now();
    }
}

/// The prefault returned `result`; `asked` says how many bytes were asked for, if that was not known when it was called, and
/// `is_shared` whether it may not have been called at all.
#[inline(always)]
pub fn end_prefault(result: u64, asked: impl FnOnce() -> u64, is_shared: impl FnOnce() -> bool) {
    let window = windows::now();
    if window.is_shut() {
        return;
    }
    let early = clock::early();
    let task = current_task();
    let Some((context, frame)) = returning(CONTEXTS.get(task), Pending::Prefault, window, asked, is_shared) else {
        return;
    };
    let now = clock::end_of(frame, early);
    finish_prefault(task, context, frame, result, now);
}

/// As [`end_prefault`], where the call was not probed: its faults are those since [`remember_faults`].
#[inline(always)]
pub fn only_prefault(result: u64, asked: u64, iter: u64) {
    let Some((task, context, frame)) = called(Pending::Prefault, asked, iter) else { return };
    finish_prefault(task, context, frame, result, 0);
}

#[inline(always)]
fn finish_prefault(task: *mut task_struct, context: &mut TaskContext, frame: &mut Frame, result: u64, now: u64) {
    frame.prefaults += 1;
    let unfaulted = unfaulted_bytes(context, result);
    let mut flags = frame.flags & !frame_flag::FAULTED_IN | frame_flag::PREFAULTED;
    if flags & frame_flag::COPIES != 0 {
        flags |= frame_flag::BUFFERED;
    }
    if unfaulted == 0 {
        flags |= frame_flag::FAULTED_IN;
    }
    frame.flags = flags;
    if let Some(ledger) = ledger_of(frame.slot) {
        let (min_flt, maj_flt) = faults_of(task);
        let faults = (min_flt.wrapping_sub(context.min_flt), maj_flt.wrapping_sub(context.maj_flt));
        // SAFETY: the ledger is a live map value.
        count_prefault(unsafe { &raw mut (*ledger).operations.prefault }, context, frame, unfaulted, faults, now);
    }
    if unfaulted > 0 {
        events::send(EventKind::FailedPrefault, context, frame, context.asked - unfaulted);
    }
    remember_faults(context, || task);
}

/// Bytes that a prefault which returned `result` could not fault in. What it was asked for beyond the end of the iterator
/// it never tried and reports as not faulted in (lib/iov_iter.c, fault_in_iov_iter_readable; gfs2 asks for a window of
/// 1 MiB): that is taken off what was asked.
#[inline(always)]
fn unfaulted_bytes(context: &mut TaskContext, result: u64) -> u64 {
    if result == 0 {
        return 0;
    }
    if config!(prefault_returns_errno) != 0 {
        return context.asked;
    }
    let left = Untyped::read(context.iter as *const u8, config!(offsets.iter_count)).unwrap_or(context.asked);
    let beyond = context.asked.saturating_sub(left);
    context.asked -= beyond;
    result.saturating_sub(beyond).min(context.asked)
}

/// The copy returned `copied` bytes; `asked` and `is_shared` as for the prefault.
#[inline(always)]
pub fn end_copy(copied: u64, asked: impl FnOnce() -> u64, is_shared: impl FnOnce() -> bool) {
    let window = windows::now();
    if window.is_shut() {
        return;
    }
    let early = clock::early();
    let context = CONTEXTS.get(current_task());
    let Some((context, frame)) = returning(context, Pending::Copy, window, asked, is_shared) else { return };
    let now = clock::end_of(frame, early);
    finish_copy(context, frame, copied, now);
}

/// As [`end_copy`], where the call was not probed.
#[inline(always)]
pub fn only_copy(copied: u64, asked: u64, iter: u64) {
    let Some((task, context, frame)) = called(Pending::Copy, asked, iter) else { return };
    finish_copy(context, frame, copied, 0);
    remember_faults(context, || task);
}

#[inline(always)]
fn finish_copy(context: &mut TaskContext, frame: &mut Frame, copied: u64, now: u64) {
    frame.copies += 1;
    if let Some(ledger) = ledger_of(frame.slot) {
        // SAFETY: the ledger is a live map value.
        count_copy(unsafe { &raw mut (*ledger).operations.copy }, context, frame, copied, now);
    }
    let mut flags = frame.flags & !frame_flag::FAULTED_IN;
    if flags & frame_flag::COPIED == 0 {
        flags |= frame_flag::COPIED | frame_flag::BUFFERED;
        if flags & frame_flag::PREFAULTED != 0 {
            flags |= frame_flag::EAGER;
        }
    }
    frame.flags = flags;
    frame.copied += copied;
    if copied < context.asked && frame.flags & frame_flag::FROM_KERNEL == 0 {
        events::send(EventKind::ShortCopy, context, frame, copied);
    }
}

/// An operation is called by a function of which nothing is known. Which filesystem it is for is not known either.
#[inline(always)]
pub fn unattributed(loss: Loss) {
    if !windows::now().is_shut() && measures_task() {
        lose(loss, 1);
    }
}

/// Notes what an operation is called with, or was: the task, its context and the frame it is in, if it is in one.
#[inline(always)]
fn called<'a>(
    operation: Pending,
    asked: u64,
    iter: u64,
) -> Option<(*mut task_struct, &'a mut TaskContext, &'a mut Frame)> {
    let window = windows::now();
    if window.is_shut() {
        return None;
    }
    let task = current_task();
    let (context, frame) = innermost(CONTEXTS.get(task), operation, window)?;
    lose_pending(context);
    if frame.flags & frame_flag::SOURCE_KNOWN == 0 {
        learn_source(frame, iter);
    }
    context.asked = asked;
    context.iter = iter;
    Some((task, context, frame))
}

/// Notes the faults that the task has had, for the next prefault whose call is not probed. In a write path it is the prefault
/// that takes faults: at the entry of each path, and behind each operation, which may have taken some too, this is noted anew.
#[inline(always)]
pub fn remember_faults(context: &mut TaskContext, task: impl FnOnce() -> *mut task_struct) {
    if config!(single_points) != 0 {
        (context.min_flt, context.maj_flt) = faults_of(task());
    }
}

/// The task's context and the frame it is in, if it is in one.
#[inline(always)]
fn innermost<'a>(
    context: *mut TaskContext,
    operation: Pending,
    window: Window,
) -> Option<(&'a mut TaskContext, &'a mut Frame)> {
    if context.is_null() || !window.is_of(context) {
        // The write began before measuring did; its return counts it.
        return None;
    }
    // SAFETY: the context belongs to this task, and only its own probes touch it.
    let depth = unsafe { (*context).depth };
    if depth == 0 {
        // It may be one of a write that began between windows.
        if config!(windows) == 0 && measures_task() {
            lose(if operation == Pending::Prefault { Loss::PrefaultOutside } else { Loss::CopyOutside }, 1);
        }
        return None;
    }
    // SAFETY: as above, and the frame does not overlap the members used through the context.
    let (context, frame) = unsafe { (&mut *context, &mut *frame_at(context, depth - 1)) };
    (frame.flags & frame_flag::FILTERED == 0).then_some((context, frame))
}

/// As [`innermost`], for an operation that returns: its call has to be pending, unless others come to this point too.
#[inline(always)]
fn returning<'a>(
    context: *mut TaskContext,
    operation: Pending,
    window: Window,
    asked: impl FnOnce() -> u64,
    is_shared: impl FnOnce() -> bool,
) -> Option<(&'a mut TaskContext, &'a mut Frame)> {
    // SAFETY: the context belongs to this task.
    if context.is_null() || unsafe { (*context).depth } == 0 {
        // `begin` has counted it.
        return None;
    }
    let (context, frame) = innermost(context, operation, window)?;
    if context.pending != operation as u32 {
        if is_shared() {
            return None;
        }
        lose(if operation == Pending::Prefault { Loss::PrefaultBegin } else { Loss::CopyBegin }, 1);
        lose_pending(context);
        return None;
    }
    context.pending = Pending::Nothing as u32;
    if context.asked == UNKNOWN {
        context.asked = asked();
    }
    Some((context, frame))
}

/// Counts the return that was not seen, if an operation is still pending.
#[inline(always)]
pub fn lose_pending(context: &mut TaskContext) {
    if context.pending == Pending::Nothing as u32 {
        return;
    }
    lose(if context.pending == Pending::Prefault as u32 { Loss::PrefaultEnd } else { Loss::CopyEnd }, 1);
    context.pending = Pending::Nothing as u32;
}

/// Remembers whether the write comes from user memory, and how much was left of it at the first operation.
#[inline(always)]
fn learn_source(frame: &mut Frame, iter: u64) {
    let iter = cast(iter as *const u8, config!(types.iov_iter));
    let (at_kind, at_count) = (config!(offsets.iter_type), config!(offsets.iter_count));
    let Some((kind, count)) = Cast::read_both::<u8, u64>(iter, at_kind, at_count) else { return };
    let is_user = config!(user_iter_types) >> (u32::from(kind) & !config!(iter_type_ignored) & 31) & 1 == 1;
    frame.iter_count = count;
    frame.flags |= frame_flag::SOURCE_KNOWN | if is_user { 0 } else { frame_flag::FROM_KERNEL };
}
