//! Filesystems without room: what fails is counted as failed, what is written as written.

use anyhow::{Result, ensure};

use super::{Boot, Case, Context, Group, Kernels, truths};
use crate::{document::Document, guest::Said};

pub const CASES: &[Case] = &[Case {
    name: "filesystems that become full",
    kernels: Kernels::All,
    boot: Boot::Plain,
    group: Group::Core,
    limit_seconds: 90,
    script: "mkdir -p /mnt/full-{ext2,tmpfs}; mount -t tmpfs -o size=3M none /mnt/full-tmpfs
truncate --size 8M /tmp/image; mkfs.ext2 -q /tmp/image; modprobe loop; mount -o loop /tmp/image /mnt/full-ext2
prefault --json -o counted.json --mount /mnt/full-ext2 --mount /mnt/full-tmpfs -- workload full /mnt/full-ext2 /mnt/full-tmpfs > truth
code=$?; umount /mnt/full-*; exit $code
",
    check: exact,
}];

fn exact(said: &Said, _: &Context) -> Result<()> {
    said.expect_code(0)?;
    let document: Document = said.json("counted.json")?;
    for truth in truths(said)? {
        let fstype = truth.target.to_string_lossy().replace("/mnt/full-", "");
        let counted = document.filesystem(&fstype)?;
        let is = (counted.write.calls, counted.write.bytes, counted.write.errors);
        ensure!(is == (truth.writes, truth.bytes, truth.errors), "{fstype} is {is:?}, expected {truth:?}");
        ensure!(truth.errors > 0, "{truth:?}");
        let (of_space, errors) = (counted.write.error_no_space, truth.errors);
        ensure!(of_space == errors, "{fstype} had no space for {of_space} writes, expected {errors}");
    }
    document.expect_no_loss()
}
