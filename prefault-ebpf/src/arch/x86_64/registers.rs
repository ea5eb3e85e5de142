//! The arguments of an operation, from the registers that userspace names in the cookie of the point.

use core::arch::asm;

use aya_ebpf::{bindings::pt_regs, programs::ProbeContext};
use prefault_ebpf::{COOKIE_SHARED, HELD_BY_STACK};

use crate::{
    context::{Pending, UNKNOWN},
    memory::{Memory, Untyped, word_at},
    tasks::cookie_of,
};

/// Loads a register of `struct pt_regs` (arch/x86/include/asm/ptrace.h).
///
/// Written out, because the compiler would first choose the address and then load, and arithmetic on the context is what the
/// verifier refuses.
macro_rules! load {
    ($regs:ident, $offset:literal) => {{
        let value: u64;
        // SAFETY: the registers of a kprobe are readable.
        unsafe {
            asm!("{value} = *(u64 *)({regs} + {offset})", value = out(reg) value, regs = in(reg) $regs,
                 offset = const $offset, options(pure, readonly, nostack));
        }
        value
    }};
}

/// Bytes asked for, and the iterator, at the point before a call.
#[inline(always)]
pub fn arguments_of(ctx: &ProbeContext, _operation: Pending) -> (u64, u64) {
    // Few are on the stack there, and giving a pointer a type takes registers from what comes after it, always.
    held_both(ctx, |address| Untyped::read(address as *const u8, 0))
}

/// The same at the only point, behind the call.
#[inline(always)]
pub fn arguments_behind(ctx: &ProbeContext, _operation: Pending) -> (u64, u64) {
    held_both(ctx, word_at)
}

#[inline(always)]
fn held_both(ctx: &ProbeContext, word: fn(u64) -> Option<u64>) -> (u64, u64) {
    let cookie = cookie_of(ctx, None);
    (held(ctx.regs, cookie & 31, word), held(ctx.regs, cookie >> 5 & 31, word))
}

/// Bytes asked for, at the point behind a call, if they are only known there.
#[inline(always)]
pub fn asked_behind(ctx: &ProbeContext) -> u64 {
    register(ctx.regs, cookie_of(ctx, None) & 15)
}

/// Whether others come to the point behind a call, who have not called.
#[inline(always)]
pub fn is_shared(ctx: &ProbeContext) -> bool {
    cookie_of(ctx, None) & COOKIE_SHARED != 0
}

#[inline(always)]
fn held(regs: *mut pt_regs, by: u64, word: fn(u64) -> Option<u64>) -> u64 {
    if by & HELD_BY_STACK == 0 {
        return register(regs, by);
    }
    let stack: u64 = load!(regs, 152);
    word(stack + (by & 15) * 8).unwrap_or(0)
}

/// Register `number` in the encoding of instructions. The stack pointer holds no argument: it says that it is unknown.
#[inline(always)]
fn register(regs: *mut pt_regs, number: u64) -> u64 {
    match number {
        0 => load!(regs, 80),
        1 => load!(regs, 88),
        2 => load!(regs, 96),
        3 => load!(regs, 40),
        5 => load!(regs, 32),
        6 => load!(regs, 104),
        7 => load!(regs, 112),
        8 => load!(regs, 72),
        9 => load!(regs, 64),
        10 => load!(regs, 56),
        11 => load!(regs, 48),
        12 => load!(regs, 24),
        13 => load!(regs, 16),
        14 => load!(regs, 8),
        15 => load!(regs, 0),
        _ => UNKNOWN,
    }
}
