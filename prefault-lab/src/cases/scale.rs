//! Many filesystems, many tasks, and a long time with everything changing at once.

use anyhow::{Result, ensure};

use super::{Boot, Case, Context, Group, Kernels, truths};
use crate::{document::Document, guest::Said};

/// Each short copy is an event, and there are more than anybody could read: what is counted is complete all the same.
const EVENTS: &str = "event_dropped";

pub const CASES: &[Case] = &[
    Case {
        name: "1000 filesystems and 256 tasks",
        kernels: Kernels::Reference,
        boot: Boot::Plain,
        group: Group::Core,
        limit_seconds: 240,
        script: "many=/mnt/many; mkdir -p $many/{1..1000}
for number in {1..1000}; do echo \"none $many/$number tmpfs size=1M 0 0\"; done > fstab
mount --all --fstab ./fstab
prefault --json -o counted.json -- workload absent --count 10 --workers 256 $many/* > truth
code=$?; umount $many/*; exit $code
",
        check: |said, _| {
            let document = everything(said)?;
            let other = document.filesystem("other")?;
            let n_slots = document.filesystems.len() as u64 - 1;
            let expected = (1000 - n_slots) * 10;
            ensure!(other.write.calls == expected, "{} writes in other, expected {expected}", other.write.calls);
            document.expect_no_loss()
        },
    },
    Case {
        name: "writers that are moved from processor to processor",
        kernels: Kernels::All,
        boot: Boot::Plain,
        group: Group::Core,
        limit_seconds: 150,
        script: "prefault --json -o counted.json -- sh -c '
workload holes --count 5 --workers 4 --seconds 15 /mnt/ext4 /mnt/xfs /mnt/btrfs /mnt/tmpfs > truth & writers=$!
while kill -0 $writers 2> /dev/null; do
    for task in /proc/$writers/task/*; do taskset -p -c $((round % 2)) ${task##*/} > /dev/null 2>&1; round=$((round + 1)); done
    echo round >> rounds
done
wait $writers'\n",
        check: |said, context| {
            let n_rounds = said.file("rounds")?.lines().count();
            ensure!(n_rounds >= 3, "{n_rounds} rounds of moving, expected at least 3");
            stress(said, context)
        },
    },
    Case {
        name: "two writers per filesystem for a minute, a module and a processor coming and going",
        kernels: Kernels::Spread,
        boot: Boot::Plain,
        group: Group::Core,
        limit_seconds: 150,
        script: "cpu=/sys/devices/system/cpu/cpu1/online
prefault --json -o counted.json -- sh -c '
workload holes --count 5 --workers 8 --seconds 60 /mnt/ext4 /mnt/xfs /mnt/btrfs /mnt/tmpfs > truth & writers=$!
while kill -0 $writers 2> /dev/null; do
    modprobe f2fs; echo 0 > $0; sleep 1; modprobe -r f2fs; echo 1 > $0; sleep 1; echo round >> rounds
done
wait $writers' $cpu\n",
        check: |said, context| {
            let n_rounds = said.file("rounds")?.lines().count();
            ensure!(n_rounds >= 2, "{n_rounds} rounds of changes, expected at least 2");
            stress(said, context)
        },
    },
];

/// The document, whose writes are those that all lines of the truth add up to, less those it says are lost.
fn everything(said: &Said) -> Result<Document> {
    said.expect_code(0)?;
    let document: Document = said.json("counted.json")?;
    let mut expected = (0, 0);
    for truth in truths(said)? {
        expected = (expected.0 + truth.writes, expected.1 + truth.absent_pages);
    }
    let counted = document
        .filesystems
        .iter()
        .fold((0, 0), |sum, counted| (sum.0 + counted.write.calls, sum.1 + counted.prefault.minor_faults));
    let lost = |reason: &str| document.loss.get(reason).copied().unwrap_or_default();
    let lost_writes = lost("write_enter") + lost("write_leave");
    ensure!(
        counted.0 + lost_writes == expected.0,
        "{} writes counted and {lost_writes} lost, expected {} in all",
        counted.0,
        expected.0
    );
    // Of a prefault whose runs were skipped the faults are not known; there are no more than were taken.
    let is_complete = document.expect_no_loss_but(EVENTS).is_ok();
    let is_right = if is_complete { counted.1 == expected.1 } else { counted.1 <= expected.1 };
    ensure!(is_right, "{} faults, expected {}", counted.1, expected.1);
    Ok(document)
}

fn stress(said: &Said, _: &Context) -> Result<()> {
    let document = everything(said)?;
    let lost = |reason: &str| document.loss.get(reason).copied().unwrap_or_default();
    let skipped = lost("kernel_missed_runs");
    if skipped == 0 {
        return document.expect_no_loss_but(EVENTS);
    }
    // Anything but what the kernel itself skipped would be a mistake of ours: a run that it skipped is at most two halves of pairs.
    let pairs = ["write_enter", "write_leave", "prefault_begin", "prefault_end", "copy_begin", "copy_end"];
    let halves: u64 = pairs.into_iter().map(lost).sum();
    ensure!(halves <= 2 * skipped, "{halves} halves of pairs are missing, and the kernel skipped {skipped} runs");
    for reason in
        ["no_context", "too_deep", "no_filesystem", "not_followed", "prefault_unattributed", "copy_unattributed"]
    {
        ensure!(lost(reason) == 0, "{reason} {}", lost(reason));
    }
    Ok(())
}
