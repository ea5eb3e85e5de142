//! Filters: with writers of all kinds around, exactly those writes are counted that were asked for.

use anyhow::{Result, ensure};

use super::{Boot, Case, Context, Group, Kernels, expect_parts, plain, truths};
use crate::{document::Document, guest::Said};

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
    // Each write is done by a worker with a name of its own, a thread of the process (3bfe6106693b "io-wq: fork worker threads from
    // original task" of 5.12, which 5.10 got with 5.10.162).
    plain(
        "filter --comm and the workers of io_uring",
        Kernels::Spread,
        60,
        "prefault --json -o counted.json --comm workload --comm nobody -- workload uring-async /mnt/ext4 > truth\n",
        |said, _| {
            said.expect_code(0)?;
            let document: Document = said.json("counted.json")?;
            let counted: u64 = document.filesystems.iter().map(|one| one.write.calls).sum();
            let written: u64 = truths(said)?.iter().map(|truth| truth.writes).sum();
            ensure!(written > 0 && counted == written, "{counted} writes, expected {written}");
            document.expect_no_loss()
        },
    ),
    // The filesystem names one of its devices as its source.
    plain(
        "filter --device of each device of a filesystem of two",
        Kernels::Reference,
        90,
        "truncate --size 200M /tmp/one /tmp/two; modprobe loop; losetup /dev/loop1 /tmp/one; losetup /dev/loop2 /tmp/two
mkfs.btrfs -q /dev/loop1 /dev/loop2; btrfs -q device scan; mkdir -p /mnt/two; mount /dev/loop1 /mnt/two || exit
for device in loop1 /dev/loop2 7:2; do
    prefault --json -o counted.json --device $device -- sh -c 'workload absent /mnt/btrfs > others; workload absent /mnt/two >> truth' \
        2>> said || exit
    cat counted.json >> all; echo >> all
done
umount /mnt/two; losetup -d /dev/loop1 /dev/loop2; rm /tmp/one /tmp/two\n",
        |said, _| {
            said.expect_code(0)?;
            ensure!(said.file("said")?.is_empty(), "{}", said.file("said")?);
            let documents = said.file("all")?;
            let documents: Vec<Document> =
                serde_json::Deserializer::from_str(&documents).into_iter().collect::<Result<_, _>>()?;
            let counted: Vec<u64> = documents
                .iter()
                .map(|document| document.filesystems.iter().map(|one| one.write.calls).sum())
                .collect();
            let written: Vec<u64> = truths(said)?.iter().map(|truth| truth.writes).collect();
            ensure!(written.len() == 3 && counted == written, "writes are {counted:?}, expected {written:?}");
            Ok(())
        },
    ),
    plain(
        "filters that match less than they seem are remarked",
        Kernels::Reference,
        90,
        "modprobe loop; truncate --size 64M /tmp/disk; 
python3 -B -c 'import struct
disk = open(\"/tmp/disk\", \"r+b\"); disk.seek(446)
disk.write(struct.pack(\"<B3sB3sII\", 0, b\"\\0\" * 3, 0x83, b\"\\0\" * 3, 2048, 100000)); disk.seek(510); disk.write(b\"\\x55\\xaa\")'
losetup --partscan /dev/loop3 /tmp/disk; mkfs.ext4 -q /dev/loop3p1 && mkdir -p /mnt/part && mount /dev/loop3p1 /mnt/part || exit
prefault --json -o counted.json --device loop3 --device 0:4000 -- sh -c 'workload absent /mnt/part > others'
code=$?; umount /mnt/part; losetup -d /dev/loop3; rm /tmp/disk; exit $code\n",
        |said, _| {
            said.expect_code(0)?;
            let remarks: Vec<&str> = said.stderr.lines().collect();
            let [disk, number] = remarks[..] else { anyhow::bail!("expected two remarks, got {remarks:?}") };
            expect_parts(disk, &["prefault: --device loop3: nothing is mounted from it now", "give loop3p1"])?;
            expect_parts(number, &["prefault: --device 0:4000: ", "no block device has that number"])?;
            let document: Document = said.json("counted.json")?;
            let counted: u64 = document.filesystems.iter().map(|one| one.write.calls).sum();
            ensure!(counted == 0, "{counted} writes, expected none");
            Ok(())
        },
    ),
    Case {
        name: "filters that cannot match",
        kernels: Kernels::Spread,
        boot: Boot::Plain,
        group: Group::Core,
        limit_seconds: 60,
        script: "refused() { prefault -d 1 \"$@\" 2> line; echo \"$? $(wc -l < line) $(cat line)\"; }
python3 -B -c 'import threading, time; threading.Thread(target=time.sleep, args=(60,)).start()' & threads=$!
for _ in {1..100}; do [ \"$(ls /proc/$threads/task | wc -l)\" = 2 ] && break; sleep 0.1; done
mkdir -p /tmp/v1; mount -t cgroup -o none,name=x none /tmp/v1
refused --mount /nonexistent
refused --mount /proc
refused --mount /dev/ram0
refused --fstype nosuch
refused --fstype proc
refused --fstype overlay
refused --fstype fuse.sshfs
refused --comm 0123456789abcdef
refused --pid $(ls /proc/$threads/task | tail -n 1)
refused --pid 4194303
refused --cgroup /tmp
refused --cgroup /tmp/v1
refused --cgroup /sys/fs/cgroup/cgroup.procs
refused --device /dev/null
refused --device nosuch
refused --device /mnt/ext4
refused --follow
refused $(for n in {1..257}; do echo --comm $n; done)
kill $threads; umount /tmp/v1; rmdir /tmp/v1\n",
        check: |said, _| {
            said.expect_code(0)?;
            let expected = [
                "/nonexistent",
                "without a page cache",
                "give --device",
                "this kernel has",
                "without a page cache",
                "upper folder",
                "as fuse;",
                "15 bytes",
                "a thread of process",
                "no process 4194303",
                "version 2, below /sys/fs/cgroup",
                "version 2, below /sys/fs/cgroup",
                "version 2, below /sys/fs/cgroup",
                "/dev/null is not a block device",
                "/dev/nosuch",
                "--mount",
                "nobody to follow",
                "256 values at most",
            ];
            let lines: Vec<&str> = said.stdout.lines().collect();
            ensure!(lines.len() == expected.len(), "expected {} refusals, got\n{}", expected.len(), said.stdout);
            for (line, words) in lines.into_iter().zip(expected) {
                ensure!(line.starts_with("2 1 prefault: ") && line.contains(words), "expected {words:?} in\n{line}");
            }
            Ok(())
        },
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
