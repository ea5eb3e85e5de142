//! The exporter in the guest alone: counters that only grow, whatever comes and goes, and files that are always whole. What
//! Prometheus makes of it is in `tests/export`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use super::{Case, Check, Kernels, expect_refusal, plain, truths};
use crate::guest::Said;

const fn case(name: &'static str, kernels: Kernels, script: &'static str, check: Check) -> Case {
    plain(name, kernels, 150, script, check)
}

/// 0.6 to 1.7 s were seen, with three guests at once; it is more on a busier host.
const SLOWEST_SECONDS: f64 = 5.0;

/// The cases.
pub const CASES: &[Case] = &[
    case(
        "export while a module and its filesystem come and go",
        Kernels::Spread,
        "truncate --size 100M /tmp/f2fs; mkfs.f2fs -q /tmp/f2fs; modprobe loop; losetup /dev/loop1 /tmp/f2fs; mkdir -p /mnt/f2fs
begin_export -v --fstype-include f2fs
( while ! [ -e stop ]; do
    begun=$EPOCHREALTIME; scrape >> scrapes || echo failed >> failures
    awk \"BEGIN { print $EPOCHREALTIME - $begun }\" >> answered
done ) & scraper=$!
for round in 1 2 3; do
    load_module f2fs export.log && mount -t f2fs /dev/loop1 /mnt/f2fs || exit
    workload absent /mnt/f2fs >> truth
    umount /mnt/f2fs; unload_module f2fs || exit
done
touch stop; wait $scraper; scrape > last; end_export; code=$?
losetup -d /dev/loop1; rm /tmp/f2fs; exit $code
",
        |said, _| {
            said.expect_code(0)?;
            ensure!(said.file("failures").is_err(), "a scrape failed");
            let seconds: Vec<f64> = said.file("answered")?.lines().map(str::parse).collect::<Result<_, _>>()?;
            let slowest = seconds.iter().copied().fold(0.0, f64::max);
            ensure!(slowest < SLOWEST_SECONDS, "a scrape took {slowest:.1} s, probing the module was waited for");
            let counted = only_growing(&said.file("scrapes")?, "prefault_writes_total{fstype=\"f2fs\"")?;
            ensure!(counted > 0, "no scrape saw a write");
            exact(said, "f2fs")
        },
    ),
    case(
        "export while mounts come and go",
        Kernels::Reference,
        "mkdir -p /mnt/other; begin_export --with-mount-point
for round in 1 2 3; do
    mount -t ramfs none /mnt/other; workload absent /mnt/other >> truth; scrape >> scrapes; umount /mnt/other; scrape >> scrapes
done
scrape > last; end_export
",
        |said, _| {
            said.expect_code(0)?;
            only_growing(&said.file("scrapes")?, "prefault_writes_total{fstype=\"ramfs\"")?;
            ensure!(said.file("last")?.contains("mountpoint=\"/mnt/other\""), "the mount point is not there");
            exact(said, "ramfs")
        },
    ),
    // Where the kernel preempts (7.3), an exporter that read its maps by system calls was interrupted inside one now and then, and what
    // others wrote on its processor until it went on was not seen: 140 to 250 writes in 20 s of this.
    case(
        "export that is scraped all the time beside four writers",
        Kernels::Spread,
        "mkdir -p /mnt/ramfs; mount -t ramfs none /mnt/ramfs; begin_export --listen 127.0.0.1:29186
( while ! [ -e stop ]; do scrape > scraped || echo failed >> failures; echo >> scrapes; done ) & scraper=$!
workload resident --count 1000 --workers 4 --seconds 20 /mnt/ramfs /mnt/ramfs /mnt/ramfs /mnt/ramfs > truth
touch stop; wait $scraper; sleep 0.2; scrape > last; end_export; code=$?
umount /mnt/ramfs; exit $code
",
        |said, _| {
            said.expect_code(0)?;
            ensure!(said.file("failures").is_err(), "a scrape failed");
            let n_scrapes = said.file("scrapes")?.lines().count();
            ensure!(n_scrapes >= 5, "{n_scrapes} scrapes, expected more");
            exact(said, "ramfs")
        },
    ),
    // Without events there is one point for an operation.
    case(
        "export without latencies",
        Kernels::All,
        "truncate --size 100M /tmp/f2fs; mkfs.f2fs -q /tmp/f2fs; modprobe loop; losetup /dev/loop1 /tmp/f2fs; mkdir -p /mnt/f2fs
begin_export -v --no-latency
load_module f2fs export.log && mount -t f2fs /dev/loop1 /mnt/f2fs || exit
workload holes --workers 4 /mnt/ext4 /mnt/xfs /mnt/btrfs /mnt/f2fs > truth || exit
umount /mnt/f2fs; modprobe -r f2fs; scrape > last; end_export; code=$?
losetup -d /dev/loop1; rm /tmp/f2fs; exit $code
",
        |said, _| {
            said.expect_code(0)?;
            let last = said.file("last")?;
            ensure!(last.contains("\nprefault_sampling_ratio 0.0\n"), "something was timed");
            for truth in truths(said)? {
                let fstype = truth.target.file_name().unwrap_or_default().to_string_lossy();
                let expected = [truth.writes, truth.bytes, truth.absent_pages];
                let counted = counted(&last, &fstype);
                ensure!(counted == expected, "{fstype}: counted {counted:?}, expected {expected:?}");
            }
            expect_no_loss(&last)
        },
    ),
    case(
        "export of more filesystems than series",
        Kernels::Reference,
        "begin_export --sample 4 --max-series-filesystems 1 --fstype-exclude 'tmpfs|ext[23]'
workload resident /mnt/ext4 > truth; workload resident /mnt/xfs /mnt/btrfs /mnt/tmpfs > others
scrape > last; end_export
",
        |said, _| {
            exact(said, "ext4")?;
            let last = said.file("last")?;
            let other = sum(&last, "prefault_writes_total", "other");
            ensure!(other == 200, "{other} writes are other, expected 200");
            ensure!(last.contains("\nprefault_series_over_limit 2"), "two filesystems are beyond the limit");
            ensure!(!last.contains("tmpfs"), "tmpfs is excluded");
            ensure!(last.contains("\nprefault_sampling_ratio 0.25\n"), "one write in four is timed");
            let timed = sum(&last, "prefault_write_duration_seconds_count", "ext4");
            ensure!((1..100).contains(&timed), "{timed} of 100 writes were timed");
            said.expect_code(0)
        },
    ),
    // All slots are taken by one who may mount nothing but his own: what comes after that is seen to be without one.
    case(
        "export of more filesystems than slots",
        Kernels::All,
        "begin_export --fstype ext4 --fstype tmpfs --fstype xfs
scrape > first
setpriv --reuid 65534 --regid 65534 --clear-groups unshare --user --map-root-user --mount sh -c '
for n in $(seq 70); do mount -t tmpfs none /mnt && echo written > /mnt/file || exit; done' || exit
workload resident --workers 4 /mnt/ext4 /mnt/xfs > truth; scrape > last; end_export
",
        |said, _| {
            said.expect_code(0)?;
            ensure!(said.file("first")?.contains("\nprefault_filesystems_without_slot 0"), "something has no slot yet");
            let last = said.file("last")?;
            let value = |metric: &str| {
                let line = last.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
                line.and_then(|value| value.parse::<f64>().ok()).with_context(|| format!("there is no {metric}"))
            };
            // Of 70, and of ext4 and xfs, 64 have one, or fewer where something else had been written to.
            let without = value("prefault_filesystems_without_slot")?;
            ensure!((8.0..12.0).contains(&without), "{without} filesystems are without a slot");
            ensure!(value("prefault_series_over_limit")? == 0.0, "one has a slot and no series");
            let written: u64 = truths(said)?.iter().map(|truth| truth.writes).sum();
            let (own, other) = (
                sum(&last, "prefault_writes_total", "ext4") + sum(&last, "prefault_writes_total", "xfs"),
                sum(&last, "prefault_writes_total", "other"),
            );
            ensure!(own == 0 && other >= written + 6, "{own} writes have series, {other} are other, of {written}");
            expect_no_loss(&last)
        },
    ),
    case(
        "textfile on a disk that is full for a while",
        Kernels::Reference,
        "mkdir -p /mnt/small; mount -t tmpfs -o size=200k,uid=65520 none /mnt/small
prefault export --textfile /mnt/small/prefault.prom -i 0.2 --fstype ext4 2> log & tool=$!
wait_for_file /mnt/small/prefault.prom || exit
head -c 200k /dev/zero > /mnt/small/full; sleep 1; cp /mnt/small/prefault.prom before
workload resident /mnt/ext4 > truth; sleep 1; cmp before /mnt/small/prefault.prom || echo changed > failures
rm /mnt/small/full; sleep 1; cp /mnt/small/prefault.prom last
kill $tool; wait $tool; code=$?; ls /mnt/small > left; umount /mnt/small; exit $code
",
        |said, _| {
            said.expect_code(0)?;
            ensure!(said.file("failures").is_err(), "the file changed while the disk was full");
            let log = said.file("log")?;
            let complaints = log.lines().filter(|line| line.contains("No space left")).count();
            ensure!(complaints == 1, "{complaints} complaints, expected one\n{log}");
            ensure!(said.file("left")?.is_empty(), "left behind: {}", said.file("left")?);
            exact(said, "ext4")
        },
    ),
    case(
        "export to a folder that is not there",
        Kernels::Reference,
        "prefault export --textfile /nonexistent/prefault.prom\n",
        |said, _| expect_refusal(said, &["/nonexistent/prefault.prom"]),
    ),
];

/// Demands that the last scrape has what the workload did to one filesystem type.
fn exact(said: &Said, fstype: &str) -> Result<()> {
    let last = said.file("last")?;
    let truths = truths(said)?;
    let sums = truths
        .iter()
        .fold((0, 0, 0), |sum, truth| (sum.0 + truth.writes, sum.1 + truth.bytes, sum.2 + truth.absent_pages));
    let counted = counted(&last, fstype);
    ensure!(sums.0 > 0 && counted == [sums.0, sums.1, sums.2], "counted {counted:?}, expected {sums:?}");
    expect_no_loss(&last)
}

/// Writes, bytes and page faults of prefaults.
fn counted(metrics: &str, fstype: &str) -> [u64; 3] {
    ["prefault_writes_total", "prefault_write_bytes_total", "prefault_prefault_page_faults_total"]
        .map(|metric| sum(metrics, metric, fstype))
}

fn expect_no_loss(metrics: &str) -> Result<()> {
    let loss: Vec<&str> = losses(metrics).filter(|line| !line.contains("before_start")).collect();
    ensure!(loss.is_empty(), "{}", loss.join("\n"));
    Ok(())
}

/// The samples that say that something was missed.
pub fn losses(metrics: &str) -> impl Iterator<Item = &str> {
    let of_loss = |line: &&str| {
        ["prefault_loss_total{", "prefault_uncopied_bytes_total "].iter().any(|name| line.starts_with(name))
    };
    let is_zero = |line: &&str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()) == Some(0.0);
    metrics.lines().filter(of_loss).filter(move |line| !is_zero(line))
}

/// Sum of the samples of a metric with that filesystem type.
pub fn sum(text: &str, metric: &str, fstype: &str) -> u64 {
    let label = format!("fstype=\"{fstype}\"");
    let samples = text.lines().filter_map(|line| line.strip_prefix(metric)?.strip_prefix('{')?.split_once("} "));
    samples.filter(|(labels, _)| labels.contains(&label)).filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
}

/// Demands that no sample of those that begin so is ever less than before; the result is the last value.
///
/// # Errors
/// When one is, or a line is no sample.
pub fn only_growing(scrapes: &str, begin: &str) -> Result<u64> {
    let mut values: BTreeMap<&str, u64> = BTreeMap::new();
    for line in scrapes.lines().filter(|line| line.starts_with(begin)) {
        let (sample, value) = line.rsplit_once(' ').context("a sample without a value")?;
        let value = value.parse().with_context(|| format!("failed to read {line}"))?;
        let before = values.insert(sample, value).unwrap_or(0);
        ensure!(value >= before, "{sample} went from {before} to {value}");
    }
    Ok(values.values().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_and_watched() {
        let text =
            "a{fstype=\"x\",device=\"1\"} 3\na{fstype=\"x\",device=\"2\"} 4\nab{fstype=\"x\"} 9\na{fstype=\"y\"} 9\n";
        assert_eq!(sum(text, "a", "x"), 7);
        assert_eq!(only_growing(text, "a{fstype=\"x\"").expect("growing"), 7);
        assert!(only_growing("a 2\na 1\n", "a").is_err());
    }
}
