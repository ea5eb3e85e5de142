//! Writes that fail, by what they fail with: each class of error is provoked so many times, and nothing else.

use anyhow::{Result, ensure};

use super::{Case, Context, Kernels, plain};
use crate::{
    document::{Document, Write},
    guest::Said,
};

/// Writes that the device fails, and writes to a filesystem whose server is gone.
const FAILED_BY_DEVICE: u64 = 4;
const WITHOUT_SERVER: u64 = 5;

/// A page of a file is to be read for a write of one byte, from a disk that has become shorter than its filesystem. A server of FUSE
/// is killed.
pub const CASES: &[Case] = &[plain(
    "writes by what they failed with",
    Kernels::Spread,
    120,
    r#"modprobe loop; modprobe fuse
mkdir -p /mnt/short /mnt/served /srv/served; truncate --size 64M /tmp/image
mkfs.ext4 -q -b 4096 -O ^has_journal -E nodiscard /tmp/image; mount -o loop /tmp/image /mnt/short
dd if=/dev/zero of=/mnt/short/file bs=1M count=40 status=none; sync; truncate --size 8M /tmp/image
mount -t tmpfs none /srv/served; mkdir /srv/served/{lower,upper,work}
fuse-overlayfs -f -o lowerdir=/srv/served/lower,upperdir=/srv/served/upper,workdir=/srv/served/work,writeback=0 /mnt/served & server=$!
for try in {1..100}; do mountpoint --quiet /mnt/served && break; sleep 0.1; done
cat > failing << 'END'
echo 3 > /proc/sys/vm/drop_caches
for n in 1 2 3 4; do
    printf x | dd of=/mnt/short/file bs=1 seek=$(((35 + n) * 1024 * 1024 + 5)) conv=notrunc status=none && echo written >> wrong
done
exec 3<> /mnt/served/file
echo x >&3
kill -KILL $SERVER; sleep 0.5
for n in 1 2 3 4 5; do head --bytes=4096 /dev/zero >&3 && echo written >> wrong; done
exit 0
END
SERVER=$server prefault --json -o counted.json -- bash failing 2> said
code=$?; umount -l /mnt/served /mnt/short /srv/served; exit $code
"#,
    exact,
)];

fn exact(said: &Said, context: &Context) -> Result<()> {
    said.expect_code(0)?;
    // The loop device of 5.10 reads zeros there (drivers/block/loop.c, lo_complete_rq).
    let failed_by_device = if context.kernel.version < (6, 1) { 0 } else { FAILED_BY_DEVICE };
    let n_written = said.file("wrong").map_or(0, |text| text.lines().count() as u64);
    ensure!(n_written == FAILED_BY_DEVICE - failed_by_device, "{n_written} writes succeeded");
    let document: Document = said.json("counted.json")?;
    for (fstype, expected) in [("ext4", [0, 0, 0, 0, failed_by_device, 0]), ("fuse", [0, 0, 0, 0, 0, WITHOUT_SERVER])] {
        let Write {
            error_again, error_interrupted, error_fault, error_no_space, error_io, error_other, errors, ..
        } = document.filesystem(fstype)?.write;
        let is = [error_again, error_interrupted, error_fault, error_no_space, error_io, error_other];
        ensure!(is == expected, "{fstype} failed with {is:?}, expected {expected:?}");
        ensure!(errors == expected.iter().sum::<u64>(), "{errors} writes to {fstype} failed");
    }
    document.expect_no_loss()
}
