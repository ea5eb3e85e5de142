//! The filesystems of the matrix: how each is made and mounted, what the tool is to call it, and how its write path behaves
//! from which kernel on. One entry adds one to every kernel and workload.

mod core;
mod further;

use super::{
    families::Family,
    kernels::{Facts, Span, Version},
    workloads::Kind,
};

/// Filesystems that are tested in one guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The four that every case can use.
    Core,
    /// All others.
    Further,
}

impl Group {
    /// All.
    pub const ALL: [Self; 2] = [Self::Core, Self::Further];

    /// What cases of its guest are called, if they need to be told apart.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Core => "",
            Self::Further => "further filesystems",
        }
    }

    /// Memory of its guest, in which the disks are.
    #[must_use]
    pub fn memory_mib(self) -> u32 {
        match self {
            Self::Core => 2048,
            Self::Further => 4096,
        }
    }
}

/// Which device the tool is to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The ram disk it is made on.
    Disk,
    /// One of that name.
    Named(&'static str),
    /// The one that the mount has, whatever its number.
    OfMount,
}

/// A filesystem on a mount of its own.
#[derive(Debug)]
pub struct Filesystem {
    /// Name of its cases and of its directory below /mnt.
    pub name: &'static str,
    /// What the tool reports.
    pub fstype: &'static str,
    /// Where it is tested.
    pub group: Group,
    /// Kernels that have it.
    pub kernels: Span,
    /// How it is made on `$DEVICE`, a ram disk; without any it needs no device.
    pub mkfs: &'static [(Span, &'static str)],
    /// How it is mounted on `$DIRECTORY`.
    pub mount: &'static str,
    /// Which device the tool reports.
    pub device: Device,
    /// The program it is made with, if the guests may have to do without; then it is not tested.
    pub optional_program: Option<&'static str>,
    /// How its write path behaves; where nothing is said, only what the workload knows is compared.
    pub families: &'static [(Span, Family)],
    /// Workloads that it cannot take.
    pub lacks: &'static [(Span, Kind)],
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Filesystem> {
    core::FILESYSTEMS.iter().chain(&further::FILESYSTEMS)
}

/// What a script says that ends because the program is not there.
pub const NO_PROGRAM: &str = "the guests do not have the program that makes it";
/// KiB of each ram disk; it takes memory only for what is written to it.
const DISK_KIB: u32 = 400_000;

impl Filesystem {
    /// How its write path behaves on that kernel.
    #[must_use]
    pub fn family(&self, kernel: Facts) -> Option<Family> {
        let (_, family) = self.families.iter().find(|(span, _)| span.contains(kernel.version))?;
        Some(if kernel.large_folios { *family } else { family.without_large_folios() })
    }

    /// The name of the device that the tool is to report, if it has one.
    #[must_use]
    pub fn device_name(&self) -> Option<String> {
        match self.device {
            Device::Disk => self.disk(),
            Device::Named(name) => Some(name.to_owned()),
            Device::OfMount => None,
        }
    }

    /// The ram disk it is made on, if it needs one.
    fn disk(&self) -> Option<String> {
        let position = of_disks(self.group).position(|other| other.name == self.name);
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
        if let Some(program) = self.optional_program {
            script.push_str(&format!("command -v {program} || {{ echo {NO_PROGRAM}; exit 1; }}\n"));
        }
        if let Some(device) = self.disk() {
            let n_devices = of_disks(self.group).count();
            script.push_str(&format!("DEVICE=/dev/{device}\nmodprobe brd rd_nr={n_devices} rd_size={DISK_KIB}\n"));
        }
        for (_, mkfs) in self.mkfs.iter().filter(|(span, _)| span.contains(version)) {
            script.push_str(&format!("{mkfs}\n"));
        }
        script + self.mount + "\n"
    }
}

/// Names and scripts of the filesystems of a group that kernel has.
#[must_use]
pub fn scripts(group: Group, version: Version) -> Vec<(String, String)> {
    of(group, version).map(|filesystem| (filesystem.name.to_owned(), filesystem.script(version))).collect()
}

/// The filesystems of a group that kernel has.
pub fn of(group: Group, version: Version) -> impl Iterator<Item = &'static Filesystem> {
    all().filter(move |filesystem| filesystem.group == group && filesystem.kernels.contains(version))
}

fn of_disks(group: Group) -> impl Iterator<Item = &'static Filesystem> {
    all().filter(move |filesystem| filesystem.group == group && !filesystem.mkfs.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::kernels::KERNELS;

    #[test]
    fn every_kernel_has_one_family_and_one_way_to_make_each() {
        for kernel in &KERNELS {
            let version = Facts::of(kernel.series).expect("it is well formed").version;
            for filesystem in Group::ALL.into_iter().flat_map(|group| of(group, version)) {
                let n_families = filesystem.families.iter().filter(|(span, _)| span.contains(version)).count();
                let n_ways = filesystem.mkfs.iter().filter(|(span, _)| span.contains(version)).count();
                assert_eq!(n_families, filesystem.families.len().min(1), "{} on {}", filesystem.name, kernel.series);
                assert_eq!(n_ways, filesystem.mkfs.len().min(1), "{} on {}", filesystem.name, kernel.series);
            }
        }
    }

    #[test]
    fn names_are_unique_and_devices_are_numbered() {
        let names: std::collections::HashSet<&str> = all().map(|filesystem| filesystem.name).collect();
        assert_eq!(names.len(), all().count());
        for group in Group::ALL {
            let disks: Vec<String> = of_disks(group).filter_map(Filesystem::disk).collect();
            let numbered: Vec<String> = (0..disks.len()).map(|number| format!("ram{number}")).collect();
            assert_eq!(disks, numbered);
        }
    }
}
