//! Messages of the programs, which userspace passes on with --verbose.

pub use aya_log_ebpf::{info, warn};
