//! Points that a switch of the host silences, callers that the tool does not understand, and a clock that times nothing: what is
//! not seen is said, and what is seen is exact.

use anyhow::{Context as _, Result, ensure};

use super::{Boot, Case, Context, Group, Kernels, expect_parts, expect_refusal, plain, truths};
use crate::{
    document::{Document, total},
    guest::Said,
    matrix::kernels::Span,
    truth::Truth,
};

/// Paths are probed by fentry and fexit where kernel code is not preempted and BPF programs have cookies (5.10 has none of
/// Debian's; its kernels preempt from 6.16 on).
const HAS_TRAMPOLINES: Span = Span::between((5, 19), (6, 16));

/// A kernel that cannot be without ftrace refuses the switch (EOPNOTSUPP; seen on 7.3, not on 6.18).
const CAN_DO_WITHOUT_FTRACE: Span = Span::before((7, 0));

/// Of the phases in the script below, by the number of their document.
const WITH_FTRACE: usize = 0;
const FTRACE_WENT: usize = 1;
const WITHOUT_FTRACE: usize = 2;
const FTRACE_CAME: usize = 3;
const WITH_FTRACE_AGAIN: usize = 4;
const KPROBES_WENT: usize = 5;
const WITHOUT_KPROBES: usize = 6;
const WITH_KPROBES_AGAIN: usize = 8;
const DOCUMENTS: usize = 10;

pub const CASES: &[Case] = &[
    plain(
        "kprobes switched off before the start",
        Kernels::All,
        60,
        "echo 0 > /sys/kernel/debug/kprobes/enabled; prefault doctor > doctor; echo $? > doctors_code; prefault -d 1; code=$?
echo 1 > /sys/kernel/debug/kprobes/enabled; exit $code\n",
        |said, _| {
            expect_refusal(said, &["[P005] /sys/kernel/debug/kprobes/enabled is 0", "echo 1 >"])?;
            expect_parts(&said.file("doctor")?, &["problem: [P005] /sys/kernel/debug/kprobes/enabled is 0", "cannot measure here"])?;
            expect_parts(&said.file("doctors_code")?, &["1\n"])
        },
    ),
    plain(
        "ftrace switched off before the start",
        Kernels::All,
        120,
        "sysctl -qw kernel.ftrace_enabled=0 2> refused; prefault doctor --dry-run > doctor
prefault --json -o counted.json -- sh -c 'workload absent /mnt/ext4 /mnt/tmpfs > truth'; code=$?
prefault --mechanism fentry -d 1 2> fentry; echo $? > fentrys_code; sysctl -qw kernel.ftrace_enabled=1; exit $code\n",
        |said, context| {
            said.expect_code(0)?;
            let is_off = CAN_DO_WITHOUT_FTRACE.contains(context.kernel.version);
            ensure!(said.file("refused")?.is_empty() == is_off, "the switch is refused: {}", said.file("refused")?);
            let says_so = said.file("doctor")?.contains("ftrace: [P037] kernel.ftrace_enabled is 0");
            ensure!(says_so == is_off, "doctor says that ftrace is off, expected: {is_off}\n{}", said.file("doctor")?);
            // Where it would not run, and where it would miss calls.
            expect_parts(&said.file("fentrys_code")?, &["2\n"])?;
            ensure!(said.file("fentry")?.lines().count() == 1, "expected one line, got\n{}", said.file("fentry")?);
            exact(&said.json("counted.json")?, &truths(said)?)
        },
    ),
    plain(
        "switches thrown while it measures",
        Kernels::All,
        240,
        "cat > phases << 'END'
mark() {
    local before
    before=$(wc -l < documents); kill -USR1 $PPID
    until [ \"$(wc -l < documents)\" -gt \"$before\" ]; do sleep 0.05; done
}
said() { for _ in {1..100}; do grep -q \"$1\" log && return; sleep 0.1; done; }
phase() { workload absent /mnt/ext4 /mnt/tmpfs >> truth || exit; mark; }
phase
sysctl -qw kernel.ftrace_enabled=0 2> /dev/null; [ $1 = trampolines ] && said 'by kprobes from now on'; sleep 0.5; mark
phase
sysctl -qw kernel.ftrace_enabled=1; sleep 0.5; mark
phase
echo 0 > /sys/kernel/debug/kprobes/enabled; said 'kprobes/enabled is 0'; mark
phase
echo 1 > /sys/kernel/debug/kprobes/enabled; said 'kprobes_off: over'; mark
phase
END
prefault doctor --dry-run | grep -q fentry/fexit && how=trampolines
prefault --json -o documents -- bash phases ${how:-kprobes} 2> log\n",
        thrown,
    ),
    plain(
        "exporter whose kprobes are switched off",
        Kernels::Spread,
        120,
        "begin_export; echo 0 > /sys/kernel/debug/kprobes/enabled; sleep 0.3; scrape > blind
echo 1 > /sys/kernel/debug/kprobes/enabled; sleep 0.3; scrape > seeing; end_export\n",
        |said, _| {
            said.expect_code(0)?;
            expect_parts(&said.file("blind")?, &["\nprefault_up 0"])?;
            let seeing = said.file("seeing")?;
            expect_parts(&seeing, &["\nprefault_up 1", "\nprefault_silenced_seconds_total{cause=\"ftrace_off\"} 0"])?;
            let silenced = seeing.lines().find_map(|line| {
                line.strip_prefix("prefault_silenced_seconds_total{cause=\"kprobes_off\"} ")?.parse::<f64>().ok()
            });
            ensure!(silenced.is_some_and(|seconds| seconds > 0.2 && seconds < 60.0), "{silenced:?} s without kprobes");
            expect_parts(&said.file("export.log")?, &["so that no kprobe runs: echo 1 >", "kprobes_off: over"])
        },
    ),
    // A module whose types cannot be read: nothing is known of its functions but their names.
    plain(
        "callers that are not understood",
        Kernels::Reference,
        120,
        "mount --bind /dev/null /sys/kernel/btf/btrfs; prefault doctor --dry-run > doctor
prefault --json -o counted.json -- sh -c 'workload absent /mnt/btrfs > truth' 2> log; code=$?
prefault -o report -- workload absent /mnt/btrfs > /dev/null 2>> log; umount /sys/kernel/btf/btrfs; exit $code\n",
        not_understood,
    ),
    Case {
        name: "clock that counts ticks",
        kernels: Kernels::Reference,
        boot: Boot::CoarseClock,
        group: Group::Core,
        limit_seconds: 120,
        script: "cat /sys/devices/system/clocksource/clocksource0/current_clocksource > source; prefault doctor > doctor
prefault --json -o counted.json -- sh -c 'workload absent /mnt/ext4 /mnt/tmpfs > truth' || exit
prefault -o report -- workload absent /mnt/ext4 > /dev/null\n",
        check: coarse_clock,
    },
];

/// Demands that writes, bytes and faults on ext4 and tmpfs are those of `truths`, and nothing lost.
fn exact(document: &Document, truths: &[Truth]) -> Result<()> {
    document.expect_no_loss()?;
    for (fstype, truth) in ["ext4", "tmpfs"].into_iter().zip(truths) {
        let counted = document.filesystem(fstype)?;
        let is = (counted.write.calls, counted.write.bytes, counted.prefault.minor_faults);
        let expected = (truth.writes, truth.bytes, truth.absent_pages);
        ensure!(truth.writes > 0 && is == expected, "{fstype}: counted {is:?}, expected {expected:?}");
    }
    Ok(())
}

fn thrown(said: &Said, context: &Context) -> Result<()> {
    said.expect_code(3)?;
    let lines = said.file("documents")?;
    let documents: Result<Vec<Document>, _> = lines.lines().map(serde_json::from_str).collect();
    let documents = documents.context("failed to read a document")?;
    ensure!(documents.len() == DOCUMENTS, "{} documents, expected {DOCUMENTS}", documents.len());
    let truths = truths(said)?;
    let of_phase = |phase: usize| &truths[2 * phase..];
    for (document, phase) in [(WITH_FTRACE, 0), (WITHOUT_FTRACE, 1), (WITH_FTRACE_AGAIN, 2), (WITH_KPROBES_AGAIN, 4)] {
        exact(&documents[document], of_phase(phase)).with_context(|| format!("document {document}"))?;
    }
    let lost = |document: usize, reason: &str| documents[document].loss.get(reason).copied().unwrap_or_default();
    let has_trampolines = HAS_TRAMPOLINES.contains(context.kernel.version);
    ensure!(
        (lost(FTRACE_WENT, "ftrace_off_ns") > 0) == has_trampolines,
        "ftrace mattered, expected: {has_trampolines}"
    );
    ensure!(lost(FTRACE_CAME, "ftrace_off_ns") == 0, "ftrace still mattered when it came back");
    documents[FTRACE_WENT].expect_no_loss_but("ftrace_off_ns")?;
    ensure!(lost(KPROBES_WENT, "kprobes_off_ns") > 0, "nobody noticed that kprobes were off");
    let blind = &documents[WITHOUT_KPROBES];
    ensure!(lost(WITHOUT_KPROBES, "kprobes_off_ns") > 0, "nobody noticed that kprobes were still off");
    ensure!(blind.filesystems.iter().all(|of| of.copy.calls == 0), "copies were counted without kprobes");
    Ok(())
}

fn not_understood(said: &Said, _: &Context) -> Result<()> {
    said.expect_code(0)?;
    let document: Document = said.json("counted.json")?;
    let truth = truths(said)?;
    let lost = |reason: &str| document.loss.get(reason).copied().unwrap_or_default();
    // One prefault and one copy for each write of a page.
    let (prefaults, copies) = (lost("prefault_unattributed"), lost("copy_unattributed"));
    let writes = truth[0].writes;
    ensure!(
        (prefaults, copies) == (writes, writes),
        "{prefaults} prefaults and {copies} copies lost, of {writes} each"
    );
    let counted: u64 = document.filesystems.iter().filter(|of| of.fstype == "btrfs").map(|of| of.write.calls).sum();
    ensure!(counted == 0, "{counted} writes to btrfs were counted all the same");
    let named = ["[P029] btrfs_buffered_write is not understood", "its calls are counted as lost"];
    expect_parts(&said.file("doctor")?, &named)?;
    expect_parts(
        &said.file("log")?,
        &["[P029] btrfs_buffered_write calls the prefault or the copy and is not understood"],
    )?;
    let report = said.file("report")?;
    let line = report.lines().find(|line| line.contains("prefaults by callers that are not understood: "));
    ensure!(line.is_some_and(|line| line.contains("btrfs_buffered_write")), "no name in the loss:\n{report}");
    Ok(())
}

fn coarse_clock(said: &Said, _: &Context) -> Result<()> {
    said.expect_code(0)?;
    ensure!(said.file("source")?.trim_end() == "jiffies", "the clock source is {}", said.file("source")?);
    expect_parts(
        &said.file("doctor")?,
        &["clock: [P035] this machine's clock advances in steps of 4.00 ms: nothing is timed"],
    )?;
    let document: Document = said.json("counted.json")?;
    exact(&document, &truths(said)?)?;
    let step_ns = document.clock_step_ns.context("the document has no step")?;
    ensure!((3_900_000..4_100_000).contains(&step_ns), "a step of {step_ns} ns, expected 4 ms");
    ensure!(document.timed_one_in.is_none() && document.floor.is_none(), "something was timed: {document:?}");
    ensure!(document.filesystems.iter().all(|of| total(&of.write.buckets) == 0), "there are latencies");
    let report = said.file("report")?;
    expect_parts(&report, &["this machine's clock advances in steps of 4.00 ms"])?;
    ensure!(!report.contains("p99"), "latencies are shown:\n{report}");
    Ok(())
}
