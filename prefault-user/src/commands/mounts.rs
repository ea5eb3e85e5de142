//! Mount tables: of this process, and of the host.

use std::path::Path;

use anyhow::{Context as _, Result};
use procfs::process::{MountInfo, Process};

/// The process whose mounts are the host's.
const HOST: i32 = 1;

/// All mounts that this process sees.
///
/// # Errors
/// If /proc/self/mountinfo cannot be read.
pub fn mounts() -> Result<Vec<MountInfo>> {
    let mounts = Process::myself().and_then(|process| process.mountinfo()).context("failed to read the mounts")?;
    Ok(mounts.into_iter().collect())
}

/// All mounts of process 1, which sees those of the host, and then those of this process: a service or a container has a
/// table of its own, in which filesystems are missing or are at other places. Only the latter if /proc hides process 1.
///
/// # Errors
/// If /proc/self/mountinfo cannot be read.
pub fn host_mounts() -> Result<Vec<MountInfo>> {
    let of_host = Process::new(HOST).and_then(|process| process.mountinfo());
    let mut all: Vec<MountInfo> = of_host.map(|mounts| mounts.into_iter().collect()).unwrap_or_default();
    all.extend(mounts()?);
    Ok(all)
}

/// The mount that is seen at `path`, which is absolute and without links: of mounts over one another the last.
pub fn mount_of<'a>(mounts: &'a [MountInfo], path: &Path) -> Option<&'a MountInfo> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.mount_point))
        .max_by_key(|mount| (mount.mount_point.components().count(), mount.mnt_id))
}
