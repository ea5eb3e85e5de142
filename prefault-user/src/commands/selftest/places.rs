//! Where the self-test writes: the folders that were named, or one on each local filesystem.

use std::{
    collections::HashSet,
    ffi::CString,
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::host::mounts::{Mount, mount_of, mounts, seen_at};

/// Free space that a filesystem needs to have.
const NEEDED_BYTES: u64 = 256 << 20;

/// Filesystem types that are not on this host: their servers may be slow, shared, or gone.
const NETWORK: [&str; 8] = ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "glusterfs"];

/// A folder to write to.
pub struct Place {
    /// The folder.
    pub folder: PathBuf,
    fstype: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} ({})", self.folder.display(), self.fstype))
    }
}

/// The folders, and what was left out.
#[derive(Default)]
pub struct Chosen {
    /// Folders to write to.
    pub places: Vec<Place>,
    /// Filesystems that are left out, with the reason.
    pub refused: Vec<String>,
}

/// Chooses the folders: those that are `named`, or one on each local filesystem.
///
/// # Errors
/// If a named one cannot be written to, or the mounts cannot be read.
pub fn places(named: &[PathBuf]) -> Result<Chosen> {
    let mut chosen = Chosen::default();
    for folder in named {
        let folder = folder.canonicalize().with_context(|| format!("failed to look at {}", folder.display()))?;
        ensure!(folder.is_dir(), "{} is not a folder: name the folder to write to", folder.display());
        if let Err(why) = is_writable(&folder) {
            anyhow::bail!("{} cannot be tested: {why}", folder.display());
        }
        let fstype = mount_of(&folder).map_or_else(|_| "?".to_owned(), |mount| mount.fstype);
        chosen.places.push(Place { folder, fstype });
    }
    if named.is_empty() {
        choose_local(&mounts()?, &mut chosen);
    }
    Ok(chosen)
}

fn choose_local(mounts: &[Mount], chosen: &mut Chosen) {
    let mut seen = HashSet::new();
    for mount in mounts {
        let visible = seen_at(mounts, &mount.mount_point).is_some_and(|top| top.id == mount.id);
        let stores = mount.source.as_encoded_bytes().starts_with(b"/")
            || ["tmpfs", "btrfs", "overlay", "bcachefs", "zfs"].contains(&&*mount.fstype);
        let remote = NETWORK.contains(&&*mount.fstype) || mount.fstype.starts_with("fuse");
        if !visible || !(stores || remote) || !mount.mount_point.is_dir() || !seen.insert(mount.device) {
            continue;
        }
        let place = mount.mount_point.display();
        if remote {
            chosen.refused.push(format!("{place} ({}) may not be local: name it to test it", mount.fstype));
        } else if let Err(why) = is_writable(&mount.mount_point) {
            chosen.refused.push(format!("{place} ({}): {why}", mount.fstype));
        } else {
            chosen.places.push(Place { folder: mount.mount_point.clone(), fstype: mount.fstype.clone() });
        }
    }
}

/// Whether there is room and permission to write below `folder`; if not, why.
fn is_writable(folder: &Path) -> Result<(), String> {
    let name = CString::new(folder.as_os_str().as_encoded_bytes()).map_err(|_| "its name holds a NUL".to_owned())?;
    // SAFETY: the structure is made of integers, which the call fills.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the name ends with a NUL and the structure lives through the call.
    if unsafe { libc::statvfs(name.as_ptr(), &raw mut stat) } != 0 {
        return Err(std::io::Error::last_os_error().to_string());
    }
    if stat.f_flag & libc::ST_RDONLY != 0 {
        return Err("it is mounted read-only".to_owned());
    }
    let free = stat.f_bavail * stat.f_frsize;
    // A tmpfs without a limit says 0 of 0.
    if stat.f_blocks != 0 && free < NEEDED_BYTES {
        return Err(format!("only {} MiB are free, and it needs {}", free >> 20, NEEDED_BYTES >> 20));
    }
    Ok(())
}
