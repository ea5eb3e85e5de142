//! What depends on the processor of the kernel that is measured: its registers, and a few numbers. A further one is a folder beside
//! `x86_64`.

#[cfg(not(bpf_target_arch = "x86_64"))]
compile_error!("the BPF programs are for x86-64 only: arch has no folder for this processor yet");

#[cfg(bpf_target_arch = "x86_64")]
mod x86_64;

#[cfg(bpf_target_arch = "x86_64")]
pub use self::x86_64::*;
