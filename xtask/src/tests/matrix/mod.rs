//! Exactness: the same writes on every filesystem of every kernel, and the tool's counts against the workload's own. The
//! tables are data; this file only turns them into steps and compares.

pub mod expect;
pub mod families;
pub mod filesystems;
pub mod kernels;
pub mod workloads;

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use self::{expect::PerWrite, families::Mode, filesystems::Filesystem, kernels::Facts, workloads::Workload};
use super::{
    document::{self, Document},
    guest::{Judge, Said, Step},
};
use crate::truth::Truth;

const LIMIT: Duration = Duration::from_secs(120);
const PAGE: u64 = 4096;

/// One step for each workload, one case for each filesystem in it.
#[must_use]
pub fn steps(series: &str, kernel: Facts) -> Vec<Step> {
    workloads::WORKLOADS.iter().map(|workload| step(series, kernel, workload)).collect()
}

fn step(series: &str, kernel: Facts, workload: &'static Workload) -> Step {
    let kind = workload.kind.name();
    let script = format!(
        "prefault --json --output counted.json -- workload {kind} --count {} $MOUNTED > truth\n",
        workload.n_writes
    );
    let checks = filesystems::of(kernel.version).map(|filesystem| {
        let name = format!("{series} {} {kind}", filesystem.name);
        let judge: Judge = Box::new(move |said| judge(said, filesystem, workload, kernel));
        (name, judge)
    });
    Step { slug: kind.to_owned(), script, limit: LIMIT, checks: checks.collect() }
}

fn judge(said: &Said, filesystem: &Filesystem, workload: &Workload, kernel: Facts) -> Result<()> {
    said.expect_code(0)?;
    let truth = truth(said, filesystem)?;
    let document: Document = said.json("counted.json")?;
    let counted = document.filesystem(filesystem.fstype, filesystem.device().as_deref())?;
    let expected = filesystem
        .family(kernel)
        .and_then(|family| Some((family, expect::per_write(family, kernel.version, workload.kind)?)))
        .with_context(|| format!("the table has no expectation for {} {:?}", filesystem.name, workload.kind))?;
    let (family, per_write) = expected;

    let mut differences = Differences::default();
    differences.compare("writes done", truth.writes, workload.n_writes);
    differences.compare("writes failed", truth.errors, workload.n_writes * per_write.errors);
    compare_with_truth(&mut differences, counted, &truth);
    compare_with_table(&mut differences, counted, per_write, workload.n_writes);
    compare_path(
        &mut differences,
        counted,
        family.function(),
        family.mode(kernel.version),
        per_write,
        workload.n_writes,
    );
    differences.finish()?;
    document.expect_no_loss()
}

/// What the workload said about that filesystem.
fn truth(said: &Said, filesystem: &Filesystem) -> Result<Truth> {
    for line in said.file("truth")?.lines() {
        let truth: Truth = serde_json::from_str(line).context("failed to read what the workload said")?;
        if truth.directory == Path::new(&filesystem.directory()) {
            return Ok(truth);
        }
    }
    let log = said.file(&format!("../../{}.log", filesystem.name)).unwrap_or_default();
    bail!("nothing was written to {}: {}", filesystem.directory(), log.trim_end())
}

/// What holds on every kernel and path: each absent page takes one minor fault, in the prefault.
fn compare_with_truth(differences: &mut Differences, counted: &document::Filesystem, truth: &Truth) {
    differences.compare("write.calls", counted.write.calls, truth.writes);
    differences.compare("write.bytes", counted.write.bytes, truth.bytes);
    differences.compare("write.errors", counted.write.errors, truth.errors);
    differences.compare("write.kernel_calls", counted.write.kernel_calls, 0);
    differences.compare("prefault.needed_minor", counted.prefault.needed_minor, truth.absent_pages);
    differences.compare("prefault.needed_major", counted.prefault.needed_major, 0);
    differences.compare("prefault.minor_faults", counted.prefault.minor_faults, truth.absent_pages);
    differences.compare("prefault.major_faults", counted.prefault.major_faults, 0);
    differences.compare("prefault.kernel_calls", counted.prefault.kernel_calls, 0);
    differences.compare("copy.kernel_calls", counted.copy.kernel_calls, 0);
    for (name, buckets, calls) in [
        ("write.buckets", &counted.write.buckets, counted.write.calls),
        ("prefault.buckets", &counted.prefault.buckets, counted.prefault.calls),
        ("copy.buckets", &counted.copy.buckets, counted.copy.calls),
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
    use crate::{paths, truth::Kind};

    /// What the tool says of `workload absent` on ext4 of 6.18, changed in one place.
    fn verdict(pointer: &str, value: Value) -> String {
        let mut document = json!({
            "kernel": "6.18",
            "filesystems": [{
                "fstype": "ext4",
                "device": "ram0",
                "paths": [{"function": "generic_perform_write", "mode": "on-demand", "calls": 100}],
                "write": {"calls": 100, "bytes": 409_600, "errors": 0, "kernel_calls": 0, "buckets": [{"count": 100}]},
                "prefault": {
                    "calls": 100, "needed_minor": 100, "needed_major": 0, "failed": 0, "failed_wholly": 0,
                    "failed_partly": 0, "minor_faults": 100, "major_faults": 0, "kernel_calls": 0,
                    "buckets": [{"count": 60}, {"count": 40}],
                },
                "copy": {
                    "calls": 200, "bytes_copied": 409_600, "zero": 100, "partial": 0, "kernel_calls": 0,
                    "buckets": [{"count": 200}],
                },
            }],
            "loss": {"slots_full": 0},
            "events": [],
        });
        *document.pointer_mut(pointer).expect("there is such a field") = value;
        let truth =
            r#"{"directory":"/mnt/ext4","kind":"absent","writes":100,"bytes":409600,"errors":0,"absent_pages":100}"#;
        let directory = paths::target("tests/unit").join(pointer.replace('/', "-"));
        paths::create_dir(&directory).expect("target is writable");
        for (name, text) in [
            ("counted.json", document.to_string().as_str()),
            ("truth", truth),
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
        match judge(&said, &filesystems::FILESYSTEMS[0], workload, kernel) {
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
