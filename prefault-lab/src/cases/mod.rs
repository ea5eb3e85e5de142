//! Everything that is tested in guests besides the matrix. A case is data: a script, where it runs, and what its results have
//! to be.

mod boot;
mod changes;
mod cost;
mod coverage;
mod doctor;
mod ends;
mod errors;
mod events;
pub mod export;
mod filters;
mod full;
mod independence;
mod kubernetes;
mod limit;
mod names;
mod outputs;
mod packages;
mod places;
mod privilege;
mod rlimits;
mod scale;
mod selftest;
mod silence;
mod ways;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{
    guest::{Said, Step},
    matrix::{
        filesystems::Group,
        kernels::{REFERENCE, SPREAD},
        run::{Boot, Context},
    },
};
use crate::truth::Truth;

/// Precedes the script of every case.
pub const PRELUDE: &str = include_str!("prelude.sh");

/// On which kernels a case runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernels {
    /// On the reference kernel: what it tests does not depend on the kernel.
    Reference,
    /// On the oldest, the reference and the newest: what takes long.
    Spread,
    /// On every one that is tested.
    All,
}

impl Kernels {
    fn contains(self, series: &str) -> bool {
        match self {
            Self::Reference => series == REFERENCE,
            Self::Spread => SPREAD.contains(&series),
            Self::All => true,
        }
    }
}

/// A test in a guest.
pub struct Case {
    name: &'static str,
    kernels: Kernels,
    boot: Boot,
    group: Group,
    limit_seconds: u64,
    script: &'static str,
    check: Check,
}

/// Judges what a case's script said.
type Check = fn(&Said, &Context) -> Result<()>;

/// A case on a kernel that is booted as it is, with the filesystems that every kernel has.
const fn plain(name: &'static str, kernels: Kernels, limit_seconds: u64, script: &'static str, check: Check) -> Case {
    Case { name, kernels, boot: Boot::Plain, group: Group::Core, limit_seconds, script, check }
}

fn all() -> impl Iterator<Item = &'static Case> {
    [
        boot::CASES,
        changes::CASES,
        cost::CASES,
        coverage::CASES,
        doctor::CASES,
        ends::CASES,
        errors::CASES,
        events::CASES,
        export::CASES,
        filters::CASES,
        full::CASES,
        independence::CASES,
        kubernetes::CASES,
        limit::CASES,
        names::CASES,
        outputs::CASES,
        packages::CASES,
        places::CASES,
        privilege::CASES,
        rlimits::CASES,
        scale::CASES,
        selftest::CASES,
        silence::CASES,
        ways::CASES,
    ]
    .into_iter()
    .flatten()
}

/// The cases for one boot of one kernel with one group of filesystems, one step each.
#[must_use]
pub fn steps(context: &Context, boot: Boot, group: Group) -> Vec<Step> {
    let is_wanted = |case: &&Case| case.boot == boot && case.group == group && case.kernels.contains(&context.series);
    let kernel = [context.series.as_str(), boot.name()].join(" ");
    let step = |case: &'static Case| {
        let (name, context) = (format!("{} {}", kernel.trim_end(), case.name), context.clone());
        Step {
            slug: case.name.replace([' ', '/'], "-"),
            script: format!("{PRELUDE}{}", case.script),
            limit: Duration::from_secs(case.limit_seconds),
            checks: vec![(name, Box::new(move |said| (case.check)(said, &context)))],
        }
    };
    all().filter(is_wanted).map(step).collect()
}

/// Demands an error as the tool is to report one: exit code 2 and one line, containing all of `words`.
fn expect_refusal(said: &Said, words: &[&str]) -> Result<()> {
    let text = said.stderr.trim_end();
    ensure!(said.code == 2, "exit code {}, expected 2\n{text}", said.code);
    ensure!(text.lines().count() == 1, "expected one line, got {}\n{text}", text.lines().count());
    ensure!(text.starts_with("prefault: "), "expected a line of prefault, got\n{text}");
    for word in words {
        ensure!(text.contains(word), "expected {word:?} in\n{text}");
    }
    Ok(())
}

/// What the workload did to each target, by the lines in the file `truth`.
///
/// # Errors
/// When there is none, or the workload failed.
pub fn truths(said: &Said) -> Result<Vec<Truth>> {
    let read = |line| {
        let truth: Truth = serde_json::from_str(line).context("failed to read what the workload said")?;
        ensure!(truth.failure.is_none(), "the workload failed: {truth:?}");
        Ok(truth)
    };
    said.file("truth")?.lines().map(read).collect()
}

/// Demands that the text contains each part.
fn expect_parts(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "expected {part:?} in\n{text}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: HashSet<&str> = all().map(|case| case.name).collect();
        assert_eq!(names.len(), all().count());
    }

    #[test]
    fn scripts_are_well_formed() {
        for case in all() {
            let mut bash = std::process::Command::new("bash");
            let script = format!("{PRELUDE}{}", case.script);
            crate::process::output(bash.args(["-n", "-c", &script])).expect(case.name);
        }
    }
}
