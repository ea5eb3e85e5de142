//! Filesystems that are only part of the matrix. Servers run in the guest itself.

use super::{Device, Family, Filesystem, Group, Kind, Span};

const PAGES: &[(Span, Family)] = &[(Span::ANY, Family::Pages)];

/// Made on a disk and mounted from it.
const fn on_disk(name: &'static str, mkfs: &'static [(Span, &'static str)], mount: &'static str) -> Filesystem {
    Filesystem {
        name,
        fstype: name,
        group: Group::Further,
        kernels: Span::ANY,
        mkfs,
        mount,
        device: Device::Disk,
        families: &[],
        lacks: &[],
        optional_program: None,
    }
}

/// Formats bcachefs. One mkfs.bcachefs 1.13 of four crashes while its threads end ("unaligned tcache chunk detected"), none of twelve
/// without that cache. What it made is then made anew.
macro_rules! bcachefs_tries {
    ($options:literal) => {
        concat!(
            "for _ in 1 2 3 4 5; do GLIBC_TUNABLES=glibc.malloc.tcache_count=0 mkfs.bcachefs -q --force ",
            $options,
            " $DEVICE && break; done"
        )
    };
}

/// 6.7 brought it and 6.18 dropped it; Debian's 6.17 is without. The helper of mount would have udev find the device.
const fn bcachefs(name: &'static str, mkfs: &'static [(Span, &'static str)]) -> Filesystem {
    Filesystem {
        fstype: "bcachefs",
        kernels: Span::between((6, 7), (6, 17)),
        optional_program: Some("mkfs.bcachefs"),
        families: &[(Span::ANY, Family::Bcachefs)],
        ..on_disk(name, mkfs, "mount -i -t bcachefs $DEVICE $DIRECTORY")
    }
}

/// All of them.
pub(super) const FILESYSTEMS: [Filesystem; 30] = [
    Filesystem {
        // Seen on 6.18 and not on 6.12.
        families: &[(Span::before((6, 15)), Family::Pages), (Span::since((6, 15)), Family::Folios)],
        ..on_disk("ext2", &[(Span::ANY, "mkfs.ext2 -q $DEVICE")], "mount -t ext2 $DEVICE $DIRECTORY")
    },
    on_disk("ext3", &[(Span::ANY, "mkfs.ext3 -q $DEVICE")], "mount -t ext3 $DEVICE $DIRECTORY"),
    Filesystem {
        fstype: "ext4",
        ..on_disk(
            "ext4-journal",
            &[(Span::ANY, "mkfs.ext4 -q $DEVICE")],
            "mount -t ext4 -o data=journal $DEVICE $DIRECTORY",
        )
    },
    // Its own write is counted at the filesystem below it.
    Filesystem {
        fstype: "ext4",
        ..on_disk(
            "overlay",
            &[(Span::ANY, "mkfs.ext4 -q $DEVICE")],
            "mkdir -p /srv/overlay; mount -t ext4 $DEVICE /srv/overlay; cd /srv/overlay; mkdir lower upper work
mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work none $DIRECTORY",
        )
    },
    // Its disk is a file of another filesystem, which the kernel writes to on its own.
    Filesystem {
        fstype: "ext4",
        device: Device::Named("loop0"),
        ..on_disk(
            "loop",
            &[(Span::ANY, "mkfs.ext4 -q $DEVICE")],
            "mkdir -p /srv/loop; mount -t ext4 $DEVICE /srv/loop; truncate --size 200M /srv/loop/image
mkfs.ext4 -q /srv/loop/image; modprobe loop; losetup /dev/loop0 /srv/loop/image; mount -t ext4 /dev/loop0 $DIRECTORY",
        )
    },
    // No filesystem: the device itself.
    Filesystem {
        fstype: "bdev",
        families: &[
            (Span::before((6, 6)), Family::Pages),
            (Span::between((6, 6), (6, 15)), Family::IomapPages),
            (Span::since((6, 15)), Family::Iomap),
        ],
        lacks: &[(Span::ANY, Kind::Append)],
        ..on_disk("bdev", &[(Span::ANY, "true")], "rmdir $DIRECTORY; ln -s $DEVICE $DIRECTORY")
    },
    Filesystem {
        fstype: "btrfs",
        ..on_disk(
            "btrfs-zstd",
            &[(Span::ANY, "mkfs.btrfs -q $DEVICE")],
            "mount -t btrfs -o compress-force=zstd $DEVICE $DIRECTORY",
        )
    },
    Filesystem {
        fstype: "btrfs",
        ..on_disk(
            "btrfs-nodatacow",
            &[(Span::ANY, "mkfs.btrfs -q $DEVICE")],
            "mount -t btrfs -o nodatacow $DEVICE $DIRECTORY",
        )
    },
    bcachefs("bcachefs", &[(Span::ANY, bcachefs_tries!(""))]),
    bcachefs("bcachefs-zstd", &[(Span::ANY, bcachefs_tries!("--compression=zstd"))]),
    on_disk("f2fs", &[(Span::ANY, "mkfs.f2fs -q $DEVICE")], "mount -t f2fs $DEVICE $DIRECTORY"),
    Filesystem {
        families: PAGES,
        ..on_disk("vfat", &[(Span::ANY, "mkfs.vfat $DEVICE")], "mount -t vfat $DEVICE $DIRECTORY")
    },
    Filesystem {
        // Seen on 7.3 and not on 6.18.
        families: &[(Span::before((7, 2)), Family::Pages), (Span::since((7, 2)), Family::IomapPages)],
        ..on_disk("exfat", &[(Span::ANY, "mkfs.exfat $DEVICE")], "mount -t exfat $DEVICE $DIRECTORY")
    },
    Filesystem {
        kernels: Span::between((6, 2), (7, 2)),
        ..on_disk("ntfs3", &[(Span::ANY, "mkfs.ntfs --quick --force $DEVICE")], "mount -i -t ntfs3 $DEVICE $DIRECTORY")
    },
    Filesystem {
        kernels: Span::since((7, 2)),
        ..on_disk("ntfs", &[(Span::ANY, "mkfs.ntfs --quick --force $DEVICE")], "mount -i -t ntfs $DEVICE $DIRECTORY")
    },
    Filesystem {
        fstype: "fuseblk",
        ..on_disk(
            "ntfs-3g",
            &[(Span::ANY, "mkfs.ntfs --quick --force $DEVICE")],
            "modprobe fuse; ntfs-3g $DEVICE $DIRECTORY",
        )
    },
    on_disk(
        "gfs2",
        &[(Span::ANY, "mkfs.gfs2 -q -O -o format=1801 -p lock_nolock -j 1 -J 32 $DEVICE")],
        "mount -t gfs2 -o lockproto=lock_nolock $DEVICE $DIRECTORY",
    ),
    on_disk(
        "ocfs2",
        &[(Span::ANY, "mkfs.ocfs2 -q -M local $DEVICE")],
        "mount -i -t ocfs2 -o heartbeat=none $DEVICE $DIRECTORY",
    ),
    Filesystem {
        families: PAGES,
        ..on_disk("jfs", &[(Span::ANY, "mkfs.jfs -q $DEVICE")], "mount -t jfs $DEVICE $DIRECTORY")
    },
    // Without -i a daemon that cleans it is started.
    Filesystem {
        families: PAGES,
        ..on_disk("nilfs2", &[(Span::ANY, "mkfs.nilfs2 -q $DEVICE")], "mount -i -t nilfs2 $DEVICE $DIRECTORY")
    },
    Filesystem {
        families: PAGES,
        lacks: &[(Span::before((6, 1)), Kind::Splice)],
        ..on_disk("udf", &[(Span::ANY, "mkudffs --blocksize 512 $DEVICE")], "mount -t udf $DEVICE $DIRECTORY")
    },
    Filesystem {
        families: PAGES,
        lacks: &[(Span::ANY, Kind::Splice)],
        ..on_disk("minix", &[(Span::ANY, "mkfs.minix -3 $DEVICE")], "mount -t minix $DEVICE $DIRECTORY")
    },
    Filesystem {
        kernels: Span::before((6, 13)),
        ..on_disk("reiserfs", &[(Span::ANY, "mkreiserfs -q $DEVICE")], "mount -t reiserfs $DEVICE $DIRECTORY")
    },
    Filesystem { device: Device::OfMount, families: PAGES, ..on_disk("ramfs", &[], "mount -t ramfs none $DIRECTORY") },
    Filesystem {
        device: Device::OfMount,
        lacks: &[(Span::ANY, Kind::Splice)],
        ..on_disk(
            "ecryptfs",
            &[(Span::ANY, "mkfs.ext4 -q $DEVICE")],
            "mkdir -p /srv/ecryptfs; mount -t ext4 $DEVICE /srv/ecryptfs
key=$(printf secret | ecryptfs-add-passphrase | sed -n 's/.*\\[\\(.*\\)\\].*/\\1/p')
mount -i -t ecryptfs -o ecryptfs_sig=$key,ecryptfs_cipher=aes,ecryptfs_key_bytes=16 /srv/ecryptfs $DIRECTORY",
        )
    },
    Filesystem {
        fstype: "fuse",
        device: Device::OfMount,
        ..on_disk(
            "fuse",
            &[(Span::ANY, "mkfs.ext4 -q $DEVICE")],
            "modprobe fuse; mkdir -p /srv/fuse; mount -t ext4 $DEVICE /srv/fuse
cd /srv/fuse; mkdir lower upper work
fuse-overlayfs -o lowerdir=lower,upperdir=upper,workdir=work,writeback=0 $DIRECTORY",
        )
    },
    Filesystem {
        fstype: "fuse",
        device: Device::OfMount,
        ..on_disk(
            "fuse-writeback",
            &[(Span::ANY, "mkfs.ext4 -q $DEVICE")],
            "modprobe fuse; mkdir -p /srv/fuse-writeback; mount -t ext4 $DEVICE /srv/fuse-writeback
cd /srv/fuse-writeback; mkdir lower upper work
fuse-overlayfs -o lowerdir=lower,upperdir=upper,workdir=work,writeback=1 $DIRECTORY",
        )
    },
    Filesystem {
        fstype: "nfs4",
        device: Device::OfMount,
        ..on_disk(
            "nfs",
            &[(Span::ANY, "mkfs.ext4 -q $DEVICE")],
            "mkdir -p /srv/nfs /var/lib/nfs/v4recovery; mount -t ext4 $DEVICE /srv/nfs
modprobe nfsd; mount -t nfsd nfsd /proc/fs/nfsd; touch /var/lib/nfs/etab; echo 10 > /proc/fs/nfsd/nfsv4gracetime
exportfs -i -o rw,no_root_squash,insecure,fsid=0,no_subtree_check 127.0.0.1:/srv/nfs
rpc.mountd -N 3; rpc.nfsd -N 3 -V 4.2 2
# rpc.mountd goes to the background before it listens; the kernel remembers the answer it did not get.
for try in 1 2 3 4 5 6 7 8 9 10; do
mount -i -t nfs -o addr=127.0.0.1,clientaddr=127.0.0.1,vers=4.2,sec=sys 127.0.0.1:/ $DIRECTORY && break
sleep 1; exportfs -f; done",
        )
    },
    // The server of earlier kernels crashes (opinfo_put) or is not there.
    Filesystem {
        kernels: Span::since((6, 2)),
        device: Device::OfMount,
        ..on_disk(
            "cifs",
            &[(Span::ANY, "mkfs.ext4 -q $DEVICE")],
            "mkdir -p /srv/cifs /etc/ksmbd; mount -t ext4 $DEVICE /srv/cifs; modprobe ksmbd
printf '[data]\\npath=/srv/cifs\\nwriteable=yes\\n' > /etc/ksmbd/ksmbd.conf
ksmbd.adduser -a -p secret root; ksmbd.mountd; sleep 1
mount -i -t cifs -o ip=127.0.0.1,username=root,password=secret,vers=3.1.1,cache=loose //127.0.0.1/data $DIRECTORY",
        )
    },
    Filesystem {
        device: Device::OfMount,
        ..on_disk("9p", &[], "mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose scratch $DIRECTORY")
    },
];
