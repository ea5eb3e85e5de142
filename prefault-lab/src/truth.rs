//! What the workload says it did, read on its own terms.

use std::path::PathBuf;

use serde::Deserialize;

/// What was done to one target.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Truth {
    /// The directory, file or device.
    pub target: PathBuf,
    /// Calls of a write system call.
    pub writes: u64,
    /// Those whose data came from the kernel's memory.
    pub kernel_writes: u64,
    /// Bytes they returned.
    pub bytes: u64,
    /// Calls that failed as they were meant to.
    pub errors: u64,
    /// Pages that were not resident when a write was to read them, and could be made so.
    pub absent_pages: u64,
    /// Why not everything could be written.
    pub failure: Option<String>,
}
