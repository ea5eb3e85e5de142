//! Exactness: the same writes on every filesystem of every kernel, and the tool's counts against the workload's own. The
//! tables are data; this file only turns them into steps and compares.

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
    expect::PerWrite,
    families::Mode,
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

/// What holds on every kernel and path: each absent page takes one minor fault, in the prefault.
fn compare_with_truth(
    differences: &mut Differences,
    counted: &document::Filesystem,
    truth: &Truth,
    workload: &Workload,
) {
    if workload.is_retried {
        differences.compare(
            "write.calls that succeeded",
            counted.write.calls - counted.write.errors,
            truth.writes - truth.errors,
        );
    } else {
        differences.compare("write.calls", counted.write.calls, truth.writes);
        differences.compare("write.errors", counted.write.errors, truth.errors);
    }
    differences.compare("write.bytes", counted.write.bytes, truth.bytes);
    differences.compare("write.kernel_calls", counted.write.kernel_calls, truth.kernel_writes);
    if workload.kind == Kind::Absent {
        differences.compare("prefault.needed_minor", counted.prefault.needed_minor, truth.absent_pages);
    }
    differences.compare("prefault.minor_faults", counted.prefault.minor_faults, truth.absent_pages);
    differences.compare("prefault.needed_major", counted.prefault.needed_major, 0);
    differences.compare("prefault.major_faults", counted.prefault.major_faults, 0);
    if truth.kernel_writes == 0 {
        differences.compare("prefault.kernel_calls", counted.prefault.kernel_calls, 0);
        differences.compare("copy.kernel_calls", counted.copy.kernel_calls, 0);
    }
    // What comes from the kernel's memory is not timed.
    let (write, prefault, copy) = (&counted.write, &counted.prefault, &counted.copy);
    for (name, buckets, calls) in [
        ("write.buckets", &write.buckets, write.calls - write.kernel_calls),
        ("prefault.buckets", &prefault.buckets, prefault.calls - prefault.kernel_calls),
        ("copy.buckets", &copy.buckets, copy.calls - copy.kernel_calls),
    ] {
        differences.compare(name, document::total(buckets), calls);
    }
}

fn compare_with_table(
    differences: &mut Differences,
    counted: &document::Filesystem,
    per_write: PerWrite,
    n_writes: u64,
) {
    let PerWrite { errors: _, prefaults, failed, failed_wholly, copies, copied_pages, zero, partial } = per_write;
    let (prefault, copy) = (&counted.prefault, &counted.copy);
    differences.compare("prefault.calls", prefault.calls, n_writes * prefaults);
    differences.compare("prefault.failed", prefault.failed, n_writes * failed);
    differences.compare("prefault.failed_wholly", prefault.failed_wholly, n_writes * failed_wholly);
    differences.compare("prefault.failed_partly", prefault.failed_partly, n_writes * (failed - failed_wholly));
    differences.compare("copy.calls", copy.calls, n_writes * copies);
    differences.compare("copy.bytes_copied", copy.bytes_copied, n_writes * copied_pages * PAGE);
    differences.compare("copy.zero", copy.zero, n_writes * zero);
    differences.compare("copy.partial", copy.partial, n_writes * partial);
}

fn compare_path(
    differences: &mut Differences,
    counted: &document::Filesystem,
    function: &str,
    mode: Mode,
    per_write: PerWrite,
    n_writes: u64,
) {
    // A path that never came to a copy has not shown when it prefaults.
    let mode = if per_write.copies == 0 { "not seen" } else { mode.name() };
    // The compiler may have put a suffix such as `.isra.0` behind the name.
    let is_function = |path: &&document::Path| path.function.split('.').next() == Some(function);
    match counted.paths.iter().find(is_function) {
        Some(path) => {
            differences.compare(&format!("calls of {function}"), path.calls, n_writes);
            differences.compare(&format!("mode of {function}"), path.mode.as_str(), mode);
        }
        None => {
            let functions: Vec<&str> = counted.paths.iter().map(|path| path.function.as_str()).collect();
            differences.compare("write path", functions.join(" "), function.to_owned());
        }
    }
}

/// All that is not as expected, so that one failure tells the whole story.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn compare<T: PartialEq + std::fmt::Display>(&mut self, what: &str, is: T, expected: T) {
        if is != expected {
            self.0.push(format!("{what} is {is}, expected {expected}"));
        }
    }

    fn finish(self) -> Result<()> {
        ensure!(self.0.is_empty(), "{}", self.0.join("\n"));
        Ok(())
    }
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
                "write": {"calls": 100, "bytes": 409_600, "errors": 0, "kernel_calls": 0, "buckets": [{"count": 100}]},
                "prefault": {
                    "calls": 100, "needed_minor": 100, "needed_major": 0, "failed": 0, "failed_wholly": 0,
                    "failed_partly": 0, "minor_faults": 100, "major_faults": 0, "kernel_calls": 0, "sum_ns": 0,
                    "buckets": [{"count": 60}, {"count": 40}],
                },
                "copy": {
                    "calls": 200, "bytes_copied": 409_600, "zero": 100, "partial": 0, "kernel_calls": 0, "sum_ns": 0,
                    "buckets": [{"count": 200}],
                },
            }],
            "loss": {"slots_full": 0},
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
                "write.calls is 101, expected 100\nwrite.buckets is 100, expected 101",
            ),
            ("/filesystems/0/prefault/minor_faults", json!(99), "prefault.minor_faults is 99, expected 100"),
            (
                "/filesystems/0/paths/0/mode",
                json!("eager"),
                "mode of generic_perform_write is eager, expected on-demand",
            ),
            ("/filesystems/0/paths/0/function", json!("f"), "write path is f, expected generic_perform_write"),
            ("/loss/slots_full", json!(1), "lost: slots_full 1"),
        ] {
            assert_eq!(verdict(pointer, value), message, "{pointer}");
        }
    }
}
