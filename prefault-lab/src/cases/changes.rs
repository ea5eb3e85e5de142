//! What changes while measuring: modules, mounts and processors that come and go.

use anyhow::{Result, ensure};

use super::{Case, Check, Kernels, expect_parts, plain, truths};
use crate::{document::Document, guest::Said};

const fn case(name: &'static str, kernels: Kernels, script: &'static str, check: Check) -> Case {
    plain(name, kernels, 150, script, check)
}

pub const CASES: &[Case] = &[
    // Its module has a path of its own on every kernel. The last time it is back before anybody can have seen that it was gone.
    case(
        "module that comes, goes and comes back",
        Kernels::Spread,
        "truncate --size 100M /tmp/f2fs; mkfs.f2fs -q /tmp/f2fs; modprobe loop; losetup /dev/loop1 /tmp/f2fs; mkdir -p /mnt/f2fs
round() {
    load_module f2fs log && mount -t f2fs /dev/loop1 /mnt/f2fs || exit
    workload absent /mnt/f2fs >> truth
    umount /mnt/f2fs; grep -h f2fs /sys/kernel/debug/kprobes/list > probes; unload_module f2fs || exit
}
prefault -v --json -o counted.json --fstype f2fs 2> log & tool=$!
wait_until_measuring log || exit
round; round
load_module f2fs log; modprobe -r f2fs; round
kill -INT $tool; wait $tool; code=$?
losetup -d /dev/loop1; rm /tmp/f2fs; exit $code
",
        |said, _| {
            ensure!(!said.file("probes")?.is_empty(), "nothing in the module was probed");
            ensure!(said.file("left")?.is_empty(), "still attached: {}", said.file("left")?);
            exact(said)
        },
    ),
    case(
        "mounts that come and go",
        Kernels::Reference,
        "mkdir -p /mnt/other
prefault --json -o counted.json -- sh -c '
for round in 1 2 3; do
    mount -t ramfs none /mnt/other; workload absent /mnt/other >> truth; umount /mnt/other
done'
",
        |said, _| exact(said),
    ),
    case(
        "processor that goes and comes back",
        Kernels::Spread,
        "cpu=/sys/devices/system/cpu/cpu1/online
prefault --json -o counted.json -- sh -c '
workload absent --workers 4 /mnt/tmpfs > truth
echo 0 > $0; workload absent --workers 4 /mnt/tmpfs >> truth
echo 1 > $0; workload absent --workers 4 /mnt/tmpfs >> truth' $cpu
code=$?; cat $cpu; exit $code
",
        |said, _| {
            ensure!(said.stdout == "1\n", "the processor is {:?}", said.stdout);
            exact(said)
        },
    ),
    case(
        "process that starts while measuring is followed by its name",
        Kernels::Reference,
        "prefault -v --json -o counted.json --comm workload 2> log & tool=$!
wait_until_measuring log || exit; workload absent /mnt/tmpfs > truth; kill -INT $tool; wait $tool\n",
        |said, _| exact(said),
    ),
    case(
        "doctor names the module of each path",
        Kernels::Spread,
        "modprobe f2fs; prefault doctor --dry-run; modprobe -r f2fs\n",
        |said, _| {
            said.expect_code(0)?;
            expect_parts(&said.stdout, &["[f2fs]", "verdict: ready"])
        },
    ),
];

/// All filesystems together are what all runs of the workload did.
fn exact(said: &Said) -> Result<()> {
    said.expect_code(0)?;
    let document: Document = said.json("counted.json")?;
    let mut expected = (0, 0, 0);
    for truth in truths(said)? {
        expected = (expected.0 + truth.writes, expected.1 + truth.bytes, expected.2 + truth.absent_pages);
    }
    let counted = document.filesystems.iter().fold((0, 0, 0), |sum, counted| {
        (sum.0 + counted.write.calls, sum.1 + counted.write.bytes, sum.2 + counted.prefault.minor_faults)
    });
    ensure!(expected.0 > 0 && counted == expected, "writes, bytes and faults are {counted:?}, expected {expected:?}");
    document.expect_no_loss()
}
