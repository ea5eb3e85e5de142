//! Loss accounting: nothing is missed without being counted.

use core::arch::asm;

use prefault_ebpf::Loss;

use crate::maps::losses;

/// Counts `n` losses of one kind.
#[inline(always)]
pub fn lose(loss: Loss, n: u64) {
    if let Some(losses) = losses() {
        // SAFETY: the index is below N_LOSSES by type.
        add_preemptible(unsafe { losses.cast::<u64>().add(loss as usize) }, n);
    }
}

/// Adds to a counter from a program that another task's may interrupt: fentry and fexit programs stay on their CPU but
/// can be preempted, so that load, add and store could drop what came in between.
///
/// Written out because the target has no atomic operations in core; this form, which returns nothing, is as old as BPF.
#[inline(always)]
pub fn add_preemptible(counter: *mut u64, n: u64) {
    // SAFETY: the counter is in a live map value, aligned to 8 by its type.
    unsafe { asm!("lock *(u64 *)({counter} + 0) += {n}", counter = in(reg) counter, n = in(reg) n) };
}

/// Adds to a counter from a kprobe program, which nothing that writes the same counter can interrupt.
#[inline(always)]
pub fn add(counter: *mut u64, n: u64) {
    // SAFETY: the counter is in a live map value, aligned to 8 by its type.
    unsafe { *counter += n };
}
