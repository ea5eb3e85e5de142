//! x86-64. It stores in the order of the program, so that what is written last, and volatile, is seen last by others
//! (`slots.rs`, which describes a slot so).

#[cfg_attr(feature = "legacy", path = "registers_legacy.rs")]
mod registers;

pub use self::registers::{arguments_behind, arguments_of, asked_behind, is_shared};

/// `O_DIRECT` (include/uapi/asm-generic/fcntl.h).
pub const O_DIRECT: u32 = 0o40000;
