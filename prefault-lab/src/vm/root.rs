//! The root filesystem of all guests: Debian packages unpacked side by side. None of their scripts run, so what those would
//! have made and guests need is made here. It is shared read-only; what a guest writes stays in the guest's memory.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::tree::Tree;
use crate::{apt, paths};

/// What tests and people use in a guest; dependencies are added by apt.
const PACKAGES: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "bpftool",
    "bpftrace",
    "btrfs-progs",
    "busybox-static",
    "catatonit",
    "coreutils",
    "crun",
    "dash",
    "debianutils",
    "diffutils",
    "dosfstools",
    "e2fsprogs",
    "ecryptfs-utils",
    "exfatprogs",
    "f2fs-tools",
    "findutils",
    "fuse-overlayfs",
    "gawk",
    "gfs2-utils",
    "grep",
    "hostname",
    "iproute2",
    "jfsutils",
    "kmod",
    "ksmbd-tools",
    "libc-bin",
    "mount",
    "nfs-common",
    "nfs-kernel-server",
    "nilfs-tools",
    "ntfs-3g",
    "ocfs2-tools",
    "openssl",
    "podman",
    "procps",
    "python3",
    "reiserfsprogs",
    "sed",
    "strace",
    "systemd",
    "udftools",
    "util-linux",
    "util-linux-extra",
    "xfsprogs",
];
/// No release has what formats for the kernels' own bcachefs.
const EXTRA: &[&str] = &["bcachefs-tools/experimental"];
const TREE: Tree<'_> = Tree {
    folder: "root",
    what: "the guests' root filesystem",
    suite: "trixie",
    packages: PACKAGES,
    archive: &apt::EXPERIMENTAL,
    extra: EXTRA,
};
/// Links that a package's scripts would make.
const LINKS: [(&str, &str); 3] =
    [("etc/mtab", "../proc/self/mounts"), ("usr/bin/awk", "gawk"), ("usr/bin/which", "which.debianutils")];
/// Files that a package's scripts would copy.
const COPIES: [(&str, &str); 2] =
    [("etc/passwd", "usr/share/base-passwd/passwd.master"), ("etc/group", "usr/share/base-passwd/group.master")];
/// Describes containers to systemd, and there are none: without it a boot with systemd took 4 s less.
const GENERATOR: &str = "usr/lib/systemd/system-generators/podman-system-generator";
const HOSTS: &str = "127.0.0.1 localhost prefault\n::1 localhost\n";

/// Returns the directory of the root filesystem, building it if the list of packages has changed.
///
/// # Errors
/// When a package cannot be fetched or unpacked.
pub fn prepare() -> Result<PathBuf> {
    TREE.prepare((LINKS, COPIES, GENERATOR, HOSTS), finish)
}

fn finish(root: &Path) -> Result<()> {
    for (path, target) in LINKS {
        let path = root.join(path);
        if !path.exists() {
            symlink(target, &path).with_context(|| format!("failed to create {}", path.display()))?;
        }
    }
    for (path, source) in COPIES {
        fs::copy(root.join(source), root.join(path)).with_context(|| format!("failed to create /{path}"))?;
    }
    fs::remove_file(root.join(GENERATOR)).with_context(|| format!("failed to remove /{GENERATOR}"))?;
    paths::write(&root.join("etc/hosts"), HOSTS)?;
    for program in ["bin/sh", "bin/busybox", "sbin/modprobe"] {
        let path = root.join(program);
        fs::metadata(&path).with_context(|| format!("failed to find /{program} in the root filesystem"))?;
    }
    Ok(())
}
