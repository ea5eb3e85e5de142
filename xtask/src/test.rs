//! `cargo xtask test`: sets up, then runs everything there is to prove the tool, first on this machine and then in guests. One
//! line per case, and a tally as the last line.

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use prefault_lab::{
    report::{Report, say},
    suite,
};

use crate::{
    checks::{host, licences, shipped},
    dist, setup,
};

/// Runs all cases that were asked for; the exit code is 1 if any failed.
///
/// # Errors
/// When the command line does not make sense. What goes wrong later is a failed case.
pub fn run(args: &suite::Args) -> Result<ExitCode> {
    let start = Instant::now();
    let kernels = args.kernels()?;
    let mut report = args.report();
    match setup::run() {
        Ok(()) => {
            // Guests take what was built.
            if on_this_machine(&mut report) {
                report = suite::run(args, &kernels, start, report);
            }
        }
        Err(error) => report.fail("setup", 1, &error),
    }
    say(&format!("         {} s in all", start.elapsed().as_secs()));
    Ok(report.finish())
}

/// Whether the tool could be built.
fn on_this_machine(report: &mut Report) -> bool {
    host::run(report);
    match dist::run() {
        Ok(program) => {
            host::refusal(report, &program);
            host::confinement(report);
            licences::run(report);
            shipped::run(report);
            true
        }
        Err(error) => {
            report.fail("static executable", 1, &error);
            false
        }
    }
}
