//! Names of any bytes: mounts, modules and their functions. They are shown as they are, with what is not UTF-8 replaced, and none
//! of them harms anybody else.

use anyhow::{Context as _, Result, ensure};

use super::{Case, Check, Kernels, expect_parts, plain, truths};
use crate::{document::Document, guest::Said};

const fn case(name: &'static str, kernels: Kernels, script: &'static str, check: Check) -> Case {
    plain(name, kernels, 150, script, check)
}

/// Makes filesystems whose mount points have odd names; the workload writes to `.`, since its own output is UTF-8.
macro_rules! odd_mounts {
    ($script:literal) => {
        concat!(
            "mkdir -p /mnt/odd; cd /mnt/odd || exit
names=('a b' $'q\"\\\\z\\n\\t#\\\\040' $'\\xff')
for name in \"${names[@]}\"; do mkdir -p \"$name\" && mount -t tmpfs none \"$name\" || exit; done
cd - > /dev/null
write() { local here=$PWD; for name in \"${names[@]}\"; do (cd \"/mnt/odd/$name\" && workload absent .) >> \"$here/truth\" || exit; done; }
",
            $script,
            "
code=$?; for name in \"${names[@]}\"; do umount \"/mnt/odd/$name\"; done; rm -r /mnt/odd; exit $code
"
        )
    };
}

/// Labels of the mount points in text formats.
const LABELS: [&str; 3] =
    [r#"mountpoint="/mnt/odd/a b""#, r#"mountpoint="/mnt/odd/q\"\\z\n	#\\040""#, "mountpoint=\"/mnt/odd/\u{fffd}\""];

pub const CASES: &[Case] = &[
    case(
        "mounts of odd names are measured by --mount, and nothing else",
        Kernels::Spread,
        odd_mounts!(
            "mkdir -p /mnt/ext4/bound '/mnt/odd/bound one'; mount --bind /mnt/ext4/bound '/mnt/odd/bound one'
btrfs -q subvolume create /mnt/btrfs/sub
prefault -v --json -o counted.json --mount '/mnt/odd/a b' --mount $'/mnt/odd/q\"\\\\z\\n\\t#\\\\040/.' --mount $'/mnt/odd/\\xff' \\
    --mount '/mnt/odd/bound one' --mount /mnt/btrfs/sub 2> log & tool=$!
wait_until_measuring log || exit
workload absent /mnt/xfs /mnt/tmpfs > others; workload absent /mnt/ext4 /mnt/btrfs/sub > truth; write
kill -INT $tool; wait $tool; code=$?
umount '/mnt/odd/bound one'; rm -r /mnt/ext4/bound; btrfs -q subvolume delete /mnt/btrfs/sub; (exit $code)"
        ),
        |said, _| {
            said.expect_code(0)?;
            let document: Document = said.json("counted.json")?;
            let counted: Vec<u64> =
                document.filesystems.iter().map(|one| one.write.calls).filter(|&calls| calls > 0).collect();
            let written: Vec<u64> = truths(said)?.iter().map(|truth| truth.writes).collect();
            ensure!(written.len() == 5 && counted == written, "writes are {counted:?}, expected {written:?}");
            document.expect_no_loss()
        },
    ),
    case(
        "mounts of odd names are labels in all formats",
        Kernels::Reference,
        odd_mounts!(
            "begin_export --with-mount-point --fstype tmpfs --listen 127.0.0.1:29186
write; scrape > text
get() { busybox wget -q -O - --header \"Accept: $1\" http://127.0.0.1:29186/metrics; }
get 'application/openmetrics-text;version=1.0.0' > openmetrics
get 'application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited' > protobuf
end_export"
        ),
        |said, _| {
            said.expect_code(0)?;
            let truths = truths(said)?;
            for format in ["text", "openmetrics"] {
                let metrics = said.file(format)?;
                for (label, truth) in LABELS.into_iter().zip(&truths) {
                    let is_meant = |line: &&str| line.starts_with("prefault_writes_total{") && line.contains(label);
                    let line = metrics.lines().find(is_meant).with_context(|| format!("no {label} in {format}"))?;
                    ensure!(line.ends_with(&format!("}} {}", truth.writes)), "{line}, expected {truth:?}");
                }
            }
            expect_parts(&said.file("protobuf")?, &["/mnt/odd/a b", "/mnt/odd/q\"\\z\n\t#\\040", "/mnt/odd/\u{fffd}"])
        },
    ),
    // Not the names of anything that others import, and of the same length, so that every offset in the file stays.
    case(
        "a module whose functions have names that are not UTF-8 is probed",
        Kernels::Reference,
        "cat > rename.py <<'END'
import lzma, subprocess, sys
path = subprocess.check_output(['modinfo', '-n', 'f2fs'], text=True).strip()
module = (lzma.open if path.endswith('.xz') else open)(path, 'rb').read()
end = module.rfind(b'~Module signature appended~')
# In the table of symbols it is the end of longer names too.
open('/tmp/odd.ko', 'wb').write(module[:end].replace(b'f2fs_file_write_iter\\0', b'f2fs_file_\\xffrite_iter\\0'))
END
python3 -B rename.py || exit
truncate --size 100M /tmp/f2fs; mkfs.f2fs -q /tmp/f2fs; modprobe -a loop $(modinfo -F depends f2fs | tr , ' '); mkdir -p /mnt/f2fs
losetup /dev/loop1 /tmp/f2fs; insmod /tmp/odd.ko && mount -t f2fs /dev/loop1 /mnt/f2fs || exit
grep -a f2fs_file_ /proc/kallsyms > kallsyms
prefault --json -o counted.json --fstype f2fs -- sh -c 'workload absent /mnt/f2fs > truth'; code=$?
prefault doctor --dry-run > doctor
umount /mnt/f2fs; modprobe -r f2fs; losetup -d /dev/loop1; rm /tmp/f2fs /tmp/odd.ko; exit $code\n",
        |said, _| {
            said.expect_code(0)?;
            ensure!(said.file("kallsyms")?.contains("f2fs_file_\u{fffd}rite_iter"), "the name was not changed");
            expect_parts(&said.file("doctor")?, &["f2fs_file_\u{fffd}rite_iter [f2fs]"])?;
            exact(said)
        },
    ),
];

/// All filesystems together are what all runs of the workload did.
fn exact(said: &Said) -> Result<()> {
    let document: Document = said.json("counted.json")?;
    let sum = |sum: (u64, u64, u64), part: (u64, u64, u64)| (sum.0 + part.0, sum.1 + part.1, sum.2 + part.2);
    let truths = truths(said)?;
    let written = truths.iter().map(|truth| (truth.writes, truth.bytes, truth.absent_pages)).fold((0, 0, 0), sum);
    let counted = document.filesystems.iter();
    let counted = counted.map(|one| (one.write.calls, one.write.bytes, one.prefault.minor_faults)).fold((0, 0, 0), sum);
    ensure!(written.0 > 0 && counted == written, "writes, bytes and faults are {counted:?}, expected {written:?}");
    document.expect_no_loss()
}
