//! Filters: with writers of all kinds around, exactly those writes are counted that were asked for.

use anyhow::{Result, ensure};

use super::{Boot, Case, Context, Group, Kernels, expect_refusal, truths};
use crate::tests::{document::Document, guest::Said};

/// A case with other tasks writing to the same and to other filesystems meanwhile.
macro_rules! amid_noise {
    ($name:literal, $script:literal) => {
        Case {
            name: $name,
            kernels: Kernels::Reference,
            boot: Boot::Plain,
            group: Group::Core,
            limit_seconds: 90,
            script: concat!(
                "touch /mnt/{ext4,xfs,tmpfs}/noise
while :; do for f in /mnt/{ext4,xfs,tmpfs}/noise; do dd if=/dev/zero of=$f count=5 conv=notrunc status=none; done; done &
noise=$!
",
                $script,
                "
code=$?; kill $noise; exit $code
"
            ),
            check: exact,
        }
    };
}

pub const CASES: &[Case] = &[
    amid_noise!("filter --comm", "prefault --json -o counted.json --comm workload -- workload absent /mnt/ext4 /mnt/tmpfs > truth"),
    amid_noise!(
        "filter --follow",
        "prefault --json -o counted.json --follow -- sh -c 'true; workload absent /mnt/ext4 /mnt/tmpfs > truth; true'"
    ),
    // A thread that executes a program ends the first one, and has its id from then on; so does one that goes on after it.
    amid_noise!(
        "filter --follow of a program with threads",
        "cat > threads.py <<'END'
import ctypes, os, subprocess, threading, time
def run():
    time.sleep(1)
    subprocess.run('workload absent /mnt/ext4 > truth', shell=True)
    os.execvp('sh', ['sh', '-c', 'workload absent /mnt/tmpfs >> truth'])
threading.Thread(target=run).start()
ctypes.CDLL(None).pthread_exit(None)
END
prefault --json -o counted.json --follow -- python3 -B threads.py"
    ),
    amid_noise!(
        "filter --pid",
        "mkfifo /tmp/go; sh -c 'read word < /tmp/go; exec workload absent /mnt/ext4 /mnt/tmpfs > truth' & pid=$!
prefault -v --json -o counted.json -p $pid 2> log & tool=$!
wait_until_measuring log || exit; echo go > /tmp/go; wait $pid; kill -INT $tool; wait $tool"
    ),
    amid_noise!(
        "filter --cgroup",
        "cgroup=/sys/fs/cgroup/writers; mkdir -p $cgroup/inner
prefault --json -o counted.json --cgroup $cgroup -- sh -c \"echo \\$\\$ > $cgroup/inner/cgroup.procs; workload absent /mnt/ext4 /mnt/tmpfs > truth\""
    ),
    amid_noise!(
        "filters of filesystems",
        "kill $noise
prefault --json -o counted.json --fstype ext4 --fstype tmpfs -- sh -c 'workload absent /mnt/xfs /mnt/btrfs > others; workload absent /mnt/ext4 /mnt/tmpfs > truth'"
    ),
    amid_noise!(
        "filters of devices and mounts",
        "kill $noise
prefault --json -o counted.json --device /dev/ram0 --mount /mnt/tmpfs -- sh -c 'workload absent /mnt/xfs /mnt/btrfs > others; workload absent /mnt/ext4 /mnt/tmpfs > truth'"
    ),
    // The filesystem has another number than its device, which only the mounts of the host tell.
    amid_noise!(
        "filter --device by the mounts of the host",
        "kill $noise; device=$(findmnt --noheadings --output SOURCE /mnt/btrfs)
unshare --mount sh -c \"umount /mnt/btrfs; exec prefault -v --json -o counted.json --device $device --device /dev/ram0\" 2> log & tool=$!
wait_until_measuring log || exit; workload absent /mnt/xfs /mnt/tmpfs > others; workload absent /mnt/ext4 /mnt/btrfs > truth
kill -INT $tool; wait $tool"
    ),
    Case {
        name: "filters that cannot match",
        kernels: Kernels::Reference,
        boot: Boot::Plain,
        group: Group::Core,
        limit_seconds: 20,
        script: "prefault -d 1 --mount /nonexistent\n",
        check: |said, _| expect_refusal(said, &["/nonexistent"]),
    },
];

/// Nothing but the workload's writes was counted, and all of them.
fn exact(said: &Said, _: &Context) -> Result<()> {
    said.expect_code(0)?;
    let document: Document = said.json("counted.json")?;
    let mut n_filesystems = 0;
    for truth in truths(said)? {
        let fstype = truth.target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let counted = document.filesystem(&fstype)?;
        let is = (counted.write.calls, counted.write.bytes, counted.prefault.minor_faults);
        ensure!(is == (truth.writes, truth.bytes, truth.absent_pages), "{fstype} is {is:?}, expected {truth:?}");
        n_filesystems += 1;
    }
    let written = document.filesystems.iter().filter(|filesystem| filesystem.write.calls + filesystem.copy.calls > 0);
    let written: Vec<&str> = written.map(|filesystem| filesystem.fstype.as_str()).collect();
    ensure!(n_filesystems == 2 && written.len() == 2, "counted on {written:?}, expected two filesystems");
    document.expect_no_loss()
}
