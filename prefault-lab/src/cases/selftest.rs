//! `prefault selftest` as users run it.

use anyhow::ensure;

use super::{Case, Check, Kernels, expect_parts, expect_refusal, plain};

const fn case(name: &'static str, kernels: Kernels, script: &'static str, check: Check) -> Case {
    plain(name, kernels, 180, script, check)
}

pub const CASES: &[Case] = &[
    case(
        "self-test of named directories",
        Kernels::Spread,
        "prefault selftest --seed 7 /mnt/ext4 /mnt/xfs /mnt/btrfs /mnt/tmpfs; code=$?
find /mnt/ -name '.prefault*' > left; exit $code\n",
        |said, _| {
            said.expect_code(0)?;
            for name in ["ext4", "xfs", "btrfs", "tmpfs"] {
                let rows = said.stdout.lines().filter(|line| line.starts_with(&format!("/mnt/{name} ({name})")));
                let exact = rows.filter(|line| line.ends_with("exact")).count();
                ensure!(exact == 8, "{exact} exact rows of {name}, expected 8\n{}", said.stdout);
            }
            ensure!(said.file("left")?.is_empty(), "left behind: {}", said.file("left")?);
            expect_parts(&said.stdout, &["seed 7", "all counts are exact"])
        },
    ),
    case(
        "self-test of what is found, with others writing",
        Kernels::Reference,
        "mkdir -p /mnt/ro; mount -t tmpfs -o ro none /mnt/ro
while :; do dd if=/dev/zero of=/mnt/tmpfs/noise bs=4k count=10 status=none; done & noise=$!
prefault selftest; code=$?; kill $noise; umount /mnt/ro; exit $code\n",
        |said, _| {
            said.expect_code(0)?;
            expect_parts(&said.stdout, &["/mnt/ext4 (ext4)", "/mnt/tmpfs (tmpfs)", "all counts are exact"])?;
            expect_parts(&said.stderr, &["/mnt/ro (tmpfs): it is mounted read-only", "/share (9p) may not be local"])
        },
    ),
    // Without a cache no write path runs.
    case("self-test that sees nothing", Kernels::Reference, "prefault selftest /share\n", |said, _| {
        said.expect_code(1)?;
        expect_parts(&said.stdout, &["NOT SEEN"])
    }),
    case("self-test of nothing", Kernels::Reference, "prefault selftest /nonexistent\n", |said, _| {
        expect_refusal(said, &["/nonexistent"])
    }),
    case(
        "self-test of a read-only mount",
        Kernels::Reference,
        "mkdir -p /mnt/ro; mount -t tmpfs -o ro none /mnt/ro; prefault selftest /mnt/ro; code=$?; umount /mnt/ro; exit $code\n",
        |said, _| expect_refusal(said, &["/mnt/ro", "read-only"]),
    ),
];
