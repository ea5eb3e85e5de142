//! What is counted of a call: the counters of `prefault_ebpf::counters`, in the order of that table.
//!
//! Writes and paths are counted by fentry and fexit programs too, which other tasks may interrupt; prefaults and copies by kprobe
//! programs, which nothing interrupts that writes the same counters.

use prefault_ebpf::{CopyLedger, Histogram, PathLedger, PrefaultLedger, WriteLedger, bucket_of, rounds_bucket_of};

use crate::{
    clock,
    context::{Frame, TaskContext, frame_flag},
    loss::{add, add_preemptible},
};

/// Counts a call of a write path.
#[inline(always)]
pub fn count_path(ledger: *mut PathLedger, frame: &Frame) {
    // SAFETY: the ledger is a live map value.
    unsafe {
        add_preemptible(&raw mut (*ledger).calls, 1);
        add_preemptible(&raw mut (*ledger).prefaults, u64::from(frame.prefaults));
        add_preemptible(&raw mut (*ledger).copies, u64::from(frame.copies));
        if frame.flags & frame_flag::EAGER != 0 {
            add_preemptible(&raw mut (*ledger).eager, 1);
        } else if frame.flags & frame_flag::COPIED != 0 {
            add_preemptible(&raw mut (*ledger).on_demand, 1);
        }
    }
}

/// Counts a write that has ended.
#[inline(always)]
pub fn count_write(write: *mut WriteLedger, frame: &Frame, bytes: u64, now: u64) {
    let rounds = frame.copies + frame.inner_copies;
    // SAFETY: the ledger is a live map value; the buckets are below N_BUCKETS and N_ROUND_BUCKETS.
    unsafe {
        add_preemptible(&raw mut (*write).calls, 1);
        add_preemptible(&raw mut (*write).bytes, bytes);
        add_preemptible(&raw mut (*write).rounds.sum, u64::from(rounds));
        let rounds_buckets = (&raw mut (*write).rounds.counts).cast::<u64>();
        add_preemptible(rounds_buckets.add(rounds_bucket_of(rounds)), 1);
        if frame.flags & frame_flag::DIRECT != 0 {
            add_preemptible(&raw mut (*write).direct, 1);
        }
        if frame.flags & frame_flag::FROM_KERNEL != 0 {
            add_preemptible(&raw mut (*write).kernel_calls, 1);
            return;
        }
        if !clock::is_timed(frame) {
            return;
        }
        let ns = clock::between(frame.start_ns, now);
        add_preemptible(&raw mut (*write).latency.sum_ns, ns);
        let buckets = (&raw mut (*write).latency.counts).cast::<u64>();
        add_preemptible(buckets.add(bucket_of(ns)), 1);
    }
}

/// Counts a write that returned this error (include/uapi/asm-generic/errno-base.h, errno.h; include/linux/errno.h).
#[inline(always)]
pub fn count_error(write: *mut WriteLedger, error: i64) {
    // SAFETY: the ledger is a live map value.
    unsafe {
        let class = match -error {
            // EAGAIN: whoever asked not to wait tries again.
            11 => return add_preemptible(&raw mut (*write).error_again, 1),
            // EINTR, ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK
            4 | 512..=514 | 516 => &raw mut (*write).error_interrupted,
            // EFAULT
            14 => &raw mut (*write).error_fault,
            // ENOSPC, EDQUOT
            28 | 122 => &raw mut (*write).error_no_space,
            // EIO
            5 => &raw mut (*write).error_io,
            _ => &raw mut (*write).error_other,
        };
        add_preemptible(class, 1);
        add_preemptible(&raw mut (*write).errors, 1);
    }
}

/// Counts what became of the bytes of a write that returned no error.
#[inline(always)]
pub fn count_bytes(write: *mut WriteLedger, frame: &Frame, bytes: u64) {
    // SAFETY: the ledger is a live map value.
    unsafe {
        if bytes < frame.iter_count {
            add_preemptible(&raw mut (*write).short, 1);
        }
        if bytes < frame.copied {
            add_preemptible(&raw mut (*write).bytes_recopied, frame.copied - bytes);
        }
    }
}

/// Counts a prefault that left so many bytes `unfaulted` and took so many faults.
#[inline(always)]
pub fn count_prefault(
    ledger: *mut PrefaultLedger,
    context: &TaskContext,
    frame: &Frame,
    unfaulted: u64,
    (minor, major): (u64, u64),
    now: u64,
) {
    // SAFETY: the ledger is a live map value of this CPU, and kprobe programs are not preempted.
    unsafe {
        add(&raw mut (*ledger).calls, 1);
        add(&raw mut (*ledger).bytes, context.asked);
        if unfaulted > 0 {
            let failed = if unfaulted == context.asked {
                &raw mut (*ledger).failed_wholly
            } else {
                &raw mut (*ledger).failed_partly
            };
            add(failed, 1);
        }
        let mut latency = &raw mut (*ledger).latency_not_needed;
        if minor | major != 0 {
            latency = &raw mut (*ledger).latency_needed;
            let needed = if major == 0 { &raw mut (*ledger).needed_minor } else { &raw mut (*ledger).needed_major };
            add(needed, 1);
            add(&raw mut (*ledger).minor_faults, minor);
            add(&raw mut (*ledger).major_faults, major);
        }
        if frame.flags & frame_flag::FROM_KERNEL != 0 {
            add(&raw mut (*ledger).kernel_calls, 1);
        } else if clock::is_timed(frame) {
            count_latency(latency, clock::between(context.start_ns, now));
        }
    }
}

/// Counts a copy of so many bytes.
#[inline(always)]
pub fn count_copy(ledger: *mut CopyLedger, context: &TaskContext, frame: &Frame, copied: u64, now: u64) {
    // SAFETY: the ledger is a live map value of this CPU, and kprobe programs are not preempted.
    unsafe {
        add(&raw mut (*ledger).calls, 1);
        add(&raw mut (*ledger).bytes_asked, context.asked);
        add(&raw mut (*ledger).bytes_copied, copied);
        if copied < context.asked {
            add(if copied == 0 { &raw mut (*ledger).zero } else { &raw mut (*ledger).partial }, 1);
            if frame.flags & frame_flag::FAULTED_IN != 0 {
                add(&raw mut (*ledger).short_after_prefault, 1);
            }
        }
        if frame.flags & frame_flag::FROM_KERNEL != 0 {
            add(&raw mut (*ledger).kernel_calls, 1);
            add(&raw mut (*ledger).kernel_bytes, copied);
        } else if clock::is_timed(frame) {
            count_latency(&raw mut (*ledger).latency, clock::between(context.start_ns, now));
        }
    }
}

#[inline(always)]
unsafe fn count_latency(latency: *mut Histogram, ns: u64) {
    // SAFETY: the caller passes a live map value; the bucket is below N_BUCKETS.
    unsafe {
        add(&raw mut (*latency).sum_ns, ns);
        add((&raw mut (*latency).counts).cast::<u64>().add(bucket_of(ns)), 1);
    }
}
