//! `cargo xtask bless`: writes anew what tests compare with: golden files, the tables of documents that are made of the table of
//! counters, and the dashboard. What changes is to be read before it is committed.

use anyhow::{Context as _, Result};
use prefault_lab::process;

use crate::monitoring;

/// Tests of the tool with golden files. One after the other: some write to the same document.
const TESTS: [&str; 5] = ["tables", "output", "exposition", "kernels", "cli"];

/// Writes all of them.
///
/// # Errors
/// When one cannot be built, or fails for another reason.
pub fn run() -> Result<()> {
    for test in TESTS {
        let mut command = process::cargo("test");
        command.args(["--quiet", "--package", "prefault-user", "--test", test]).env("UPDATE_GOLDEN", "1");
        process::run_visibly(&mut command)
            .with_context(|| format!("failed to write what test {test} compares with"))?;
    }
    monitoring::write_dashboard()?;
    println!("what guests say is written by `cargo xtask test --update-golden`");
    Ok(())
}
