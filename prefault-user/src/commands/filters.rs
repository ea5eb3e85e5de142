//! From what was typed to which writes are measured: names of devices and mounts become device numbers.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::mounts::{host_mounts, mount_of, mounts};
use crate::{
    cli::FilterArgs,
    probe::{environment::has_process_ids_of_host, filters::Filters},
};

/// Reads the filters out of what was `typed`; `has_command` says that a command will be started.
///
/// # Errors
/// If a process, cgroup, device or mount does not exist, or `--follow` has nobody to follow.
pub fn filters(typed: &FilterArgs, has_command: bool) -> Result<Filters> {
    if typed.follow || !typed.pids.is_empty() {
        ensure_process_ids("--pid and --follow")?;
    }
    for &pid in &typed.pids {
        ensure!(Path::new(&format!("/proc/{pid}")).exists(), "there is no process {pid}: look it up with ps or pgrep");
    }
    if typed.follow && typed.pids.is_empty() && !has_command {
        bail!("--follow has nobody to follow: give a process with --pid, or a command after --");
    }
    let mut devices = Vec::new();
    for device in &typed.devices {
        devices.extend(devices_named(device)?);
    }
    for path in &typed.mounts {
        devices.push(device_of_mount(path)?);
    }
    Ok(Filters {
        processes: typed.pids.clone(),
        follow: typed.follow,
        comms: typed.comms.clone(),
        cgroup: typed.cgroup.clone(),
        fstypes: typed.fstypes.clone(),
        devices,
    })
}

/// Demands that processes can be told apart, which `what` has to.
///
/// # Errors
/// If they have other numbers here than in the kernel.
pub fn ensure_process_ids(what: &str) -> Result<()> {
    ensure!(
        has_process_ids_of_host(),
        "{what} would measure other processes: here they have other numbers than in the kernel. Run prefault in the host's PID \
         namespace (podman run --pid=host, in Kubernetes hostPID: true)"
    );
    Ok(())
}

/// Device numbers that `device` stands for: its own, and that of a filesystem on it which has another (btrfs).
fn devices_named(device: &str) -> Result<Vec<u32>> {
    if let Some(number) = parse_number(device) {
        return Ok(vec![number]);
    }
    let path = if device.contains('/') { device.into() } else { format!("/dev/{device}") };
    let metadata = fs::metadata(&path).with_context(|| format!("failed to look at the device {path}"))?;
    ensure!(metadata.file_type().is_block_device(), "{path} is not a block device: give one, or MAJOR:MINOR");
    let mut devices = vec![kernel_number(libc::major(metadata.rdev()), libc::minor(metadata.rdev()))];
    let canonical = fs::canonicalize(&path)?;
    for mount in host_mounts()? {
        let source = mount.mount_source.as_deref().and_then(|source| fs::canonicalize(source).ok());
        if source.as_deref() == Some(&canonical) {
            devices.extend(parse_number(&mount.majmin));
        }
    }
    devices.sort_unstable();
    devices.dedup();
    Ok(devices)
}

/// Device number of the filesystem that holds `path`, from the mount table: stat(2) gives another one on btrfs.
fn device_of_mount(path: &Path) -> Result<u32> {
    let canonical = fs::canonicalize(path).with_context(|| format!("failed to look at {}", path.display()))?;
    let mounts = mounts()?;
    let mount = mount_of(&mounts, &canonical)
        .with_context(|| format!("{} is on no mount of /proc/self/mountinfo", path.display()))?;
    ensure!(
        mount.fs_type != "overlay",
        "{} is on an overlay, whose writes go to the filesystem of its upper folder: give a path on that one",
        path.display()
    );
    parse_number(&mount.majmin).with_context(|| format!("unexpected device number {} in mountinfo", mount.majmin))
}

/// `8:1` as the kernel's `dev_t`.
fn parse_number(text: &str) -> Option<u32> {
    let (major, minor) = text.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    (major < 1 << 12 && minor < 1 << 20).then(|| kernel_number(major, minor))
}

fn kernel_number(major: u32, minor: u32) -> u32 {
    major << 20 | minor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_read() {
        let cases = [("8:1", Some(0x80_0001)), ("0:45", Some(45)), ("8", None), ("a:1", None), ("4096:0", None)];
        for (text, expected) in cases {
            assert_eq!(parse_number(text), expected, "{text}");
        }
    }
}
