//! What the verifier has to be told because the compiler does not.

/// `value & MASK`, where `value` is known not to exceed it.
///
/// The compiler knows it too and would leave the mask out, or write a sum as an `or`; the verifier of 6.1 forgets every
/// bound at an `or`, and that of 5.10 at a value that went through memory.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn masked<const MASK: usize>(value: usize) -> usize {
    let mut value = value;
    // SAFETY: one instruction on one register, which does not change its value.
    unsafe { core::arch::asm!("{value} &= {mask}", value = inout(reg) value, mask = const MASK) };
    value
}

/// `value`: on the host nobody has to be told.
#[cfg(not(target_arch = "bpf"))]
pub fn masked<const MASK: usize>(value: usize) -> usize {
    value
}
