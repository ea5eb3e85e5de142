//! Everything about instructions and names that depends on the processor. A further one is a folder beside `x86_64`.

#[cfg(not(target_arch = "x86_64"))]
compile_error!("prefault measures on x86-64 only: sites/arch has no folder for this processor yet");

mod x86_64;

/// System calls that do nothing when called with zeros, in the beginning of which the floor is measured: function and number.
pub use self::x86_64::IDLE_SYSCALLS;
/// The instruction set of the kernels that are measured here, as the tool is built.
pub use self::x86_64::X86_64 as Native;
