//! What measuring adds to a write, in executed instructions: it must not grow unnoticed. `cargo xtask bench` has all figures.

use anyhow::{Context as _, Result, ensure};

use super::{Boot, Case, Context, Group, Kernels};
use crate::guest::Said;

/// Instructions added to a resident write of 4 KiB to tmpfs, everything counted and timed, by kernel. A change of a probe body
/// changes it here, and says so.
pub const BASELINE: [(&str, f64); 2] = [("6.12", 3149.0), ("6.18", 2342.0)];

/// Growth that is none: the kernel's own work differs a little from boot to boot.
const TOLERANCE: f64 = 0.03;

pub const CASES: &[Case] = &[Case {
    name: "added to a write",
    kernels: Kernels::All,
    boot: Boot::Counted,
    group: Group::Core,
    limit_seconds: 240,
    script: "pace /mnt/tmpfs > without
prefault -o /dev/null -- sh -c 'sleep 2; pace /mnt/tmpfs > with' || exit
prefault doctor > doctor\n",
    check: added,
}];

fn added(said: &Said, context: &Context) -> Result<()> {
    said.expect_code(0)?;
    let [with, without]: [f64; 2] = [said.json("with")?, said.json("without")?];
    let baseline = BASELINE.iter().find(|(series, _)| *series == context.series);
    let (_, expected) = baseline.context("there is no baseline for this kernel")?;
    let is = with - without;
    let change = is / expected - 1.0;
    ensure!(
        change.abs() <= TOLERANCE,
        "{is:.0} instructions are added, {expected:.0} were: a change of {:+.1} %, of which up to {:.0} % are accepted",
        100.0 * change,
        100.0 * TOLERANCE
    );
    let doctor = said_by_doctor(&said.file("doctor")?)?;
    ensure!((doctor / is - 1.0).abs() <= TOLERANCE, "{is:.0} instructions are added, doctor says {doctor:.0} ns");
    Ok(())
}

/// Nanoseconds, which are instructions here, that doctor says are added to a write of 4 KiB.
fn said_by_doctor(text: &str) -> Result<f64> {
    let cost = text.lines().find_map(|line| line.strip_prefix("cost: to memory, "));
    let added = cost.and_then(|cost| cost.split_once(" µs on top of the ")?.0.parse::<f64>().ok());
    added.map(|added| 1000.0 * added).with_context(|| format!("doctor does not say the cost in µs\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::BASELINE;
    use crate::matrix::run::COUNTED;

    #[test]
    fn every_kernel_on_which_instructions_are_counted_has_a_baseline() {
        assert!(BASELINE.iter().map(|(series, _)| *series).eq(COUNTED));
    }
}
