//! The VM laboratory: stock Debian kernels under QEMU's software emulation, with one root filesystem for all of them. A
//! guest runs one command and can change nothing on the host but the directory shared with it.
//!
//! One phase per file: `kernels` (by release, as `pins` says), `root` and `emulator` fetch and unpack (the last two by `tree`),
//! `modules` and `initramfs` make what the kernel starts from, `qemu` describes the machine, `machine` runs it, `stepper` follows
//! it, `verdict` says how it ended, `cli` is the command line.

pub mod cli;
mod emulator;
pub mod initramfs;
pub mod kernels;
pub mod machine;
pub mod modules;
pub mod pins;
mod qemu;
pub mod root;
pub mod stepper;
mod tree;
pub mod verdict;

pub use kernels::{Series, Unavailable};
pub use machine::{Finished, Machine, Streams};
pub use verdict::Outcome;
