//! Probe bodies of write paths: entry and return, with the frames of the task between them.

use aya_ebpf::EbpfContext;
use prefault_ebpf::{COOKIE_COPIES, COOKIE_OF_LAST_ENTRY, FILTERED_SLOT, Loss};

use crate::{
    clock,
    context::{Frame, MAX_DEPTH, TaskContext, frame_at, frame_flag},
    counting::{count_bytes, count_error, count_path, count_write},
    filters::measures_task,
    loss::{add_preemptible, lose},
    maps::{config, ledger_of, path_of},
    memory::{Arguments, Memory, is_direct, target_of},
    messages::warn,
    operation::{lose_pending, remember_faults},
    slots::slot_of,
    tasks::{CONTEXTS, current_task},
    windows::{self, Window},
};

/// `-EIOCBQUEUED` (include/linux/errno.h): netfs has taken the data and completes the write later.
const QUEUED: i64 = -529;

/// A write path was entered: pushes a frame.
///
/// `stack` is a stack address of this call; `cookie` is the path's number and [`COOKIE_COPIES`].
#[inline(always)]
pub fn enter<M: Memory, C: EbpfContext>(ctx: &C, arguments: Arguments, stack: u64, cookie: u64) {
    let is_measured = measures_task();
    let window = windows::now();
    let Some(context) = context_of_entering(window, is_measured) else {
        return windows::pass_by::<M, C>(ctx, arguments, cookie, is_measured && window.is_passing());
    };
    drop_stale_frames(ctx, context, stack);
    // SAFETY: the context belongs to this task, and only its own probes touch it.
    let depth = unsafe { (*context).depth };
    if depth as usize >= MAX_DEPTH {
        if is_measured {
            lose(Loss::TooDeep, 1);
        }
        return;
    }
    let frame = frame_at(context, depth);
    if !is_measured {
        // SAFETY: the frame is in this task's context.
        unsafe { ignore(frame, stack, cookie as u32) };
        // SAFETY: the context belongs to this task.
        unsafe { (*context).depth = depth + 1 };
        return;
    }
    // Direct I/O goes through some paths too, around one that copies (f2fs) or that copy otherwise (ntfs3, bcachefs): it is a
    // buffered write only if it comes to copying after all.
    let mut flags = if is_direct::<M>(arguments.0, cookie) { frame_flag::DIRECT } else { frame_flag::BUFFERED };
    if cookie & COOKIE_COPIES != 0 {
        flags |= frame_flag::COPIES;
    }
    let target = target_of::<M>(arguments, cookie);
    // SAFETY: the context belongs to this task, and the frame does not overlap the member.
    let slot = slot_of::<M, C>(ctx, target.as_ref(), unsafe { &mut (*context).last });
    let (inode, position) = target.map_or((0, 0), |target| (target.inode as u64, target.position));
    flags |= clock::choose();
    if depth > 0 {
        let outer = frame_at(context, depth - 1);
        // SAFETY: frames below `depth` are initialised.
        unsafe {
            if (*outer).inode == inode {
                flags |= frame_flag::INNER;
                (*outer).flags |= flags & frame_flag::BUFFERED;
                // A write is timed whole.
                flags = flags & !frame_flag::TIMED | (*outer).flags & frame_flag::TIMED;
            }
        }
    }
    if slot == FILTERED_SLOT {
        flags = frame_flag::FILTERED;
    } else if let Some(ledger) = ledger_of(slot) {
        // SAFETY: the ledger is a live map value.
        add_preemptible(unsafe { &raw mut (*path_of(ledger, cookie as u32)).entered }, 1);
    }
    // SAFETY: the frame is in this task's context.
    unsafe {
        clear(frame);
        (*frame).stack = stack;
        (*frame).inode = inode;
        (*frame).position = position;
        (*frame).slot = slot;
        (*frame).path = cookie as u32;
        (*frame).flags = flags;
        (*context).depth = depth + 1;
        remember_faults(&mut *context, current_task);
        if clock::is_timed(&*frame) {
            (*frame).start_ns = clock::now();
        }
    }
}

/// The context of a task that enters a path, unless its write is not to be counted.
#[inline(always)]
fn context_of_entering(window: Window, is_measured: bool) -> Option<*mut TaskContext> {
    if window.is_open() {
        let context = CONTEXTS.get_or_create(current_task());
        if context.is_null() {
            if is_measured {
                lose(Loss::NoContext, 1);
            }
            return None;
        }
        window.adopt(context);
        return Some(context);
    }
    if window.is_shut() {
        return None;
    }
    // A write that has begun may enter a further path.
    let context = CONTEXTS.get(current_task());
    // SAFETY: the context belongs to this task.
    (!context.is_null() && window.is_of(context) && unsafe { (*context).depth } > 0).then_some(context)
}

/// Makes a frame of a write that is not measured. By it the other points know: judging the task again and again costs more.
#[inline(always)]
unsafe fn ignore(frame: *mut Frame, stack: u64, path: u32) {
    // SAFETY: the caller passes a frame of its task's context.
    unsafe {
        clear(frame);
        (*frame).stack = stack;
        (*frame).inode = 0;
        (*frame).path = path;
        (*frame).flags = frame_flag::FILTERED;
    }
}

/// Clears what a frame adds up. Volatile: the compiler would make a loop over bytes of it, of 160 instructions.
#[inline(always)]
unsafe fn clear(frame: *mut Frame) {
    // SAFETY: the caller passes a frame of its task's context.
    unsafe {
        (&raw mut (*frame).start_ns).write_volatile(0);
        (&raw mut (*frame).iter_count).write_volatile(0);
        (&raw mut (*frame).inner_bytes).write_volatile(0);
        (&raw mut (*frame).copied).write_volatile(0);
        (&raw mut (*frame).prefaults).write_volatile(0);
        (&raw mut (*frame).copies).write_volatile(0);
        (&raw mut (*frame).inner_writes).write_volatile(0);
        (&raw mut (*frame).inner_copies).write_volatile(0);
    }
}

/// Drops frames whose return was not seen: a call made from inside them would be lower on the stack.
#[inline(always)]
fn drop_stale_frames<C: EbpfContext>(ctx: &C, context: *mut TaskContext, stack: u64) {
    for _ in 0..MAX_DEPTH {
        // SAFETY: the context belongs to this task.
        let depth = unsafe { (*context).depth };
        if depth == 0 {
            return;
        }
        let top = frame_at(context, depth - 1);
        // SAFETY: frames below `depth` are initialised.
        unsafe {
            if (*top).stack > stack {
                return;
            }
            lose_frame(top);
            (*context).depth = depth - 1;
            lose_pending(&mut *context);
        }
        warn!(ctx, "the return of a write path was not seen");
    }
}

/// Counts the writes of a frame whose return was not seen. A path that copies was a write by itself; what ran inside of it
/// may have been one of a later call, which the stale frame took in. A path around another one is the write inside of it.
#[inline(always)]
unsafe fn lose_frame(frame: *mut Frame) {
    // SAFETY: the caller passes an initialised frame.
    let (flags, inner_writes) = unsafe { ((*frame).flags, u64::from((*frame).inner_writes)) };
    if flags & frame_flag::INNER == 0 && flags & frame_flag::BUFFERED != 0 {
        let n_writes =
            if flags & frame_flag::COPIES == 0 && inner_writes > 0 { inner_writes } else { 1 + inner_writes };
        lose(Loss::WriteLeave, n_writes);
    }
}

/// A write path returns `result`: pops its frame and counts the write.
#[inline(always)]
pub fn leave(cookie: u64, result: i64) {
    let window = windows::now();
    if window.is_shut() {
        return;
    }
    let early = clock::early();
    let context = CONTEXTS.get(current_task());
    if context.is_null() || !window.is_of(context) {
        // Between windows, writes are not ours.
        if config!(windows) == 0 && cookie & COOKIE_COPIES != 0 && measures_task() {
            lose(Loss::BeforeStart, 1);
        }
        return;
    }
    match pop(context, cookie) {
        // SAFETY: the frame is in this task's context and was initialised by `enter`.
        Some(frame) => count(context, unsafe { &mut *frame }, result, early),
        None if cookie & COOKIE_COPIES != 0 => take_in_unseen(context, result),
        None => {}
    }
    CONTEXTS.release(context);
}

/// Counts a write path's call, and the write if it is a whole one.
#[inline(always)]
fn count(context: *mut TaskContext, frame: &mut Frame, result: i64, early: u64) {
    let now = clock::end_of(frame, early);
    if frame.flags & frame_flag::FILTERED != 0 {
        return;
    }
    let Some(ledger) = ledger_of(frame.slot) else { return };
    count_path(path_of(ledger, frame.path), frame);
    let mut taken = if frame.flags & frame_flag::COPIES == 0 {
        frame.inner_bytes
    } else if result == QUEUED {
        frame.copied
    } else {
        result.max(0) as u64
    };
    if frame.flags & frame_flag::DIRECT != 0 {
        // The rest went past the page cache.
        taken = taken.min(frame.copied);
    }
    if frame.flags & frame_flag::INNER != 0 {
        // SAFETY: an inner frame has one below it, and `pop` has left `depth` at its number.
        unsafe { merge(&mut *frame_at(context, (*context).depth.wrapping_sub(1)), frame, taken) };
        return;
    }
    if frame.flags & frame_flag::BUFFERED == 0 {
        return;
    }
    if taken > frame.copied {
        lose(Loss::UncopiedBytes, taken - frame.copied);
    }
    // SAFETY: the ledger is a live map value.
    let write = unsafe { &raw mut (*ledger).operations.write };
    count_write(write, frame, taken, now);
    if result < 0 && result != QUEUED {
        count_error(write, result);
    } else {
        count_bytes(write, frame, taken);
    }
}

/// Pops the frame of the path in `cookie` and those above it, whose returns were not seen. If the path's entry was not seen,
/// the frames of others stay as they are.
#[inline(always)]
fn pop(context: *mut TaskContext, cookie: u64) -> Option<*mut Frame> {
    // SAFETY: the context belongs to this task, and frames below `depth` are initialised.
    unsafe {
        lose_pending(&mut *context);
        let depth = (*context).depth;
        if depth == 0 {
            return None;
        }
        let top = frame_at(context, depth - 1);
        if (*top).path == cookie as u32 || cookie == COOKIE_OF_LAST_ENTRY {
            (*context).depth = depth - 1;
            return Some(top);
        }
        if !has_frame_of(context, cookie) {
            return None;
        }
        for _ in 0..MAX_DEPTH {
            if (*context).depth == 0 {
                return None;
            }
            (*context).depth -= 1;
            let top = frame_at(context, (*context).depth);
            if (*top).path == cookie as u32 {
                return Some(top);
            }
            if (*top).flags & frame_flag::INNER != 0 {
                merge(&mut *frame_at(context, (*context).depth.wrapping_sub(1)), &*top, (*top).copied);
            } else {
                lose_frame(top);
            }
        }
    }
    None
}

#[inline(always)]
unsafe fn has_frame_of(context: *mut TaskContext, cookie: u64) -> bool {
    // SAFETY: the caller's context belongs to this task.
    let depth = unsafe { (*context).depth };
    let mut found = false;
    for index in 0..MAX_DEPTH as u32 {
        // SAFETY: frames below `depth` are initialised, and the others are part of the context.
        found |= index < depth && unsafe { (*frame_at(context, index)).path } == cookie as u32;
    }
    found
}

/// A path that copies returns `result`, but its entry was not seen: it is the write of the path around it if there is one
/// that does not copy, whose frame has counted its operations; else it is lost.
#[inline(always)]
fn take_in_unseen(context: *mut TaskContext, result: i64) {
    // SAFETY: the context belongs to this task, and frames below `depth` are initialised.
    unsafe {
        if (*context).depth > 0 {
            let top = frame_at(context, (*context).depth - 1);
            if (*top).flags & frame_flag::COPIES == 0 {
                (*top).inner_bytes += result.max(0) as u64;
                (*top).inner_writes += 1;
                (*top).flags |= frame_flag::BUFFERED;
                return;
            }
        }
    }
    // It may be one that began between windows.
    if config!(windows) == 0 && measures_task() {
        lose(Loss::WriteEnter, 1);
    }
}

/// Makes an inner frame's work part of the frame that called it.
#[inline(always)]
fn merge(outer: &mut Frame, inner: &Frame, taken: u64) {
    outer.inner_bytes += taken;
    outer.copied += inner.copied;
    outer.inner_writes += 1;
    outer.inner_copies += inner.copies + inner.inner_copies;
    if outer.iter_count == 0 {
        outer.iter_count = inner.iter_count;
    }
    outer.flags |= inner.flags & (frame_flag::BUFFERED | frame_flag::SOURCE_KNOWN | frame_flag::FROM_KERNEL);
}
