//! The filesystems of the matrix: how each is made and mounted, what the tool is to call it, and how its write path behaves
//! from which kernel on. One entry adds one to every kernel and workload.

use super::{
    families::Family,
    kernels::{Facts, Span, Version},
};

/// A filesystem on a mount of its own.
#[derive(Debug)]
pub struct Filesystem {
    /// Name of its cases and of its directory below /mnt.
    pub name: &'static str,
    /// What the tool reports.
    pub fstype: &'static str,
    /// Kernels that have it.
    pub kernels: Span,
    /// How it is made on `$DEVICE`, a ram disk; without any it needs no device.
    pub mkfs: &'static [(Span, &'static str)],
    /// How it is mounted on `$DIRECTORY`.
    pub mount: &'static str,
    /// How its write path behaves.
    pub families: &'static [(Span, Family)],
}

/// All of them.
pub const FILESYSTEMS: [Filesystem; 4] = [
    Filesystem {
        name: "ext4",
        fstype: "ext4",
        kernels: Span::ANY,
        mkfs: &[(Span::ANY, "mkfs.ext4 -q $DEVICE")],
        mount: "mount -t ext4 $DEVICE $DIRECTORY",
        // Since 6.16 regular files have large folios ("ext4: enable large folio for regular file").
        families: &[(Span::before((6, 16)), Family::Pages), (Span::since((6, 16)), Family::Folios)],
    },
    Filesystem {
        name: "xfs",
        fstype: "xfs",
        kernels: Span::ANY,
        // 5.10 mounts none with the features that mkfs.xfs has since turned on by default.
        mkfs: &[
            (
                Span::before((6, 1)),
                "mkfs.xfs -q -m bigtime=0,inobtcount=0,rmapbt=0 -i nrext64=0,exchange=0 -n parent=0 $DEVICE",
            ),
            (Span::since((6, 1)), "mkfs.xfs -q $DEVICE"),
        ],
        mount: "mount -t xfs $DEVICE $DIRECTORY",
        families: &[(Span::ANY, Family::Iomap)],
    },
    Filesystem {
        name: "btrfs",
        fstype: "btrfs",
        kernels: Span::ANY,
        mkfs: &[(Span::ANY, "mkfs.btrfs -q $DEVICE")],
        mount: "mount -t btrfs $DEVICE $DIRECTORY",
        families: &[(Span::ANY, Family::Btrfs)],
    },
    Filesystem {
        name: "tmpfs",
        fstype: "tmpfs",
        kernels: Span::ANY,
        mkfs: &[],
        mount: "mount -t tmpfs none $DIRECTORY",
        families: &[(Span::before((6, 11)), Family::Pages), (Span::since((6, 11)), Family::Shmem)],
    },
];

/// KiB of each ram disk; it takes memory only for what is written to it.
const DISK_KIB: u32 = 400_000;

impl Filesystem {
    /// How its write path behaves on that kernel.
    #[must_use]
    pub fn family(&self, kernel: Facts) -> Option<Family> {
        let (_, family) = self.families.iter().find(|(span, _)| span.contains(kernel.version))?;
        Some(if kernel.large_folios { *family } else { family.without_large_folios() })
    }

    /// The device the tool is to name, if there is one.
    #[must_use]
    pub fn device(&self) -> Option<String> {
        let position =
            FILESYSTEMS.iter().filter(|other| !other.mkfs.is_empty()).position(|other| other.name == self.name);
        position.map(|number| format!("ram{number}"))
    }

    /// Its directory in the guest.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("/mnt/{}", self.name)
    }

    /// The commands that make and mount it.
    #[must_use]
    pub fn script(&self, version: Version) -> String {
        let mut script = format!("DIRECTORY={}\nmkdir -p $DIRECTORY\n", self.directory());
        if let Some(device) = self.device() {
            let n_devices = FILESYSTEMS.iter().filter(|other| !other.mkfs.is_empty()).count();
            script.push_str(&format!("DEVICE=/dev/{device}\nmodprobe brd rd_nr={n_devices} rd_size={DISK_KIB}\n"));
        }
        for (_, mkfs) in self.mkfs.iter().filter(|(span, _)| span.contains(version)) {
            script.push_str(&format!("{mkfs}\n"));
        }
        script + self.mount + "\n"
    }
}

/// Names and scripts of the filesystems that kernel has.
#[must_use]
pub fn scripts(version: Version) -> Vec<(String, String)> {
    of(version).map(|filesystem| (filesystem.name.to_owned(), filesystem.script(version))).collect()
}

/// The filesystems that kernel has.
pub fn of(version: Version) -> impl Iterator<Item = &'static Filesystem> {
    FILESYSTEMS.iter().filter(move |filesystem| filesystem.kernels.contains(version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::matrix::kernels::KERNELS;

    #[test]
    fn every_kernel_has_one_family_and_one_way_to_make_each() {
        for kernel in &KERNELS {
            let version = Facts::of(kernel.series).expect("it is well formed").version;
            for filesystem in of(version) {
                let n_families = filesystem.families.iter().filter(|(span, _)| span.contains(version)).count();
                let n_ways = filesystem.mkfs.iter().filter(|(span, _)| span.contains(version)).count();
                assert_eq!(n_families, 1, "{} on {}", filesystem.name, kernel.series);
                assert_eq!(n_ways, filesystem.mkfs.len().min(1), "{} on {}", filesystem.name, kernel.series);
            }
        }
    }

    #[test]
    fn names_are_unique_and_devices_are_numbered() {
        let names: std::collections::HashSet<&str> = FILESYSTEMS.iter().map(|filesystem| filesystem.name).collect();
        assert_eq!(names.len(), FILESYSTEMS.len());
        let devices: Vec<String> = FILESYSTEMS.iter().filter_map(Filesystem::device).collect();
        let numbered: Vec<String> = (0..devices.len()).map(|number| format!("ram{number}")).collect();
        assert_eq!(devices, numbered);
    }
}
