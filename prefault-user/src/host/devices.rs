//! Devices as typed: the numbers of the filesystems on them.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};

use super::mounts::{Mount, device_number, host_mounts, kernel_number, known_types};

/// Block devices by number, and btrfs filesystems with all devices of each.
const BLOCK: &str = "/sys/dev/block";
const BTRFS: &str = "/sys/fs/btrfs";

/// Partitions of partitions do not exist, but a volume may be on one that is on one.
const MOST_LAYERS: u32 = 16;

/// What a device stands for.
#[derive(Debug, PartialEq, Eq)]
pub struct Devices {
    /// Its own number, and those of filesystems on it which have another (btrfs).
    pub numbers: Vec<u32>,
    /// What is to be said about it, if anything.
    pub remark: Option<String>,
}

/// Device numbers that `device` stands for, a path, the name of a device, or MAJOR:MINOR.
///
/// # Errors
/// If it is no block device, or the mounts cannot be read.
pub fn devices_named(device: &str) -> Result<Devices> {
    let own = match device_number(device) {
        Some(number) => number,
        None => number_of(device)?,
    };
    let on_block_devices = known_types()?.into_iter().filter(|(_, on_block_device)| *on_block_device);
    let types: Vec<String> = on_block_devices.map(|(name, _)| name).collect();
    let mounts = host_mounts()?;
    let mut numbers = of_filesystems(own, &mounts, &types);
    let remark = numbers
        .is_empty()
        .then(|| format!("--device {device}: nothing is mounted from it now{}", instead(own, &mounts, &types)));
    numbers.push(own);
    numbers.sort_unstable();
    numbers.dedup();
    Ok(Devices { numbers, remark })
}

/// The number of the block device called `device`.
fn number_of(device: &str) -> Result<u32> {
    let path = if device.contains('/') { device.into() } else { format!("/dev/{device}") };
    let metadata = fs::metadata(&path).with_context(|| format!("failed to look at the device {path}"))?;
    let hint = if metadata.is_dir() { " (for the filesystem that holds a folder: --mount)" } else { "" };
    ensure!(metadata.file_type().is_block_device(), "{path} is not a block device: give one, or MAJOR:MINOR{hint}");
    Ok(rdev(&metadata))
}

fn rdev(metadata: &fs::Metadata) -> u32 {
    kernel_number(libc::major(metadata.rdev()), libc::minor(metadata.rdev()))
}

/// Numbers of the mounted filesystems that are on device `own`, alone or among others.
///
/// Sources are compared by the number of the device that they name, and only of types that are on devices: those of others may
/// say anything, and any user can choose what (FUSE).
fn of_filesystems(own: u32, mounts: &[Mount], types: &[String]) -> Vec<u32> {
    let together = devices_of_same_filesystem(own);
    let is_of = |source: &Path| {
        let metadata = fs::metadata(source);
        metadata.is_ok_and(|data| data.file_type().is_block_device() && together.contains(&rdev(&data)))
    };
    let is_on = |mount: &&Mount| {
        let is_on_devices = types.iter().any(|name| name == mount.main_type());
        let source = Path::new(&mount.source);
        mount.device == own || is_on_devices && (is_of(source) || parts(source).iter().any(|part| is_of(part)))
    };
    mounts.iter().filter(is_on).map(|mount| mount.device).collect()
}

/// The devices that a source names which names several, as that of bcachefs does (`/dev/sda:/dev/sdb`).
fn parts(source: &Path) -> Vec<&Path> {
    let Some(source) = source.to_str() else { return Vec::new() };
    let parts: Vec<&str> = source.split(':').collect();
    let are_devices = parts.len() > 1 && parts.iter().all(|part| part.starts_with("/dev/"));
    if are_devices { parts.into_iter().map(Path::new).collect() } else { Vec::new() }
}

/// Numbers of all devices of the btrfs that `own` belongs to, of which a mount names one; `own` alone if it belongs to none.
fn devices_of_same_filesystem(own: u32) -> BTreeSet<u32> {
    let filesystems = fs::read_dir(BTRFS).into_iter().flatten().flatten();
    let devices = |filesystem: fs::DirEntry| numbers_below(&filesystem.path().join("devices"));
    let with_own = |devices: &BTreeSet<u32>| devices.contains(&own);
    filesystems.map(devices).find(with_own).unwrap_or_else(|| BTreeSet::from([own]))
}

/// Numbers of the devices in a folder of sysfs.
fn numbers_below(folder: &Path) -> BTreeSet<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| device_number(&fs::read_to_string(entry.path().join("dev")).ok()?)).collect()
}

/// What can be done about a device from which nothing is mounted.
fn instead(own: u32, mounts: &[Mount], types: &[String]) -> String {
    let folder = sysfs_folder(own);
    if !folder.exists() {
        return ", and no block device has that number".to_owned();
    }
    let above = devices_above(own, MOST_LAYERS);
    let mounted = above.into_iter().filter(|&device| !of_filesystems(device, mounts, types).is_empty());
    let mounted: Vec<String> = mounted.map(name_of).collect();
    let only = "Only writes to the device itself are counted";
    if mounted.is_empty() {
        format!(". {only}, and to what is mounted from it later unless it is a btrfs")
    } else {
        format!(", but from what is on it: give {}. {only}", mounted.join(", "))
    }
}

fn sysfs_folder(device: u32) -> std::path::PathBuf {
    Path::new(BLOCK).join(format!("{}:{}", device >> 20, device & 0xf_ffff))
}

/// Numbers of partitions of a device, and of devices that are made of it or of these (device mapper, md).
fn devices_above(device: u32, n_layers: u32) -> BTreeSet<u32> {
    let folder = sysfs_folder(device);
    let is_partition = |entry: &fs::DirEntry| entry.path().join("partition").exists();
    let number = |entry: fs::DirEntry| device_number(&fs::read_to_string(entry.path().join("dev")).ok()?);
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut above: BTreeSet<u32> = entries.filter(is_partition).filter_map(number).collect();
    above.extend(numbers_below(&folder.join("holders")));
    if n_layers > 0 {
        let further: Vec<u32> = above.iter().flat_map(|&device| devices_above(device, n_layers - 1)).collect();
        above.extend(further);
    }
    above
}

/// The name of a device as /dev has it.
fn name_of(device: u32) -> String {
    let number = format!("{}:{}", device >> 20, device & 0xf_ffff);
    let target = fs::read_link(sysfs_folder(device)).ok();
    let name = target.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    // What is a folder in /dev is a `!` in sysfs (drivers/base/core.c, device_get_devnode).
    name.map_or(number, |name| name.replace('!', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_may_name_several_devices() {
        let named = |source| parts(Path::new(source)).len();
        assert_eq!(named("/dev/sda:/dev/sdb"), 2);
        for one in ["/dev/sda", "/dev/disk/by-path/pci-0000:00:1f.2", "server:/folder", "none"] {
            assert_eq!(named(one), 0, "{one}");
        }
    }

    #[test]
    fn what_is_no_block_device_is_refused() {
        let refusal = |device| devices_named(device).expect_err("refused").to_string();
        assert!(refusal("/dev/null").contains("/dev/null is not a block device"));
        assert!(refusal("/").contains("--mount"));
        assert!(refusal("nosuch").contains("/dev/nosuch"));
    }

    #[test]
    fn a_number_that_nothing_has_is_said() {
        let devices = devices_named("4000:1").expect("it may come");
        assert_eq!(devices.numbers, [4000 << 20 | 1]);
        assert!(devices.remark.expect("said").contains("no block device has that number"));
    }

    #[test]
    fn a_source_of_a_type_without_device_means_nothing() {
        let mount = |fstype: &str, source: &str, device| Mount {
            id: 1,
            device,
            mount_point: "/m".into(),
            fstype: fstype.to_owned(),
            source: source.into(),
        };
        let types = ["ext4".to_owned()];
        let mounts = [mount("fuse.x", "/dev/null", 50), mount("ext4", "elsewhere", 7)];
        assert_eq!(of_filesystems(7, &mounts, &types), [7]);
        assert_eq!(of_filesystems(8, &mounts, &types), [0; 0]);
    }
}
