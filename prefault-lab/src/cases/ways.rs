//! Counts are the same by whichever mechanism, and whichever writes are timed.

use anyhow::{Context as _, Result, ensure};

use super::{Boot, Case, Check, Context, Group, Kernels, expect_parts, expect_refusal, plain, truths};
use crate::{
    document::{Document, total},
    guest::Said,
};

const fn case(name: &'static str, script: &'static str, check: Check) -> Case {
    plain(name, Kernels::All, 240, script, check)
}

pub const CASES: &[Case] = &[
    case(
        "self-test by fentry",
        "prefault selftest --mechanism fentry /mnt/ext4 /mnt/xfs /mnt/btrfs /mnt/tmpfs\n",
        fentry,
    ),
    case(
        "self-test by optimised kprobes",
        "prefault selftest --mechanism optimised /mnt/ext4 /mnt/xfs /mnt/btrfs /mnt/tmpfs\n",
        exact,
    ),
    case(
        "self-test by kprobes that trap",
        "prefault selftest --mechanism trap /mnt/ext4 /mnt/xfs /mnt/btrfs /mnt/tmpfs\n",
        exact,
    ),
    case(
        "self-test without latencies",
        "prefault selftest --no-latency /mnt/ext4 /mnt/xfs /mnt/btrfs /mnt/tmpfs\n",
        exact,
    ),
    // A loop of btrfs_direct_write is entered by a jump to behind its prefault.
    case(
        "direct writes",
        "prefault --json -o counted.json -- sh -c 'for mounted in /mnt/ext4 /mnt/xfs /mnt/btrfs; do
dd if=/dev/zero of=$mounted/direct bs=64k count=10 oflag=direct 2>> log || exit; done'\n",
        |said, _| {
            said.expect_code(0)?;
            let document: Document = said.json("counted.json")?;
            for counted in
                document.filesystems.iter().filter(|counted| ["ext4", "xfs"].contains(&counted.fstype.as_str()))
            {
                ensure!(counted.write.calls == 0, "{} writes of {} are none", counted.write.calls, counted.fstype);
            }
            // Where its data has checksums, btrfs copies all the same (from 6.15 on).
            for counted in document.filesystems.iter().filter(|counted| counted.fstype == "btrfs") {
                let (calls, direct) = (counted.write.calls, counted.write.direct);
                ensure!(calls == direct, "{calls} writes of btrfs, {direct} of them to a file opened with O_DIRECT");
            }
            document.expect_no_loss()
        },
    ),
    Case {
        name: "direct writes where the same path copies",
        kernels: Kernels::All,
        boot: Boot::Plain,
        group: Group::Further,
        limit_seconds: 240,
        script: "prefault --json -o counted.json -- sh -c 'for mounted in /mnt/ntfs3 /mnt/ntfs /mnt/bcachefs; do
mountpoint -q $mounted || continue
dd if=/dev/zero of=$mounted/direct bs=64k count=10 oflag=direct 2>> log || exit
dd if=/dev/zero of=$mounted/buffered bs=64k count=10 2>> log; echo $mounted >> written; done'\n",
        check: direct_in_a_path_that_copies,
    },
    case(
        "one write in ten timed",
        "prefault --sample 10 --json -o counted.json -- sh -c 'workload --count 4000 resident /mnt/tmpfs > truth'\n",
        |said, _| {
            let (document, writes) = counted(said)?;
            ensure!(document.timed_one_in == Some(10), "{:?}", document.timed_one_in);
            let tmpfs = document.filesystem("tmpfs")?;
            // One in ten at random: six standard deviations of the binomial distribution off is once in 10^9 runs.
            let deviation = (writes as f64 * 0.1 * 0.9).sqrt();
            let timed = total(&tmpfs.write.buckets);
            let off = (timed as f64 - writes as f64 * 0.1) / deviation;
            ensure!(off.abs() < 6.0, "{timed} of {writes} writes were timed, {off:+.1} standard deviations off");
            // A write is timed whole.
            let copies = total(&tmpfs.copy.buckets) as f64 / timed as f64;
            let of_all = tmpfs.copy.calls as f64 / writes as f64;
            ensure!(
                (copies - of_all).abs() < 1e-9,
                "{copies} timed copies in a timed write, {of_all} copies in a write"
            );
            Ok(())
        },
    ),
    case(
        "nothing timed",
        "prefault --no-latency --json -o counted.json -- sh -c 'workload absent /mnt/tmpfs > truth'\n",
        |said, _| {
            let (document, _) = counted(said)?;
            ensure!(document.timed_one_in.is_none(), "{:?}", document.timed_one_in);
            let tmpfs = document.filesystem("tmpfs")?;
            let timed =
                [&tmpfs.write.buckets, &tmpfs.prefault.buckets, &tmpfs.copy.buckets].map(|buckets| total(buckets));
            ensure!(timed == [0; 3], "{timed:?} latencies");
            Ok(())
        },
    ),
];

/// Filesystems with a path of their own for both.
const COPY_DIRECT_IO: [&str; 3] = ["ntfs3", "ntfs", "bcachefs"];

/// Only the buffered writes are counted. Debian's kernels have such a filesystem from 6.12 on.
fn direct_in_a_path_that_copies(said: &Said, context: &Context) -> Result<()> {
    said.expect_code(0)?;
    let document: Document = said.json("counted.json")?;
    document.expect_no_loss()?;
    let n_written = said.file("written").unwrap_or_default().lines().count();
    ensure!(n_written > 0 || context.kernel.version < (6, 12), "nothing was written");
    let of_them = document.filesystems.iter().filter(|counted| COPY_DIRECT_IO.contains(&counted.fstype.as_str()));
    let writes: u64 = of_them.map(|filesystem| filesystem.write.calls).sum();
    ensure!(writes == 10 * n_written as u64, "{writes} writes on {n_written} filesystems, expected 10 on each");
    Ok(())
}

fn exact(said: &Said, _: &Context) -> Result<()> {
    said.expect_code(0)?;
    let exact = said.stdout.lines().filter(|line| line.starts_with("/mnt/") && line.ends_with("exact")).count();
    // Eight kinds of writes to each.
    ensure!(exact == 32, "{exact} exact rows, expected 32\n{}", said.stdout);
    expect_parts(&said.stdout, &["all counts are exact"])
}

/// Where kernel code is preempted fentry would not be exact; 5.10 does not say, and has no cookies for it either.
fn fentry(said: &Said, context: &Context) -> Result<()> {
    let preempts = context.kernel.version >= (6, 16) || context.series.ends_with("-rt");
    if preempts {
        expect_refusal(said, &["[P017] --mechanism fentry", "preempts"])
    } else if context.kernel.version < (5, 19) {
        expect_refusal(said, &["[P020] --mechanism fentry", "cookies"])
    } else {
        exact(said, context)
    }
}

/// The document, after its counts were compared with what the workload did; and the number of writes.
fn counted(said: &Said) -> Result<(Document, u64)> {
    said.expect_code(0)?;
    let document: Document = said.json("counted.json")?;
    document.expect_no_loss()?;
    let truth = truths(said)?.into_iter().next().context("the workload said nothing")?;
    let tmpfs = document.filesystem("tmpfs")?;
    let is = (tmpfs.write.calls, tmpfs.write.bytes);
    ensure!(is == (truth.writes, truth.bytes) && is.0 > 0, "{is:?} writes and bytes counted, {truth:?}");
    Ok((document, truth.writes))
}
