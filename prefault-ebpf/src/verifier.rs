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

/// The same value, of which the compiler knows nothing: what was chosen before is chosen. Else it may test a value that was not read
/// and throw the result away, which the verifier refuses (`R2 !read_ok`, seen on 5.10 and 6.1).
#[inline(always)]
pub fn opaque(mut value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the register stays as it is.
    unsafe {
        core::arch::asm!("/* {value} */", value = inout(reg) value, options(pure, nomem, nostack));
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        value = core::hint::black_box(value);
    }
    value
}
