//! The arguments of an operation as they are at its call, for kernels without cookies, where the point is the call itself.

use aya_ebpf::programs::ProbeContext;

use crate::{
    context::{Pending, UNKNOWN},
    maps::config,
};

/// Bytes asked for, and the iterator.
#[inline(always)]
pub fn arguments_of(ctx: &ProbeContext, operation: Pending) -> (u64, u64) {
    // Volatile: choosing the register to load from would be arithmetic on the context, which the verifier refuses.
    // SAFETY: the registers of a kprobe are readable.
    let [first, second, third, fourth] = unsafe {
        let regs = ctx.regs;
        [&raw const (*regs).rdi, &raw const (*regs).rsi, &raw const (*regs).rdx, &raw const (*regs).rcx]
            .map(|register| register.read_volatile())
    };
    match operation {
        // fault_in_iov_iter_readable(i, bytes) and iov_iter_fault_in_readable(i, bytes)
        Pending::Prefault | Pending::Nothing => (second, first),
        Pending::Copy => (
            if config!(copy_bytes_argument) == 2 { third } else { fourth },
            if config!(copy_iter_argument) == 3 { fourth } else { second },
        ),
    }
}

/// Behind a call that is probed itself, nothing is known; no operation has one point there.
#[inline(always)]
pub fn arguments_behind(_ctx: &ProbeContext, _operation: Pending) -> (u64, u64) {
    (UNKNOWN, 0)
}

/// Nothing is only known behind a call that is probed itself.
#[inline(always)]
pub fn asked_behind(_ctx: &ProbeContext) -> u64 {
    UNKNOWN
}

/// Not known without cookies.
#[inline(always)]
pub fn is_shared(_ctx: &ProbeContext) -> bool {
    false
}
