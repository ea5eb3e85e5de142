//! Bad places and bad input: one line that names the reason, and exit code 2; and places that are good enough.

use anyhow::{Result, ensure};

use super::{Boot, Case, Context, Group, Kernels, expect_parts, expect_refusal};
use crate::guest::Said;

const fn case(name: &'static str, boot: Boot, script: &'static str, check: fn(&Said, &Context) -> Result<()>) -> Case {
    Case { name, kernels: Kernels::Reference, boot, group: Group::Core, limit_seconds: 60, script, check }
}

pub const CASES: &[Case] = &[
    case(
        "not root",
        Boot::Plain,
        "setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all prefault -d 1\n",
        |said, _| expect_refusal(said, &["[P001] missing CAP_SYSLOG", "CAP_BPF", "CAP_PERFMON"]),
    ),
    case(
        "root without one capability",
        Boot::Plain,
        "setpriv --inh-caps=-syslog --bounding-set=-syslog prefault -d 1\n",
        |said, _| {
            expect_refusal(said, &["CAP_SYSLOG"])?;
            ensure!(!said.stderr.contains("CAP_BPF"), "names a capability that is there: {}", said.stderr);
            Ok(())
        },
    ),
    case(
        "not root, but with the capabilities",
        Boot::Plain,
        "caps=+syslog,+bpf,+perfmon,+dac_read_search,+sys_admin
setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=$caps --ambient-caps=$caps prefault -d 1\n",
        |said, _| {
            said.expect_code(0)?;
            expect_parts(&said.stdout, &["measured for ", "loss: none"])
        },
    ),
    case("unknown argument", Boot::Plain, "prefault --frobnicate\n", |said, _| {
        ensure!(said.code == 2, "exit code {}, expected 2", said.code);
        expect_parts(&said.stderr, &["--frobnicate"])
    }),
    case(
        "no BTF",
        Boot::Plain,
        "unshare --mount sh -c 'mount -t tmpfs none /sys/kernel/btf && exec prefault -d 1'\n",
        |said, _| expect_refusal(said, &["[P010] ", "BTF"]),
    ),
    case(
        "kernel addresses hidden by kptr_restrict",
        Boot::Plain,
        "echo 2 > /proc/sys/kernel/kptr_restrict; prefault -d 1; code=$?; echo 0 > /proc/sys/kernel/kptr_restrict; exit $code\n",
        |said, _| expect_refusal(said, &["[P009] ", "kallsyms", "kptr_restrict"]),
    ),
    case(
        "kernel addresses hidden by a mount",
        Boot::Plain,
        "sed 's/^[0-9a-f]*/0000000000000000/' /proc/kallsyms > hidden
unshare --mount sh -c 'mount --bind hidden /proc/kallsyms && exec prefault -d 1'\n",
        |said, _| expect_refusal(said, &["[P009] ", "kallsyms"]),
    ),
    case(
        "kcore hidden",
        Boot::Plain,
        // Attached once; what that takes, and what the kernel makes of it, is not the same twice.
        "prefault doctor --dry-run > with
unshare --mount sh -c 'mount --bind /dev/null /proc/kcore
prefault doctor > /dev/null && exec prefault doctor --dry-run' > without\n",
        |said, _| {
            said.expect_code(0)?;
            let [with, without] = [said.file("with")?, said.file("without")?];
            ensure!(with == without, "doctor says other things without /proc/kcore:\n{without}");
            Ok(())
        },
    ),
    case(
        "a PID namespace of its own",
        Boot::Plain,
        "unshare --pid --fork --mount-proc prefault selftest /mnt/tmpfs 2> selftest
unshare --pid --fork --mount-proc prefault --pid 1 -d 1\n",
        |said, _| {
            expect_parts(
                &said.file("selftest")?,
                &["prefault selftest would measure other processes", "PID namespace"],
            )?;
            expect_refusal(said, &["--pid and --follow", "hostPID"])
        },
    ),
    case(
        "lockdown for confidentiality",
        Boot::Confidentiality,
        "mountpoint -q /sys/kernel/security || mount -t securityfs none /sys/kernel/security; prefault -d 1\n",
        |said, _| expect_refusal(said, &["[P006] ", "locked down", "confidentiality"]),
    ),
    case(
        "lockdown for confidentiality, doctor",
        Boot::Confidentiality,
        "mountpoint -q /sys/kernel/security || mount -t securityfs none /sys/kernel/security; prefault doctor\n",
        |said, _| {
            said.expect_code(1)?;
            expect_parts(&said.stdout, &["problem: [P006] ", "confidentiality", "verdict: cannot measure here"])
        },
    ),
    case(
        "lockdown that cannot be asked for",
        Boot::Confidentiality,
        "if mountpoint -q /sys/kernel/security; then umount /sys/kernel/security; fi; prefault -d 1\n",
        |said, _| expect_refusal(said, &["[P012] ", "locked down"]),
    ),
    case(
        "lockdown for integrity",
        Boot::Integrity,
        "prefault --json --output counted.json -- workload resident /tmp > truth\n",
        |said, _| {
            said.expect_code(0)?;
            let document: crate::document::Document = said.json("counted.json")?;
            ensure!(document.filesystem("tmpfs")?.write.calls == 100, "not all writes were counted");
            document.expect_no_loss()
        },
    ),
];
