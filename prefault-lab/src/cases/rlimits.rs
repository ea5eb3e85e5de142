//! Limits of the tool's process: raised where they may be, given back to what it starts, and named where they are too low.

use anyhow::{Context as _, Result, ensure};

use super::{Case, Check, Kernels, expect_parts, expect_refusal, plain, truths};
use crate::{document::Document, guest::Said};

const fn case(name: &'static str, kernels: Kernels, script: &'static str, check: Check) -> Case {
    plain(name, kernels, 150, script, check)
}

/// Becomes a program of a user that may measure but not go beyond its limits; /proc/kcore is not for it.
macro_rules! as_another_user {
    ($script:literal) => {
        concat!(
            "sysctl -qw kernel.perf_event_paranoid=2 kernel.kptr_restrict=1; chmod 777 .
limited() {
    local caps=+bpf,+perfmon,+syslog
    exec setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps $caps --ambient-caps $caps -- prlimit \"$@\"
}
",
            $script,
            "\ncode=$?; sysctl -qw kernel.perf_event_paranoid=3 kernel.kptr_restrict=0; exit $code\n"
        )
    };
}

pub const CASES: &[Case] = &[
    case(
        "too few descriptors are named with what is needed",
        Kernels::Spread,
        "ulimit -n 64; prefault -d 1\n",
        |said, _| expect_refusal(said, &["[P019] ", "64 files open (RLIMIT_NOFILE)", "kprobes", "`ulimit -n ", "LimitNOFILE="]),
    ),
    plain(
        "what is said to be needed is enough, and doctor says the same",
        Kernels::Spread,
        // It starts nine times.
        240,
        "for n in 64 128 256; do (ulimit -n $n; prefault -d 1 > /dev/null 2>> refusals); echo $? >> codes; done
(ulimit -n 64; prefault export 2> export; prefault doctor > doctor; prefault doctor --dry-run > dry-run; prefault selftest 2> selftest)
grep -o 'takes [0-9]*' refusals | head -n 1 | cut -d ' ' -f 2 > needed
ulimit -n $(grep -o 'ulimit -n [0-9]*' refusals | head -n 1 | cut -d ' ' -f 3)
prefault -v --json -o counted.json 2> log & tool=$!
wait_until_measuring log || exit; ls /proc/$tool/fd | wc -l > used
workload absent /mnt/tmpfs > truth; kill -INT $tool; wait $tool\n",
        |said, _| {
            said.expect_code(0)?;
            let numbers = |name: &str| said.file(name)?.lines().map(|line| Ok(line.trim().parse()?)).collect();
            let codes: Vec<u64> = numbers("codes")?;
            let needed: u64 = *Result::<Vec<u64>>::from(numbers("needed"))?.first().context("no need was named")?;
            let used: u64 = *Result::<Vec<u64>>::from(numbers("used"))?.first().context("nothing was counted")?;
            let expected = [64, 128, 256].map(|limit| if limit < needed { 2 } else { 0 });
            ensure!(codes == expected, "exit codes {codes:?}, expected {expected:?} with a need of {needed}");
            // Others come and go.
            ensure!((used..used + 100).contains(&needed), "{used} descriptors are used, {needed} were said to be needed");
            let refusals = said.file("refusals")?;
            let n_refused = expected.iter().filter(|code| **code == 2).count();
            ensure!(refusals.lines().count() == n_refused, "expected {n_refused} lines, got\n{refusals}");
            for name in ["export", "doctor", "dry-run", "selftest"] {
                expect_parts(&said.file(name)?, &["RLIMIT_NOFILE", "LimitNOFILE="]).context(name)?;
            }
            exact(said)
        },
    ),
    case(
        "a soft limit of descriptors is raised, and given back to the command",
        Kernels::Reference,
        "ulimit -S -n 64; ulimit -S -l 64; ulimit -H -l 128
prefault --json -o counted.json -- bash -c 'ulimit -S -n; ulimit -H -n; ulimit -S -l; ulimit -H -l; workload absent /mnt/tmpfs > truth'
echo $?; ulimit -H -n\n",
        |said, _| {
            said.expect_code(0)?;
            let lines: Vec<&str> = said.stdout.lines().collect();
            let [soft, hard, soft_memory, hard_memory, code, own_hard] = lines[..] else {
                anyhow::bail!("unexpected output\n{}", said.stdout)
            };
            ensure!((code, soft, soft_memory, hard_memory) == ("0", "64", "64", "128"), "{lines:?}");
            ensure!(hard == own_hard, "the command's hard limit is {hard}, was {own_hard}");
            exact(said)
        },
    ),
    // Without the floor, whose descriptors are free again once it was measured.
    case(
        "a module that comes when descriptors are few is named, and measuring goes on",
        Kernels::Spread,
        "truncate --size 100M /tmp/f2fs; mkfs.f2fs -q /tmp/f2fs; modprobe loop; losetup /dev/loop1 /tmp/f2fs; mkdir -p /mnt/f2fs
(ulimit -n 64; prefault -d 1 --no-latency 2>&1) | grep -o 'takes [0-9]*' > needed
ulimit -n $(($(cut -d ' ' -f 2 needed) + 3))
prefault -v --no-latency -o report 2> log & tool=$!
wait_until_measuring log || exit; modprobe f2fs
for _ in {1..300}; do grep -q 'f2fs.* not measured' log && break; sleep 0.1; done
workload absent /mnt/tmpfs > truth; mount -t f2fs /dev/loop1 /mnt/f2fs && workload absent /mnt/f2fs > others
kill -INT $tool; wait $tool; code=$?
umount /mnt/f2fs; modprobe -r f2fs; losetup -d /dev/loop1; rm /tmp/f2fs; exit $code\n",
        |said, _| {
            said.expect_code(0)?;
            let log = said.file("log")?;
            // Together with what it needs, if that came at the same moment.
            let line = log.lines().find(|line| line.contains("f2fs") && line.contains(" not measured: "));
            expect_parts(line.with_context(|| format!("the module was not named\n{log}"))?, &["RLIMIT_NOFILE", "LimitNOFILE="])?;
            let report = said.file("report")?;
            // Of f2fs there is only what generic paths counted, if it uses any.
            expect_parts(&report, &["[f2fs] to ", "files open (RLIMIT_NOFILE)", "100 calls, 100 prefaults, "])
        },
    ),
    case(
        "without further threads it measures all the same, and the exporter says why not",
        Kernels::Reference,
        as_another_user!(
            "limited --nproc=1 prefault -v --json -o counted.json 2> log & tool=$!
wait_until_measuring log || exit; workload absent /mnt/tmpfs > truth; kill -INT $tool; wait $tool || exit
(limited --nproc=1 prefault export 2> export); [ $? = 2 ]"
        ),
        |said, _| {
            said.expect_code(0)?;
            let refusal = said.file("export")?;
            ensure!(refusal.lines().count() == 1, "expected one line, got\n{refusal}");
            expect_parts(&refusal, &["prefault: failed to start a thread", "may have 1 threads", "LimitNPROC="])?;
            exact(said)
        },
    ),
    case(
        "too little memory that may be locked is named where it counts",
        Kernels::Spread,
        as_another_user!(
            "(limited --memlock=65536 prefault -d 1 --json > document 2> refusal); echo $? > measured"
        ),
        |said, context| {
            let (code, refusal) = (said.file("measured")?, said.file("refusal")?);
            // d5299b67dd59 "bpf: Memcg-based memory accounting" is of 5.11.
            if context.kernel.version >= (5, 11) {
                ensure!((code.trim(), &*refusal) == ("0", ""), "exit code {code}{refusal}");
                return Ok(());
            }
            ensure!(code.trim() == "2" && refusal.lines().count() == 1, "exit code {code}{refusal}");
            expect_parts(&refusal, &["64 KiB of memory (RLIMIT_MEMLOCK)", "LimitMEMLOCK=infinity"])
        },
    ),
];

/// What was counted on the filesystem that was written to is what the workload did.
fn exact(said: &Said) -> Result<()> {
    let document: Document = said.json("counted.json")?;
    let truths = truths(said)?;
    let truth = truths.first().context("nothing was written")?;
    let tmpfs = document.filesystems.iter().filter(|one| one.fstype == "tmpfs");
    let found = tmpfs.map(|one| (one.write.calls, one.write.bytes)).find(|&(calls, _)| calls >= truth.writes);
    ensure!(found == Some((truth.writes, truth.bytes)), "counted {found:?}, expected {truth:?}");
    document.expect_no_loss()
}
