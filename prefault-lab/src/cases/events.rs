//! Short copies and failed prefaults one by one, as lines and in the document.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use super::{Boot, Case, Context, Group, Kernels};
use crate::{
    document::Document,
    guest::Said,
    matrix::{
        expect::{self, PerWrite},
        filesystems,
        workloads::Kind,
    },
};

const N_WRITES: u64 = 20;

pub const CASES: &[Case] = &[
    Case {
        name: "events as lines",
        kernels: Kernels::All,
        boot: Boot::Plain,
        group: Group::Core,
        limit_seconds: 60,
        script: "prefault --events -- sh -c 'workload half --count 20 /mnt/tmpfs > truth'\n",
        check: lines,
    },
    Case {
        name: "events in the document",
        kernels: Kernels::All,
        boot: Boot::Plain,
        group: Group::Core,
        limit_seconds: 60,
        script: "touch /mnt/tmpfs/file; stat --format %i /mnt/tmpfs/file > inode
prefault --json -o counted.json -- sh -c 'echo $$ > pid; exec workload half --count 20 /mnt/tmpfs/file > truth'\n",
        check: document,
    },
];

/// How often each kind of event happens per write of half a buffer to tmpfs.
fn expected(context: &Context) -> Result<BTreeMap<String, u64>> {
    let tmpfs = filesystems::all().find(|filesystem| filesystem.name == "tmpfs");
    let family = tmpfs.and_then(|tmpfs| tmpfs.family(context.kernel));
    let per_write = family.and_then(|family| expect::per_write(family, context.kernel.version, Kind::Half));
    let PerWrite { failed, zero, partial, .. } = per_write.context("the table has no expectation for tmpfs")?;
    let counts = [("failed_prefault", N_WRITES * failed), ("short_copy", N_WRITES * (zero + partial))];
    Ok(counts.into_iter().filter(|(_, count)| *count > 0).map(|(kind, count)| (kind.to_owned(), count)).collect())
}

fn lines(said: &Said, context: &Context) -> Result<()> {
    said.expect_code(0)?;
    let mut counts = BTreeMap::new();
    for line in said.stdout.lines().filter(|line| line.contains(" inode=")) {
        let kind = line.split_whitespace().nth(1).unwrap_or_default();
        *counts.entry(kind.to_owned()).or_default() += 1;
        ensure!(line.contains(" workload[") && line.contains(" tmpfs "), "not an event of the workload: {line}");
    }
    let expected = expected(context)?;
    ensure!(counts == expected, "{counts:?} lines, expected {expected:?}");
    Ok(())
}

fn document(said: &Said, context: &Context) -> Result<()> {
    const PAGE: u64 = 4096;
    said.expect_code(0)?;
    let document: Document = said.json("counted.json")?;
    let [pid, inode]: [u64; 2] = [said.json("pid")?, said.json("inode")?];
    let mut counts = BTreeMap::new();
    for event in &document.events {
        *counts.entry(event.kind.clone()).or_default() += 1;
        let whose =
            (u64::from(event.pid), event.tid > event.pid, event.comm.as_str(), event.fstype.as_str(), event.inode);
        // The workload writes in a thread.
        ensure!(whose == (pid, true, "workload", "tmpfs", inode), "event of another task or file: {event:?}");
        ensure!(event.path == "generic_perform_write", "{event:?}");
        ensure!(event.done < event.asked && event.asked <= 2 * PAGE, "{event:?}");
        // The writes are two pages apart; the second page is the one that is missing.
        let missing = event.position + event.done;
        ensure!(missing < N_WRITES * 2 * PAGE && missing % (2 * PAGE) == PAGE, "{event:?}");
        let address = event.user_address.as_deref().and_then(|address| address.strip_prefix("0x"));
        let address = address.and_then(|address| u64::from_str_radix(address, 16).ok()).context("no user address")?;
        ensure!(address % PAGE == 0, "{event:?}");
    }
    let expected = expected(context)?;
    ensure!(counts == expected, "{counts:?} events, expected {expected:?}");
    document.expect_no_loss()
}
