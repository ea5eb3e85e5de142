//! The four filesystems that the cases use.

use super::{Device, Family, Filesystem, Group, Span};

/// All of them.
pub(super) const FILESYSTEMS: [Filesystem; 4] = [
    Filesystem {
        name: "ext4",
        fstype: "ext4",
        group: Group::Core,
        kernels: Span::ANY,
        mkfs: &[(Span::ANY, "mkfs.ext4 -q $DEVICE")],
        mount: "mount -t ext4 $DEVICE $DIRECTORY",
        // Since 6.16 regular files have large folios ("ext4: enable large folio for regular file").
        device: Device::Disk,
        lacks: &[],
        optional_program: None,
        families: &[(Span::before((6, 16)), Family::Pages), (Span::since((6, 16)), Family::Folios)],
    },
    Filesystem {
        name: "xfs",
        fstype: "xfs",
        group: Group::Core,
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
        device: Device::Disk,
        lacks: &[],
        optional_program: None,
        families: &[(Span::ANY, Family::Iomap)],
    },
    Filesystem {
        name: "btrfs",
        fstype: "btrfs",
        group: Group::Core,
        kernels: Span::ANY,
        mkfs: &[(Span::ANY, "mkfs.btrfs -q $DEVICE")],
        mount: "mount -t btrfs $DEVICE $DIRECTORY",
        device: Device::Disk,
        lacks: &[],
        optional_program: None,
        families: &[(Span::ANY, Family::Btrfs)],
    },
    Filesystem {
        name: "tmpfs",
        fstype: "tmpfs",
        group: Group::Core,
        kernels: Span::ANY,
        mkfs: &[],
        mount: "mount -t tmpfs none $DIRECTORY",
        device: Device::OfMount,
        lacks: &[],
        optional_program: None,
        families: &[(Span::before((6, 11)), Family::Pages), (Span::since((6, 11)), Family::Shmem)],
    },
];
