//! The mount table of this process.

use std::path::Path;

use anyhow::{Context as _, Result};
use procfs::process::{MountInfo, Process};

/// All mounts that this process sees.
///
/// # Errors
/// If /proc/self/mountinfo cannot be read.
pub fn mounts() -> Result<Vec<MountInfo>> {
    let mounts = Process::myself().and_then(|process| process.mountinfo()).context("failed to read the mounts")?;
    Ok(mounts.into_iter().collect())
}

/// The mount that is seen at `path`, which is absolute and without links: of mounts over one another the last.
pub fn mount_of<'a>(mounts: &'a [MountInfo], path: &Path) -> Option<&'a MountInfo> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.mount_point))
        .max_by_key(|mount| (mount.mount_point.components().count(), mount.mnt_id))
}
