//! Exactness: the same writes on every filesystem of every kernel, and the tool's counts against the workload's own. The
//! tables are data; this file only turns them into steps and compares.

mod compare;
pub mod expect;
pub mod families;
pub mod filesystems;
pub mod kernels;
pub mod paths_table;
pub mod run;
pub mod workloads;

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use self::{
    compare::{Differences, compare_path, compare_with_table, compare_with_truth},
    filesystems::{Filesystem, Group},
    kernels::Facts,
    run::{Boot, Context as CaseContext},
    workloads::{Kind, Workload},
};
use super::{
    document::{self, Document},
    guest::{Judge, Said, Step},
    report::NotRun,
};
use crate::truth::Truth;

/// For each workload, and for the start and the end of the tool.
const LIMIT: Duration = Duration::from_secs(120);
const PAGE: u64 = 4096;
/// The session: its documents are one of each workload, and of what was between them.
const SESSION: &str = "cp /proc/self/mountinfo .
prefault --json --output documents -- bash ./workloads\n";

/// What the script of the workloads begins with. A workload is run again while the tool says that the kernel has skipped a run of
/// its programs, which the daemons of some filesystems can bring about: nothing can be said about the counts then but that they
/// are incomplete, which it did.
const FUNCTIONS: &str = r#"document() {
    local n=$(($(wc -l < documents) + 1))
    kill -USR1 $PPID || exit
    until [ "$(wc -l < documents)" -ge $n ]; do sleep 0.02; done
}
# Its kind, how many writes, and where; what could not be mounted is left out, so that the others are judged.
run() {
    local kind=$1 count=$2 targets
    shift 2
    targets=$(printf '%s\n' "$@" | grep --line-regexp --fixed-strings --file /share/mounted)
    for attempt in 1 2 3; do
        document
        workload $kind --count $count $targets > $kind.truth
        echo $? > $kind.code
        document
        tail --lines=1 documents > $kind.json
        grep -q '"kernel_missed_runs":[1-9]' $kind.json || break
    done
}
"#;

/// What a cell of the matrix is judged in.
#[derive(Debug, Clone)]
struct Cell {
    series: String,
    kernel: Facts,
    filesystem: &'static Filesystem,
    workload: &'static Workload,
    update_golden: bool,
}

/// One step, in which the workloads are run one after the other in one session of the tool; one case for each workload on each
/// filesystem, as far as the case `is_wanted`. None if there are no cases.
#[must_use]
pub fn step(context: &CaseContext, boot: Boot, group: Group, is_wanted: impl Fn(&str) -> bool) -> Option<Step> {
    let mut workloads = FUNCTIONS.to_owned();
    let (mut checks, mut limit) = (Vec::new(), LIMIT);
    for workload in workloads::WORKLOADS.iter().filter(|workload| boot.runs(workload.kind)) {
        let cells: Vec<(String, Cell)> =
            cells(context, boot, group, workload).filter(|(name, _)| is_wanted(name)).collect();
        if cells.is_empty() {
            continue;
        }
        let n_writes = if group == Group::Core { workload.on_core } else { workload.on_further };
        let targets: Vec<String> = cells.iter().map(|(_, cell)| cell.filesystem.directory()).collect();
        workloads.push_str(&format!("run {} {n_writes} {}\n", workload.kind.name(), targets.join(" ")));
        limit += LIMIT;
        checks.extend(cells.into_iter().map(|(name, cell)| {
            let judge: Judge = Box::new(move |said| judge(said, &cell));
            (name, judge)
        }));
    }
    let script = format!("cat > workloads << 'END'\n{workloads}END\n{SESSION}");
    (!checks.is_empty()).then(|| Step { slug: "matrix".to_owned(), script, limit, checks })
}

/// Name and cell of each filesystem that the workload is run on.
fn cells(
    context: &CaseContext,
    boot: Boot,
    group: Group,
    workload: &'static Workload,
) -> impl Iterator<Item = (String, Cell)> {
    let of_kernel = [context.series.as_str(), boot.name()].join(" ");
    let version = context.kernel.version;
    let written = filesystems::of(group, version).filter(move |filesystem| workload.n_writes(filesystem, version) > 0);
    written.map(move |filesystem| {
        let name = format!("{} {} {}", of_kernel.trim_end(), filesystem.name, workload.kind.name());
        let (series, kernel, update_golden) = (context.series.clone(), context.kernel, context.update_golden);
        (name, Cell { series, kernel, filesystem, workload, update_golden })
    })
}

fn judge(said: &Said, cell: &Cell) -> Result<()> {
    let Cell { filesystem, workload, kernel, .. } = cell;
    said.expect_code(0)?;
    let kind = workload.kind.name();
    let truth = truth(said, filesystem, kind)?;
    ensure!(truth.failure.is_none(), "{}", truth.failure.unwrap_or_default());
    // 1 says that it failed on another filesystem, which has its own verdict.
    let code = said.file(&format!("{kind}.code"))?;
    ensure!(["0", "1"].contains(&code.trim_end()), "exit code {code}{}", said.stderr.trim_end());
    let document: Document = said.json(&format!("{kind}.json"))?;
    let counted = counted(said, &document, filesystem)?;

    let mut differences = Differences::default();
    compare_with_truth(&mut differences, counted, &truth, workload);
    if let Some(family) = filesystem.family(*kernel)
        && let Some(per_write) = expect::per_write(family, kernel.version, workload.kind)
    {
        let n_writes = workload.n_writes(filesystem, kernel.version);
        differences.compare("writes done", truth.writes, n_writes);
        differences.compare("writes failed", truth.errors, n_writes * per_write.errors);
        compare_with_table(&mut differences, counted, per_write, n_writes);
        compare_path(&mut differences, counted, family.function(), family.mode(kernel.version), per_write, n_writes);
    }
    differences.finish()?;
    document.expect_no_loss()?;
    if workload.kind == Kind::Resident {
        paths_table::check(&cell.series, filesystem.name, &counted.paths, cell.update_golden)?;
    }
    Ok(())
}

/// What the workload said about that filesystem.
fn truth(said: &Said, filesystem: &Filesystem, kind: &str) -> Result<Truth> {
    for line in said.file(&format!("{kind}.truth"))?.lines() {
        let truth: Truth = serde_json::from_str(line).context("failed to read what the workload said")?;
        if truth.target == Path::new(&filesystem.directory()) {
            return Ok(truth);
        }
    }
    let log = said.file(&format!("../../{}.log", filesystem.name)).unwrap_or_default();
    if log.lines().any(|line| line == filesystems::NO_PROGRAM) {
        return Err(NotRun(filesystems::NO_PROGRAM.to_owned()).into());
    }
    bail!("nothing was written to {}: {}\n{}", filesystem.directory(), log.trim_end(), said.stderr.trim_end())
}

/// What the tool said about that filesystem.
fn counted<'a>(said: &Said, document: &'a Document, filesystem: &Filesystem) -> Result<&'a document::Filesystem> {
    if let Some(name) = filesystem.device_name() {
        return document.only(filesystem.fstype, |counted| counted.device == name);
    }
    // Fields of /proc/self/mountinfo: number, parent, device, root, mount point (proc_pid_mountinfo(5)).
    let mounts = said.file("mountinfo")?;
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = fields.rfind(|fields| fields.get(4) == Some(&filesystem.directory().as_str()));
    let numbers = mount.with_context(|| format!("{} is not mounted", filesystem.directory()))?[2].to_owned();
    document.only(filesystem.fstype, |counted| format!("{}:{}", counted.major, counted.minor) == numbers)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::paths;

    /// What the tool says of `workload absent` on ext4 of 6.18, changed in one place.
    fn verdict(pointer: &str, value: Value) -> String {
        let mut document = json!({
            "kernel": "6.18",
            "filesystems": [{
                "fstype": "ext4",
                "device": "ram0",
                "major": 1,
                "minor": 0,
                "paths": [{"function": "generic_perform_write", "mode": "on-demand", "calls": 100}],
                "write": {
                    "calls": 100, "bytes": 409_600, "errors": 0, "error_again": 0, "error_interrupted": 0, "error_fault": 0,
                    "error_no_space": 0, "error_io": 0, "error_other": 0, "short": 0, "bytes_recopied": 0, "direct": 0,
                    "kernel_calls": 0, "buckets": [{"count": 100}],
                    "rounds": {"sum": 200, "buckets": [{"le": 2, "count": 100}]},
                },
                "prefault": {
                    "calls": 100, "needed_minor": 100, "needed_major": 0, "failed": 0, "failed_wholly": 0,
                    "failed_partly": 0, "minor_faults": 100, "major_faults": 0, "kernel_calls": 0, "sum_ns": 0,
                    "latency_needed": {"buckets": [{"count": 60}, {"count": 40}]}, "latency_not_needed": {"buckets": []},
                    "buckets": [{"count": 60}, {"count": 40}],
                },
                "copy": {
                    "calls": 200, "bytes_copied": 409_600, "zero": 100, "partial": 0, "short_after_prefault": 0, "kernel_calls": 0, "sum_ns": 0,
                    "buckets": [{"count": 200}],
                },
            }],
            "loss": document::LOSSES.iter().map(|&key| (key, 0)).collect::<std::collections::BTreeMap<_, _>>(),
            "events": [],
        });
        *document.pointer_mut(pointer).expect("there is such a field") = value;
        let truth = r#"{"target":"/mnt/ext4","writes":100,"kernel_writes":0,"bytes":409600,"errors":0,"absent_pages":100,"failure":null}"#;
        let directory = paths::target("tests/unit").join(pointer.replace('/', "-"));
        paths::create_dir(&directory).expect("target is writable");
        for (name, text) in [
            ("absent.json", document.to_string().as_str()),
            ("absent.truth", truth),
            ("absent.code", "0\n"),
            ("code", "0\n"),
            ("stdout", ""),
            ("stderr", ""),
        ] {
            paths::write(&directory.join(name), text).expect("target is writable");
        }
        let said = Said::read(directory).expect("it was just written");
        let workload =
            workloads::WORKLOADS.iter().find(|workload| workload.kind == Kind::Absent).expect("it is listed");
        let kernel = Facts::of("6.18").expect("it is well formed");
        let filesystem = filesystems::all().next().expect("there is one");
        let cell = Cell { series: "6.18".to_owned(), kernel, filesystem, workload, update_golden: false };
        match judge(&said, &cell) {
            Ok(()) => "exact".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn counts_that_agree_are_exact() {
        assert_eq!(verdict("/kernel", json!("other")), "exact");
    }

    #[test]
    fn one_count_off_by_one_is_a_failure_that_names_it() {
        for (pointer, value, message) in [
            ("/filesystems/0/copy/zero", json!(99), "copy.zero is 99, expected 100"),
            ("/filesystems/0/copy/partial", json!(1), "copy.partial is 1, expected 0"),
            (
                "/filesystems/0/write/calls",
                json!(101),
                "write.calls is 101, expected 100\nwrites by rounds is 100, expected 101\nwrite.buckets is 100, expected 101",
            ),
            ("/filesystems/0/prefault/minor_faults", json!(99), "prefault.minor_faults is 99, expected 100"),
            (
                "/filesystems/0/paths/0/mode",
                json!("eager"),
                "mode of generic_perform_write is eager, expected on-demand",
            ),
            ("/filesystems/0/paths/0/function", json!("f"), "write path is f, expected generic_perform_write"),
            ("/filesystems/0/write/short", json!(1), "write.short is 1, expected 0"),
            ("/filesystems/0/write/rounds/sum", json!(199), "write.rounds.sum is 199, expected 200"),
            ("/loss/copy_end", json!(1), "lost: copy_end 1"),
        ] {
            assert_eq!(verdict(pointer, value), message, "{pointer}");
        }
    }
}
